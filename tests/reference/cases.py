"""Single layers for real Caffe to judge: a table of cases becomes one net, run once a module."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers import shapes, standard
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Reason
from tests.nets import parse
from tests.real_caffe import RealCaffe

Shapes = Sequence[Tuple[int, ...]]
Array = np.ndarray


class Case(NamedTuple):
    """One layer: ``body`` is its prototxt without name, bottoms and tops."""

    name: str
    body: str
    bottoms: Shapes = ((2, 6, 7, 5),)
    tops: int = 1
    make: Optional[Callable[[Shapes], List[Array]]] = None  # blobs, where any will not do
    inputs: Optional[Callable[[Shapes], List[Array]]] = None

    def text(self) -> str:
        """The layer's prototxt."""
        bottoms = " ".join(f'bottom: "{self.name}_x{i}"' for i in range(len(self.bottoms)))
        tops = " ".join(f'top: "{top}"' for top in self.top_names())
        return f'layer {{ name: "{self.name}" {self.body} {bottoms} {tops} }}\n'

    def input_text(self) -> str:
        """The prototxt of the Input layer that feeds it, if it has bottoms."""
        if not self.bottoms:
            return ""
        tops = " ".join(f'top: "{self.name}_x{i}"' for i in range(len(self.bottoms)))
        dims = [" ".join(f"dim: {size}" for size in shape) for shape in self.bottoms]
        each = " ".join(f"shape {{ {dim} }}" for dim in dims)
        name = f"{self.name}_input"
        return f'layer {{ name: "{name}" type: "Input" {tops} input_param {{ {each} }} }}\n'

    def top_names(self) -> List[str]:
        """The names of its tops."""
        return [f"{self.name}_y{i}" for i in range(self.tops)]

    def layer(self) -> Any:
        """It as a LayerParameter, with the fields of forks beside it where it has any."""
        return spec_of(self._parsed())

    def standard(self, blobs: Sequence[Array]) -> Tuple[Any, List[Array]]:
        """It and ``blobs`` in the terms of the reference layers."""
        layer = self._parsed()
        layer.load_blobs([Dense(blob) for blob in blobs])
        form = standard.standard(layer)
        assert not isinstance(form, Reason), form
        return form[0], [np.asarray(blob.array(), np.float64) for blob in form[1]]

    def _parsed(self) -> Layer:
        return parse(self.text()).layers[0]


def normal(name: str, expected: Shapes) -> List[Array]:
    """Float32 values around 0, the same for the same name."""
    rng = np.random.default_rng(sum(map(ord, name)))
    return [rng.standard_normal(shape).astype(np.float32) for shape in expected]


class Judged:
    """What real Caffe makes of all cases of a module."""

    def __init__(self, caffe: RealCaffe, cases: Sequence[Case]) -> None:
        text = "".join(case.input_text() + case.text() for case in cases)
        self.blob_shapes = caffe.blob_shapes(text)
        self.inputs: Dict[str, List[Array]] = {}
        self.blobs: Dict[str, List[Array]] = {}
        for case in cases:
            expected = self.blob_shapes.get(case.name, [])
            self.blobs[case.name] = (
                case.make(expected) if case.make else normal(case.name, expected)
            )
            x = normal(case.name + "_x", case.bottoms)
            self.inputs[case.name] = case.inputs(case.bottoms) if case.inputs else x
        inputs = {
            f"{name}_x{i}": array
            for name, arrays in self.inputs.items()
            for i, array in enumerate(arrays)
        }
        self.outputs = caffe.forward(text, {k: v for k, v in self.blobs.items() if v}, inputs)

    def check(self, case: Case) -> None:
        """Shapes, blob shapes and values of ``case``: ours must be Caffe's."""
        layer = case.layer()
        expected = [self.outputs[name] for name in case.top_names()]
        assert shapes.tops(layer, case.bottoms) == [array.shape for array in expected]
        assert shapes.blobs(layer, case.bottoms) == self.blob_shapes.get(case.name, [])
        bottoms = [array.astype(np.float64) for array in self.inputs[case.name]]
        actual = reference.forward(*case.standard(self.blobs[case.name]), bottoms)
        assert len(actual) == len(expected)
        for ours, caffes in zip(actual, expected):
            assert_close(ours, caffes)


def as_caffe(
    cases: Sequence[Case], caffe: str = "real_caffe"
) -> Callable[[pytest.FixtureRequest, Case], None]:
    """A test, to be given a name, of each of ``cases``; the fixture ``caffe`` runs all at once."""
    judged: List[Judged] = []

    @pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
    def test(request: pytest.FixtureRequest, case: Case) -> None:
        if not judged:
            judged.append(Judged(request.getfixturevalue(caffe), cases))
        judged[0].check(case)

    return test


def assert_close(ours: Array, caffes: Array, limit: float = 1e-5) -> None:
    """Equal but for ``limit`` of the largest value; NaN and infinities in the same places."""
    assert ours.dtype == np.float64
    assert ours.shape == caffes.shape
    finite = np.isfinite(caffes)
    np.testing.assert_array_equal(ours[~finite], caffes[~finite])
    if finite.any():
        largest = max(float(np.abs(caffes[finite]).max()), 1e-30)
        assert float(np.abs(ours[finite] - caffes[finite]).max()) <= limit * largest

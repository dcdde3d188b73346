"""Executing a net by blob names, as Caffe does: the loop, with layers made for the test."""

import weakref
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest

from caffe_merge.errors import NetError, ValidationError
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.layer import Layer
from caffe_merge.reference import Unsupported
from caffe_merge.validation.run import input_shapes, outputs, run
from tests.nets import parse
from tests.real_caffe import RealCaffe


class Blob:
    def __init__(self, array: np.ndarray) -> None:
        self.shape = np.shape(array)
        self._array = np.asarray(array, np.float32)

    def array(self) -> np.ndarray:
        return self._array


def net(text: str, missing: Sequence[str] = (), **blobs: Any) -> List[Layer]:
    """Layers as net/loading.py gives them."""
    layers = parse(text).layers
    for layer in layers:
        layer.load_blobs([Dense(blob) for blob in blobs.get(layer.name, [])])
        layer.missing = layer.name in missing
    return layers


CONSTANTS = {  # the parameters of a DummyData, and what Caffe has it make; None if it does not
    "shape { dim: 2 dim: 3 } data_filler { value: 1.1 }": ((2, 3), (2, 3), 1.1, 1.1),
    "shape { dim: 4 }": ((4,), (4,), 0, 0),
    "shape { dim: 2 } shape { dim: 1 dim: 5 } data_filler { value: 3 } data_filler { value: -2 }": (
        *((2,), (1, 5), 3, -2),
    ),
    "num: 2 num: 1 channels: 3 height: 2 width: 4 data_filler { value: 7 }": (
        *((2, 3, 2, 4), (1, 3, 2, 4), 7, 7),
    ),
    "shape { }": ((), (), 0, 0),
    "shape { dim: 99999 dim: 99999 }": None,
    "shape { dim: 1 } data_filler { value: nan }": None,
    'shape { dim: 2 } data_filler { type: "gaussian" }': None,
}
REFUSED = [  # Caffe's own refusals
    "shape { dim: 0 }",
    "shape { dim: 1 } num: 1 channels: 1 height: 1 width: 1",
    "shape { dim: 1 } data_filler { } data_filler { } data_filler { }",
    f"shape {{ {33 * 'dim: 1 '} }}",
    "data_filler { value: 1 }",
]


@pytest.mark.parametrize("param", [*CONSTANTS, *REFUSED])
def test_a_dummydata_of_constants_makes_them(param: str, real_caffe: RealCaffe) -> None:
    text = (
        'layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 1 } } }\n'
        f'layer {{ name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param {{ {param} }} }}'
    )
    inputs = {"i": np.ones(1, np.float32)}
    actual = {name: array for name, array, _ in run(parse(text).layers, inputs)}
    expected = CONSTANTS.get(param)
    if expected is None:
        assert actual["x"] is actual["y"] is None
        assert param not in REFUSED or real_caffe.error(text)
        return
    theirs = real_caffe.forward(text, {}, inputs)
    for name, shape, value in zip("xy", expected[:2], expected[2:]):
        array = np.full(shape, value, np.float32)
        assert np.array_equal(theirs[name], array)
        assert np.array_equal(actual[name], array), name


def dummy(param: str, *lines: str) -> Dict[str, Any]:
    """Every blob of a net with a DummyData of the tops x and y, of which 1s are fed as y."""
    text = (
        f'layer {{ name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param {{ {param} }} }}'
    )
    net = run(parse("\n".join([text, *lines])).layers, {"y": np.ones(2, np.float32)})
    return {name: array if array is None else array.tolist() for name, array, _ in net}


def test_a_constant_stays_where_another_top_is_fed() -> None:
    assert dummy("shape { dim: 2 } data_filler { value: 3 }") == {"x": [3, 3], "y": [1, 1]}


def test_a_constant_that_is_written_over_is_not_the_same_in_every_pass() -> None:
    """As Caffe does it: filled once, times 2 in each pass."""
    param = "shape { dim: 2 } data_filler { value: 3 }"
    in_place = 'layer { name: "p" type: "Power" bottom: "x" top: "x" power_param { scale: 2 } }'
    assert dummy(param, in_place)["x"] is None
    aside = in_place.replace('top: "x"', 'top: "z"')
    assert dummy(param, aside) == {"x": [3, 3], "y": [1, 1], "z": [6, 6]}
    shared = 'layer { name: "s" type: "Split" bottom: "x" top: "s" }'
    assert dummy(param, shared, in_place.replace('"x"', '"s"'))["s"] is None


def layer(kind: str, bottoms: Any = "", tops: Any = "", name: str = "l") -> str:
    lines = [f'bottom: "{bottom}"' for bottom in bottoms] + [f'top: "{top}"' for top in tops]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(lines)} }}\n'


def forward(spec: Any, blobs: Any, bottoms: Any) -> List[np.ndarray]:
    if spec.type == "Double":
        return [2 * bottoms[0]] * len(spec.param.top)
    if spec.type == "Add":
        return [sum(bottoms) + sum(blobs)]
    if spec.type == "Silence":
        return []
    if spec.type == "Misfit":
        raise NetError(f"layer {spec.name!r}: it does not fit")
    if spec.type == "Broken":
        raise ValueError("operands could not be\nbroadcast")
    raise Unsupported(spec, "not known here")


def executed(text: str, inputs: Any = None, **blobs: Any) -> List[Tuple[str, Any, str]]:
    inputs = {"a": np.ones(2, np.float32)} if inputs is None else inputs
    return list(run(net(layer("Input", "", "a") + text, **blobs), inputs, forward))


def values(text: str, inputs: Any = None, **blobs: Any) -> Dict[str, float]:
    actual = executed(text, inputs, **blobs)
    return {name: array[0] for name, array, reason in actual if not reason}


def test_blobs_are_overwritten_in_place_and_come_once_in_their_final_version() -> None:
    text = layer("Double", "a", "b") + layer("Double", "b", "b") + layer("Double", "b", "c")
    assert executed(text)[1][0] == "b"
    assert values(text) == {"a": 1, "b": 4, "c": 8}


def test_a_name_made_anew_by_another_layer_is_read_in_the_version_of_the_moment() -> None:
    text = layer("Double", "a", "b") + layer("Double", "b", "c") + layer("Add", "ac", "b")
    assert values(text) == {"a": 1, "b": 5, "c": 4}
    assert [name for name, _, _ in executed(text)] == ["a", "c", "b"]


def test_weights_and_values_are_float64() -> None:
    arrays = executed(layer("Add", "a", "b"), l=[np.full(2, 1 / 3)])
    assert arrays[1][1].dtype == np.float64
    assert arrays[0][1].dtype == np.float64
    assert arrays[1][1][0] == 1 + float(np.float32(1 / 3))


def test_what_an_unknown_layer_makes_is_unjudged_and_the_rest_goes_on() -> None:
    text = (
        layer("Foo", "a", "x", "odd")
        + layer("Add", "ax", "y")
        + layer("Double", "y", "y")
        + layer("Double", "a", "z")
    )
    actual = {name: (array, reason) for name, array, reason in executed(text)}
    assert actual["z"][0][0] == 2
    for name in "xy":
        assert actual[name] == (None, "layer 'odd' (Foo): not known here")


def test_a_name_that_is_made_anew_can_be_judged_again() -> None:
    text = layer("Foo", "a", "x") + layer("Double", "x", "y") + layer("Double", "a", "x")
    assert values(text) == {"a": 1, "x": 2}
    in_place = layer("Double", "a", "b") + layer("Foo", "b", "b") + layer("Double", "b", "c")
    assert values(in_place) == {"a": 1}


def test_layers_without_tops_and_with_several_run() -> None:
    text = layer("Silence", "a") + layer("Double", "a", "bc") + layer("Add", "bc", "d")
    assert values(text) == {"a": 1, "b": 2, "c": 2, "d": 4}


def test_more_tops_than_the_reference_gives_are_unjudged() -> None:
    actual = executed(layer("Add", "a", "bc"))
    assert actual[1:] == [("b", actual[1][1], ""), ("c", None, "layer 'l' (Add): it has 2 tops")]


def test_a_data_layer_takes_what_is_given_for_its_tops() -> None:
    text = layer("Data", "", ["image", "label"]) + layer("Double", ["image"], "y")
    array = {"a": np.ones(1), "image": np.full(1, 5)}
    assert values(text, array) == {"a": 1, "image": 5, "y": 10}
    reason = executed(text, array)[2]
    missing = "layer 'l' (Data): its data are not here: give input_shape label=..."
    assert reason == ("label", None, missing)
    message = "give input_shape image=... input_shape label=..."
    assert message in executed(text)[1][2]


def test_weights_that_only_a_random_filler_has_are_unjudged() -> None:
    actual = executed(layer("Add", "a", "b") + layer("Double", "a", "c"), missing="l")
    assert actual[1][:2] == ("b", None)
    assert "the file has no weights for it" in actual[1][2]


def test_an_error_names_its_layer_in_one_line() -> None:
    with pytest.raises(ValidationError, match=r"layer 'odd' \(Broken\): operands"):
        executed(layer("Broken", "a", "b", "odd"))
    with pytest.raises(NetError, match=r"^layer 'odd': it does not fit$"):  # named already
        executed(layer("Misfit", "a", "b", "odd"))
    with pytest.raises(ValidationError, match="'l' reads 'nix', which nothing produces"):
        executed(layer("Double", ["nix"], "b"))


def test_arrays_are_dropped_after_their_last_reader() -> None:
    text = "".join(layer("Double", a, b) for a, b in zip("abcdef", "bcdefg"))
    result = []
    most = 0

    def traced(param: Any, blobs: Any, bottoms: Any) -> List[np.ndarray]:
        nonlocal most
        top = np.zeros(1)
        result.append(weakref.ref(top))
        most = max(most, sum(ref() is not None for ref in result))
        return [top]

    for _ in run(net(layer("Input", "", "a") + text), {"a": np.ones(1)}, traced):
        pass
    assert most == 2  # one is read, one is made


def test_outputs_are_what_nobody_reads_after_it_was_last_written() -> None:
    text = (
        layer("Input", "", "ab")
        + layer("Double", "a", "c")
        + layer("Double", "c", "c")
        + layer("Silence", "b")
    )
    assert outputs([item.param for item in net(text)]) == ["c"]


def test_input_shapes_one_for_all_or_one_each_or_none() -> None:
    text = (
        'layer { type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 2 } } }'
        'layer { type: "Input" top: "c" top: "d" '
        "input_param { shape { dim: 3 } shape { dim: 4 } } }"
        'layer { type: "Input" top: "e" }'
    )
    assert dict(input_shapes([item.param for item in net(text)])) == {
        "a": [1, 2],
        "b": [1, 2],
        "c": [3],
        "d": [4],
        "e": [],
    }

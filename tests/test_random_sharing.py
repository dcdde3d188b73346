"""Random nets of towers that share at random: merged, they compute what they did, also in Caffe.

Towers are copies of one another with layers left out, other values, other names for their blobs;
names go across types too. What every merge must keep is checked by tests.merger.
"""

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merged, Merger
from tests.seeds import examples

CHANNELS = 3
VECTOR = (CHANNELS,)
# Blobs by type: a family of names that fit one another, and the shape.
KINDS: Dict[str, List[Tuple[str, Tuple[int, ...]]]] = {
    "Convolution": [("square", (CHANNELS, CHANNELS, 1, 1)), ("vector", VECTOR)],
    "Deconvolution": [("square", (CHANNELS, CHANNELS, 1, 1)), ("vector", VECTOR)],
    "BatchNorm": [("vector", VECTOR), ("variance", VECTOR), ("factor", (1,))],
    "Scale": [("vector", VECTOR), ("vector", VECTOR)],
    "Bias": [("vector", VECTOR)],
    "PReLU": [("vector", VECTOR)],
    "TanH": [],
}
BODY = {
    "Convolution": "convolution_param {{ num_output: 3 kernel_size: 1 bias_term: {} }}",
    "Deconvolution": "convolution_param {{ num_output: 3 kernel_size: 1 bias_term: {} }}",
    "Scale": "scale_param {{ bias_term: {} }}",
}


class Recipe:
    """Draws towers line by line, with the values of their layers."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.lines: List[str] = []
        self.weights: Dict[str, List[np.ndarray]] = {}

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return self.draw(st.sampled_from(options))

    def build(self) -> None:
        """Two or three towers of up to six layers."""
        linear = ["Convolution", "Deconvolution"]
        affine = ["BatchNorm", "BatchNorm", "Scale", "Scale", "Bias"]
        template = []
        for _ in range(self.pick(1, 2)):
            template.append((self.pick(*linear), self.pick("true", "false")))
            template += [
                (self.pick(*affine, "PReLU", "TanH"), self.pick("true", "false"))
                for _ in range(self.pick(1, 2, 2, 3))
            ]
        for tower in range(self.pick(2, 2, 3)):
            bottom = f"d{tower}"
            self.lines.append(f"{bottom} 1 {CHANNELS} 3 2")
            same = self.pick(True, True, False)
            for place, (kind, bias) in enumerate(template):
                if same or not place or self.pick(True, True, True, False):
                    bottom = self.add(f"t{tower}_{place}", place, kind, bias, bottom)
            if self.pick(False, False, True):
                self.lines.append(f"e{tower}: TanH {bottom} -> e{tower}")

    def add(self, name: str, place: int, kind: str, bias: str, bottom: str) -> str:
        """A layer of ``kind`` that reads ``bottom``; the name of its top."""
        blobs = KINDS[kind]
        if bias == "false" and kind in BODY:
            blobs = blobs[:1]
        specs, values = [], []
        for number, (family, shape) in enumerate(blobs):
            fields = f"{family}_{place}_{number}"
            label = self.pick(fields, fields, fields, family, "")
            frozen = " lr_mult: 0" if kind == "BatchNorm" else ""
            specs.append(f"param {{ {f'name: {label!r}' if label else ''}{frozen} }}")
            random = np.random.default_rng([place, number, self.pick(0, 0, 1)])
            positive = family in ("variance", "factor")
            values.append(
                random.uniform(0.5, 2, shape) * (1 if positive else random.choice([-1, 1]))
            )
        self.weights[name] = values
        top = self.pick(name, bottom) if place and kind in ("BatchNorm", "Scale", "PReLU") else name
        body = BODY.get(kind, "").format(bias)
        self.lines.append(f"{name}: {kind} {bottom} -> {top} {{ {' '.join(specs)} {body} }}")
        return str(top)


def names(result: Merged) -> Dict[str, List[str]]:
    """What each layer's blobs are shared under; of layers that no pass changed the type of."""
    types = {layer.name: layer.type for layer in result.before.layers}
    return {
        layer.name: [spec.name for spec in layer.param.param if spec.name]
        for layer in result.after.layers
        if layer.type == types[layer.name]
    }


@examples(150)
@given(data=st.data())
def _random_towers(merger: Merger, data: st.DataObject) -> None:
    recipe = Recipe(data)
    recipe.build()
    note("\n".join(recipe.lines))
    keep_shared = recipe.pick(False, False, True)
    keep = recipe.pick([], [], [recipe.pick(*recipe.weights)])
    result = merger(*recipe.lines, weights=recipe.weights, keep=keep, keep_shared=keep_shared)
    assert not {name for change in result.report.changes for name in change.changed} & set(keep)
    old = {layer.name: layer.param.param for layer in result.before.layers}
    for name in keep:
        assert result.layer(name).param.param == old[name]
    if keep_shared:
        assert result.report.unshared == []
        for name, labels in names(result).items():
            assert labels == [spec.name for spec in old[name] if spec.name]


@pytest.mark.hypothesis
def test_random_towers(merged: Merger) -> None:
    """Whatever is shared by whom, and merged or not: all that a merge must keep is kept."""
    _random_towers(merged)

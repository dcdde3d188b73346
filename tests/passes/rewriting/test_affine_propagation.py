"""Maps through layers: f(A x) = B f(x) in the reference engine, for both directions.

For every layer and every axis of its bottoms or tops; where they refuse, the reason is looked at by
the tests of the passes.
"""

from typing import Dict, List, Optional, Set, Tuple

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Shape
from caffe_merge.layers import moving
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_propagation import (
    Maps,
    backward_maps,
    forward_maps,
    is_product,
)
from tests.nets import parse

X: Shape = (2, 6, 8, 4)
Case = Tuple[str, List[Shape], Set[int], Set[int]]  # text, bottoms; axes forwards, backwards

# The axes of the first bottom that `forward_maps` takes, and of the first top that
# `backward_maps` takes.
CASES: Dict[str, Case] = {
    "ReLU": ("", [X], {1, 2, 3}, {1, 2, 3}),
    "PReLU": ("", [X], {1, 2, 3}, {1, 2, 3}),
    "Pooling max": ("pooling_param { kernel_size: 3 stride: 2 pad: 1 }", [X], {1}, {1}),
    "Pooling mean": ("pooling_param { pool: AVE kernel_size: 3 stride: 2 }", [X], {1}, {1}),
    "Concat": ("", [X, (2, 3, 8, 4)], {1, 2, 3}, {1, 2, 3}),
    "Concat rows": ("concat_param { axis: -2 }", [X, (2, 6, 3, 4)], {1, 2, 3}, {1, 2, 3}),
    "Slice 2": ("slice_param { slice_point: 2 }", [X], {1, 2, 3}, {1}),
    "Slice rows 2": ("slice_param { axis: 2 }", [X], {1, 2, 3}, {2}),
    "Crop": ("crop_param { axis: 1 offset: 1 offset: 2 offset: 0 }", [X, (1, 4, 5, 3)],
             {1, 2, 3}, {1, 2, 3}),
    "Tile": ("tile_param { tiles: 3 }", [X], {1, 2, 3}, {2, 3}),
    "Tile rows": ("tile_param { axis: -2 tiles: 2 }", [X], {1, 2, 3}, {1, 3}),
    "Flatten": ("", [X], {1, 2, 3}, set()),
    "Flatten vector": ("", [(2, 6, 1, 1)], {1, 2, 3}, {1}),
    "Flatten rows": ("flatten_param { axis: 2 }", [X], {1, 2, 3}, {1}),
    "Reshape": ("reshape_param { shape { dim: 0 dim: -1 } }", [(2, 6, 1, 1)], {1, 2, 3}, {1}),
    "Reshape places": ("reshape_param { shape { dim: 0 dim: 0 dim: -1 } }", [X], {1, 2, 3}, {1}),
    "Reshape one axis more": ("reshape_param { shape { dim: 0 dim: 1 dim: 6 dim: -1 } }", [X],
                              {1, 2, 3}, {2}),
    "Reshape split": ("reshape_param { shape { dim: 0 dim: 2 dim: 3 dim: -1 } }", [X],
                      {2, 3}, set()),
    "Reshape across images": ("reshape_param { shape { dim: 4 dim: 3 dim: -1 } }", [X],
                              set(), set()),
    "Permute": ("permute_param { order: 0 order: 2 order: 3 order: 1 }", [X], {1, 2, 3}, {1, 2, 3}),
    "Permute images": ("permute_param { order: 1 }", [X], {1, 2, 3}, {2, 3}),
    "ShuffleChannel": ("shuffle_channel_param { group: 3 }", [X], {1, 2, 3}, {1, 2, 3}),
    "Reverse": ("reverse_param { axis: 1 }", [X], {1, 2, 3}, {1, 2, 3}),
    "Reorg": ("reorg_param { stride: 2 }", [X], {1}, set()),
    "Reorg back": ("reorg_param { stride: 2 reverse: true }", [(2, 8, 3, 4)], set(), {1}),
    "Interp": ("interp_param { height: 11 width: 7 }", [X], {1}, {1}),
    "Interp crop": ("interp_param { shrink_factor: 2 pad_beg: -1 pad_end: -1 }", [X], {1}, {1}),
    "Upsample": ("upsample_param { scale: 2 }", [X], {1}, {1}),
    "Unpooling": ("unpooling_param { unpool_size: 8 stride: 2 }", [(2, 6, 4, 4)], {1}, {1}),
    "Padding": ("padding_param { pad_t: 1 pad_l: 2 }", [X], {1}, {1}),
    "ResizeBilinear": ('resize_bilinear_param { data_format: "NCHW" scale_height: 2 '
                       'output_width: 3 }', [X], {1}, {1}),
    "ResizeNearestNeighbor": ('resize_nearest_neighbor_param { data_format: "NCHW" scale_height: 2 '
                              '}', [X], {1}, {1}),
    "Eltwise maximum": ("eltwise_param { operation: MAX }", [X, X], {1, 2, 3}, {1, 2, 3}),
    "Eltwise product": ("eltwise_param { operation: PROD }", [X, X], {1, 2, 3}, {1, 2, 3}),
    "Eltwise sum": ("eltwise_param { coeff: 2 coeff: -3 }", [X, X], {1, 2, 3}, {1, 2, 3}),
    "Scale of planes": ("scale_param { axis: 0 }", [X, (2, 6)], {1, 2, 3}, {1, 2, 3}),
    "Scale of rows": ("scale_param { axis: 2 }", [X, (8,)], {1, 2, 3}, {1, 2, 3}),
    "PriorBox": ("prior_box_param { min_size: 3 }", [X, (2, 3, 20, 20)], {1, 2, 3}, set()),
}  # fmt: skip
# How far a map may go: those that are not here take any.
POSITIVE = {"ReLU", "PReLU", "Pooling max", "Eltwise maximum"}
BARE = {"ReLU", "PReLU", "Unpooling", "Padding", "Eltwise product", "Eltwise sum",
        "Scale of planes", "Scale of rows"}  # fmt: skip


def case_layer(name: str) -> Layer:
    """The layer of a case, by itself."""
    kind, *words = name.split()
    body, bottoms, *_ = CASES[name]
    number = int(words[-1]) if words and words[-1].isdigit() else 1
    lines = [f'input: "x{n}" input_shape {{ {" ".join(f"dim: {dim}" for dim in shape)} }}'
             for n, shape in enumerate(bottoms)]  # fmt: skip
    ends = [f'bottom: "x{n}"' for n in range(len(bottoms))] + [
        f'top: "y{n}"' for n in range(number)
    ]
    lines.append(f'layer {{ name: "it" type: "{kind}" {" ".join(ends)} {body} }}')
    return parse("\n".join(lines)).layers[-1]


def run(layer: Layer, bottoms: List[np.ndarray]) -> List[np.ndarray]:
    """Its tops in float64."""
    blobs = [np.linspace(0.1, 0.9, 6)] if layer.type == "PReLU" else []
    return list(reference.forward(spec_of(layer), blobs, bottoms))


def random_map(name: str, size: int, axis: int) -> Affine:
    """A map that the layer may let through, along ``axis``."""
    random = np.random.default_rng([size, axis])
    scale = random.uniform(0.5, 2, size)
    if name not in POSITIVE:
        scale *= random.choice([-1.0, 1.0], size)
    return Affine(scale, random.standard_normal(size) * (name not in BARE), axis)


def applied(affine: Optional[Affine], x: np.ndarray) -> np.ndarray:
    """``x`` after the map."""
    if affine is None:
        return x
    shape = [-1 if axis == affine.axis else 1 for axis in range(x.ndim)]
    y: np.ndarray = affine.scale.reshape(shape) * x + affine.shift.reshape(shape)
    return y


def agree(layer: Layer, before: Maps, after: Maps, bottoms: List[np.ndarray]) -> None:
    """f(before(x)) = after(f(x))."""
    moved = run(layer, [applied(m, x) for m, x in zip(before, bottoms)])
    plain = [applied(m, y) for m, y in zip(after, run(layer, bottoms))]
    for item, other in zip(moved, plain):
        np.testing.assert_allclose(item, other, rtol=1e-9, atol=1e-9)


def noise(shapes: List[Shape]) -> List[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("name", CASES)
def test_on(name: str) -> None:
    """A map of the first bottom, along each of its axes; of all bottoms, where one will not do."""
    layer, bottoms = case_layer(name), noise(CASES[name][1])
    shapes, tops = [x.shape for x in bottoms], [y.shape for y in run(layer, bottoms)]
    taken = set()
    for axis in range(1, bottoms[0].ndim):
        affine = random_map(name, bottoms[0].shape[axis], axis)
        maps: Maps = [affine, *[None] * (len(bottoms) - 1)]
        moved = forward_maps(layer, maps, shapes, tops)
        if isinstance(moved, Reason) and len(bottoms) > 1:
            maps = [affine] * len(bottoms)
            moved = forward_maps(layer, maps, shapes, tops)
        if not isinstance(moved, Reason):
            taken.add(axis)
            agree(layer, maps, moved, bottoms)
    assert taken == CASES[name][2]


@pytest.mark.parametrize("name", CASES)
def test_back(name: str) -> None:
    """A map of the first top, along each of its axes; into each factor of a product."""
    layer, bottoms = case_layer(name), noise(CASES[name][1])
    shapes, tops = [x.shape for x in bottoms], [y.shape for y in run(layer, bottoms)]
    taken = set()
    for axis in range(1, len(tops[0])):
        maps: Maps = [random_map(name, tops[0][axis], axis), *[None] * (len(tops) - 1)]
        for chosen in range(len(bottoms) if is_product(layer) else 1):
            moved = backward_maps(layer, maps, shapes, tops, chosen)
            if not isinstance(moved, Reason):
                taken.add(axis)
                agree(layer, moved, maps, bottoms)
    assert taken == CASES[name][3]


@pytest.mark.parametrize("name", [name for name in CASES if name != "PriorBox"])
def test_one_number(name: str) -> None:
    """A single multiplier for all: it goes back wherever any map does."""
    layer, bottoms = case_layer(name), noise(CASES[name][1])
    shapes, tops = [x.shape for x in bottoms], [y.shape for y in run(layer, bottoms)]
    number = Affine(np.array(2.0), np.array(0.0))
    moved = backward_maps(layer, [number] * len(tops), shapes, tops)
    if name != "Reshape across images":
        assert not isinstance(moved, Reason)
        agree(layer, moved, [number] * len(tops), bottoms)


@pytest.mark.parametrize("name", sorted(POSITIVE))
def test_negative(name: str) -> None:
    """What is largest would be least."""
    layer, shapes = case_layer(name), CASES[name][1]
    affine = Affine(np.linspace(-1, 1, 6), np.zeros(6), 1)
    for moved in (
        forward_maps(layer, [affine] * len(shapes), shapes, [X]),
        backward_maps(layer, [affine], shapes, [X]),
    ):
        assert isinstance(moved, Reason)
        assert "a negative multiplier does not go through" in moved


@pytest.mark.parametrize("name", sorted(BARE))
def test_shift(name: str) -> None:
    """It would be lost, or counted twice."""
    layer, shapes = case_layer(name), CASES[name][1]
    affine = Affine(np.ones(6), np.ones(6), 1)
    maps: Maps = [affine, *[None] * (len(shapes) - 1)]
    for moved in (
        forward_maps(layer, maps, shapes, [X]),
        backward_maps(layer, [affine], shapes, [X]),
    ):
        assert isinstance(moved, Reason)
        assert "a shift does not go through it" in moved


def test_every_type_is_here() -> None:
    """All that has a rule, but for the fork's other PriorBox."""
    assert {*moving.RULES} == {name.split()[0] for name in CASES} | {"PriorBoxClustered"}

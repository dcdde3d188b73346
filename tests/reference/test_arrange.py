"""Concat, Slice, Reshape and other layers that only move values, against real Caffe."""

import numpy as np
import pytest

from caffe_merge import reference
from tests.nets import parse_spec
from tests.reference.cases import Case, Shapes, as_caffe

FULL = (2, 6, 4, 5)


def flatten(name: str, param: str) -> Case:
    """A Flatten of (2, 6, 4, 5)."""
    return Case(name, f'type: "Flatten" flatten_param {{ {param} }}', (FULL,))


def reshape(name: str, dims: str, param: str = "") -> Case:
    """A Reshape of (2, 6, 4, 5) to ``dims``."""
    shape = " ".join(f"dim: {dim}" for dim in dims.split())
    return Case(name, f'type: "Reshape" reshape_param {{ shape {{ {shape} }} {param} }}', (FULL,))


def slice_(name: str, param: str, tops: int) -> Case:
    """A Slice of (2, 6, 4, 5)."""
    return Case(name, f'type: "Slice" slice_param {{ {param} }}', (FULL,), tops)


def crop(name: str, param: str, like: tuple) -> Case:
    """A Crop of (2, 6, 4, 5)."""
    return Case(name, f'type: "Crop" crop_param {{ {param} }}', (FULL, like))


def words(expected: Shapes) -> list:
    """Indices below 7."""
    return [np.random.default_rng(0).integers(0, 7, shape).astype(np.float32) for shape in expected]


CASES = [
    Case("concat", 'type: "Concat"', (FULL, (2, 1, 4, 5), (2, 3, 4, 5))),
    Case("concat_0", 'type: "Concat" concat_param { axis: 0 }', (FULL, (1, 6, 4, 5))),
    Case("concat_last", 'type: "Concat" concat_param { axis: -1 }', ((2, 3), (2, 4))),
    Case("concat_dim", 'type: "Concat" concat_param { concat_dim: 2 }', (FULL, (2, 6, 1, 5))),
    Case("concat_one", 'type: "Concat"', (FULL,)),
    slice_("slice", "", 3),
    slice_("slice_points", "slice_point: 1 slice_point: 4", 3),
    slice_("slice_axis", "axis: -1 slice_point: 2", 2),
    slice_("slice_dim", "slice_dim: 0", 2),
    slice_("slice_one", "", 1),
    Case("split", 'type: "Split"', (FULL,), 3),
    flatten("flatten", ""),
    flatten("flatten_middle", "axis: 1 end_axis: -2"),
    flatten("flatten_all", "axis: 0"),
    flatten("flatten_nothing", "axis: 2 end_axis: 1"),
    reshape("reshape", "0 -1 2"),
    reshape("reshape_known", "8 30"),
    reshape("reshape_middle", "3 2", "axis: 1 num_axes: 1"),
    reshape("reshape_insert", "1", "axis: -1 num_axes: 0"),
    reshape("reshape_copy", "0 0 -1", "axis: 1"),
    reshape("reshape_negative", "-1", "axis: -3"),
    reshape("reshape_copy_beyond", "1 0 -1", "axis: 1 num_axes: 2"),
    reshape("reshape_to_row", "-1"),
    crop("crop", "offset: 1", (9, 9, 2, 3)),
    crop("crop_offsets", "axis: 1 offset: 3 offset: 0 offset: 2", (9, 2, 3, 3)),
    crop("crop_no_offset", "axis: -1", (9, 9, 9, 3)),
    crop("crop_all", "axis: 0 offset: 1", (1, 2, 3, 4)),
    Case("tile", 'type: "Tile" tile_param { tiles: 3 }', (FULL,)),
    Case("tile_last", 'type: "Tile" tile_param { axis: -1 tiles: 2 }', (FULL,)),
    Case(
        "embed",
        'type: "Embed" embed_param { num_output: 4 input_dim: 7 }',
        ((2, 3),),
        inputs=words,
    ),
    Case(
        "embed_no_bias",
        'type: "Embed" embed_param { num_output: 4 input_dim: 7 bias_term: false }',
        ((5,),),
        inputs=words,
    ),
    Case("silence", 'type: "Silence"', (FULL, FULL), 0),
]


test_as_caffe = as_caffe(CASES)


X = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("body", "bottoms", "expected"),
    [
        ('type: "Concat" concat_param { axis: 2 }', [X, X], np.concatenate([X, X], 2)),
        ('type: "Slice" slice_param { axis: 2 slice_point: 1 }', [X], [X[..., :1], X[..., 1:]]),
        ('type: "Flatten"', [X], X.reshape(2, 12)),
        (
            'type: "Crop" crop_param { axis: 1 offset: 1 offset: 2 }',
            [X, X[:, :2, :1]],
            X[:, 1:, 2:3],
        ),
        ('type: "Tile" tile_param { axis: 0 tiles: 2 }', [X], np.concatenate([X, X])),
    ],
    ids=lambda value: value[7:11] if isinstance(value, str) else "",
)
def test_by_hand(body: str, bottoms: list, expected: list) -> None:
    expected = expected if isinstance(expected, list) else [expected]
    layer = parse_spec(body)
    layer.param.top.extend(map(str, range(len(expected))))
    actual = reference.forward(layer, [], bottoms)
    assert len(actual) == len(expected)
    for y, required in zip(actual, expected):
        np.testing.assert_array_equal(y, required)


@pytest.mark.parametrize("index", [-1, 3])
def test_embed_of_no_row_is_unsupported(index: int) -> None:
    layer = parse_spec(
        'name: "e" type: "Embed" top: "y" embed_param { num_output: 2 input_dim: 3 }'
    )
    with pytest.raises(reference.Unsupported, match=r"layer 'e' .*outside 0 to 2"):
        reference.forward(layer, [np.zeros((3, 2)), np.zeros(2)], [np.array([index])])

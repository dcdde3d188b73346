"""Fillers against real Caffe, whose DummyData layer shows what each of them makes."""

import numpy as np
import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers.fillers import MAX_FILLED, Room, fill
from tests.nets import parse_layer
from tests.real_caffe import RealCaffe

FILLED = {
    "default": ("", (2, 3)),
    "constant": ('type: "constant" value: 0.1', (2, 3, 4)),
    "value": ("value: -7", (3,)),
    "scalar": ("value: 2", ()),
    **{f"bilinear_{n}": ('type: "bilinear"', (2, 3, n, n)) for n in (1, 2, 3, 4, 5, 7, 8, 16)},
}


def filler(text: str) -> object:
    """A FillerParameter."""
    return parse_layer(f"bias_param {{ filler {{ {text} }} }}").bias_param.filler


def test_as_caffe(real_caffe: RealCaffe) -> None:
    net = ""
    for name, (text, shape) in FILLED.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        param = f"data_filler {{ {text} }} shape {{ {dims} }}"
        net += f'layer {{ name: "{name}" type: "DummyData" top: "{name}" '
        net += f"dummy_data_param {{ {param} }} }}\n"
    blobs = real_caffe.forward(net, {}, {})
    for name, (text, shape) in FILLED.items():
        actual = fill(filler(text), shape)
        assert actual is not None
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, blobs[name], err_msg=name)


def test_what_is_the_same_is_there_once() -> None:
    for kind in ("value: 2", 'type: "bilinear"'):
        actual = fill(filler(kind), (1 << 20, 1 << 20, 2, 2))
        assert actual is not None
        assert actual.strides[:2] == (0, 0)


def test_room_is_taken_before_anything_is_made() -> None:
    room = Room(strict=False)
    size = int(MAX_FILLED**0.5)
    assert fill(filler('type: "bilinear"'), (1, 1, 1 << 20, 1 << 20), room) is None
    assert fill(filler('type: "xavier"'), (size, size), room) is None
    assert fill(filler(""), (size, size), room) is not None
    assert fill(filler(""), (size, size), room) is None
    room = Room(strict=True)
    with pytest.raises(NetError, match="layer 'l': expected fillers that make at most 134,217,728"):
        fill(filler('type: "bilinear"'), (1, 1, 1 << 20, 1 << 20), room, "l")


def test_by_hand() -> None:
    np.testing.assert_array_equal(fill(filler("value: 2"), (2,)), [2, 2])
    actual = fill(filler('type: "bilinear"'), (1, 1, 4, 4))
    row = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(actual[0, 0], np.outer(row, row))
    actual = fill(filler('type: "bilinear"'), (1, 1, 3, 3))
    np.testing.assert_array_equal(actual[0, 0], np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))


@pytest.mark.parametrize(
    "kind", ["uniform", "gaussian", "xavier", "msra", "positive_unitball", "of a fork"]
)
def test_random_and_unknown_are_none(kind: str) -> None:
    assert fill(filler(f'type: "{kind}"'), (2, 3)) is None


@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 2, 3)])
def test_bilinear_of_other_shapes(shape: tuple) -> None:
    with pytest.raises(NetError, match="bilinear filler: expected a square 4-D blob"):
        fill(filler('type: "bilinear"'), shape)

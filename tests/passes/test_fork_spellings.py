"""Fields of forks that BVLC has by another name: hole is dilation, ceil_mode is round_mode."""

import numpy as np
import pytest

from caffe_merge.layers.fork_fields import described, unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.schema.messages import LayerParameter
from tests.merger import Merger

DATA = "data 2 3 13 11"
BN = "bn: BatchNorm conv -> bn"
VALUES = {
    "conv": [np.arange(108.0).reshape(4, 3, 3, 3) / 50 - 1],
    "bn": [np.arange(4.0), np.arange(1.0, 5), np.ones(1)],
}


@pytest.mark.parametrize("holes", ["hole: 2", "hole_h: 2 hole_w: 3"])
def test_a_fold_keeps_the_hole(merged: Merger, holes: str) -> None:
    field = f"num_output: 4 kernel_size: 3 bias_term: false {holes}"
    conv = f"conv: Convolution data -> conv {{ convolution_param {{ {field} }} }}"
    result = merged(DATA, conv, BN, "end: TanH bn -> out", weights=VALUES)
    assert result.names == ["conv", "end"]
    assert holes.split()[0] in result.text
    assert "dilation" not in result.text


def layer(kind: str, block: str, **extra: str) -> Layer:
    made = Layer(LayerParameter(name="a", type=kind))
    made.extra = {f"{block}.{name}": value for name, value in extra.items()}
    return made


def test_hole_is_dilation() -> None:
    def dilation(**extra: str) -> list:  # type: ignore[type-arg]
        conv = layer("Convolution", "convolution_param", **extra)
        assert unknown_fields(conv) is None
        return list(described(conv).convolution_param.dilation)

    assert dilation(hole="2") == [2]
    assert dilation(hole_h="2", hole_w="3") == [2, 3]
    assert dilation(engine="MKLDNN") == []


def test_ceil_mode_is_round_mode() -> None:
    for value, mode in (("false", 1), ("true", 0)):
        pool = layer("Pooling", "pooling_param", ceil_mode=value)
        assert unknown_fields(pool) is None
        assert described(pool).pooling_param.round_mode == mode


def test_both_spellings_are_not_guessed() -> None:
    conv = layer("Convolution", "convolution_param", hole="2")
    conv.param.convolution_param.dilation.append(3)
    assert unknown_fields(conv) is not None
    pool = layer("Pooling", "pooling_param", ceil_mode="false")
    pool.param.pooling_param.round_mode = 0
    assert unknown_fields(pool) is not None

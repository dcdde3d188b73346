"""Windows of layers: what all of the text says, and what is written to it."""

from typing import Any, Dict, List, Tuple

import pytest

from caffe_merge.layers import windows
from caffe_merge.layers.shapes.geometry import Window
from tests.nets import make_layer, parse_layer


def pooling(fields: str, **extra: str) -> Any:
    layer = make_layer(f'type: "Pooling" pooling_param {{ {fields} }}')
    layer.extra = {f"pooling_param.{name}": value for name, value in extra.items()}
    return layer


def convolution(fields: str, **extra: str) -> Any:
    layer = make_layer(f'type: "Convolution" convolution_param {{ num_output: 2 {fields} }}')
    layer.extra = {f"convolution_param.{name}": value for name, value in extra.items()}
    return layer


def test_a_fork_s_fields_count() -> None:
    holes = convolution("kernel_size: 3", hole_h="2", hole_w="4")
    assert windows.convolution(holes, 2).dilation == (2, 4)
    sides = pooling("kernel_size: 3", pad_t="1", pad_l="2")
    assert windows.pooling(sides, (7, 9))[2:4] == ((1, 2), (0, 0))
    assert windows.pads(sides)
    assert not windows.pads(pooling("kernel_size: 3"))


@pytest.mark.parametrize(
    ("layer", "bvlc"),
    [
        (convolution("kernel_size: 3 dilation: 2"), True),
        (convolution("kernel_size: 3", hole="2"), False),
        (convolution("kernel_size: 3", hole="1"), True),
        (convolution("kernel_size: 3", pad_t="1"), False),
        (pooling("kernel_size: 3", ceil_mode="false"), True),
        (pooling("kernel_size: 3", pad_l="1"), False),
    ],
)
def test_whether_bvlc_s_fields_say_it_all(layer: Any, bvlc: bool) -> None:
    assert windows.is_in_bvlc_fields(layer, 2) == bvlc


ROUNDING: Dict[str, Tuple[Any, bool]] = {
    "BVLC": (pooling("kernel_size: 2"), True),
    "down": (pooling("kernel_size: 2 round_mode: FLOOR"), False),
    "a fork's up": (pooling("kernel_size: 2", ceil_mode="true"), True),
    "a fork's down": (pooling("kernel_size: 2", ceil_mode="false"), False),
}


@pytest.mark.parametrize("case", ROUNDING)
def test_rounding(case: str) -> None:
    layer, up = ROUNDING[case]
    assert windows.rounds_up(layer) == up
    assert windows.has_ceil_mode(layer) == (case == "a fork's up")
    stride = pooling("kernel_size: 2 stride: 3", **{k[14:]: v for k, v in layer.extra.items()})
    stride.param.pooling_param.round_mode = layer.param.pooling_param.round_mode
    assert windows.overruns(stride, 2) == up


KEPT = 'type: "Convolution" convolution_param { num_output: 2 kernel_h: 3 kernel_w: 2 stride: 1 }'


@pytest.mark.parametrize(
    ("stride", "pad", "fields"),
    [
        ((1, 1), (0, 0), ["stride: 1"]),  # as it was: nothing is touched
        ((2, 2), (0, 0), ["stride: 2"]),
        ((2, 3), (1, 1), ["pad: 1", "stride_h: 2", "stride_w: 3"]),
    ],
)
def test_only_what_changes_is_set(
    stride: Tuple[int, int], pad: Tuple[int, int], fields: List[str]
) -> None:
    param = parse_layer(KEPT)
    windows.set_convolution(param, Window((3, 2), stride, pad, pad, (1, 1)))
    lines = [line.strip() for line in str(param.convolution_param).splitlines()]
    kept = ["num_output: 2", "kernel_h: 3", "kernel_w: 2"]
    assert sorted(lines) == sorted([*kept, *fields])
    after = make_layer(KEPT)
    after.param = param
    assert windows.convolution(after, 2) == Window((3, 2), stride, pad, pad, (1, 1))


def test_a_dilation_needs_another_engine_than_cudnn() -> None:
    param = parse_layer('type: "Convolution" convolution_param { num_output: 2 engine: CUDNN }')
    param.convolution_param.kernel_size.append(3)
    windows.set_convolution(param, Window((3, 3), (1, 1), (0, 0), (0, 0), (2, 2)))
    assert not param.convolution_param.HasField("engine")
    assert list(param.convolution_param.dilation) == [2]


def test_a_pooling_without_its_stride() -> None:
    layer = pooling("kernel_size: 2 stride_h: 3 stride_w: 2")
    windows.clear_pooling_stride(layer.param)
    assert windows.pooling(layer, (9, 9)).stride == (1, 1)

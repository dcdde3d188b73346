"""Windows in the fields of forks: what folds whatever they are, and what needs to know them."""

from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from caffe_merge.algebra.kernels import Kernel
from caffe_merge.formats.schema.messages import LayerParameter, copied
from caffe_merge.layers.fork_fields import spec_of, unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.merging.proof.wiring import wiring
from caffe_merge.net.graph import Graph
from caffe_merge.passes.rewriting.layer_kernels import kernel_of
from tests.merger import Merger
from tests.nets import load, parse, prototxt

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


PADS = ("pad_l: 1", "pad_t: 1 pad_b: 2 stride: 2", "pad_l: 2 pad_r: 2 pad_t: 1 pad_b: 1")
# Where the windows lie is not known of these: a field that is not read, or two that contradict.
NOT_KNOWN = (
    "pad_type: 1",
    "hole: 2 dilation: 3",
    "pad: 1 pad_l: 2",
    "hole_h: 2",
    "hole: 1 hole_w: 2",
)


@pytest.mark.parametrize("fields", [*PADS, *NOT_KNOWN])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_what_is_behind_folds_whatever_the_window(merged: Merger, kind: str, fields: str) -> None:
    """Along output channels; the fork's fields stay as they are."""
    field = f"num_output: 4 kernel_size: 3 bias_term: false {fields}"
    conv = f"conv: {kind} data -> conv {{ convolution_param {{ {field} }} }}"
    kernel = VALUES["conv"][0].reshape(4, 3, 3, 3)
    weights = {**VALUES, "conv": [kernel if kind == "Convolution" else kernel.swapaxes(0, 1)]}
    result = merged(DATA, conv, BN, "end: Power bn -> out", weights=weights)
    assert result.names == ["conv"]
    assert fields in result.text


def test_a_depthwise_convolution_with_sides(merged: Merger) -> None:
    field = "num_output: 3 kernel_size: 3 bias_term: false pad_l: 1 pad_b: 2"
    conv = f"conv: ConvolutionDepthwise data -> conv {{ convolution_param {{ {field} }} }}"
    weights = {
        "conv": [VALUES["conv"][0][:3, :1]],
        "bn": [np.arange(3.0), np.arange(1.0, 4), np.ones(1)],
    }
    result = merged(DATA, conv, BN, "end: TanH bn -> out", weights=weights)
    assert result.names == ["conv", "end"]


@pytest.mark.parametrize(
    "fields", ["relu: true", "pad_l: 1 relu: true", "odd: 1", "pad_l: 1 odd: 2"]
)
def test_what_may_be_more_than_a_window_is_left_alone(merged: Merger, fields: str) -> None:
    field = f"num_output: 4 kernel_size: 3 bias_term: false {fields}"
    conv = f"conv: Convolution data -> conv {{ convolution_param {{ {field} }} }}"
    result = merged(DATA, conv, BN, "end: TanH bn -> out", weights=VALUES)
    assert result.names == ["conv", "bn", "end"]
    assert "is a fork's field, whose effect is not known" in result.fate("bn").detail


def test_no_proof_has_another_window_where_the_own_is_not_known(tmp_path: Path) -> None:
    """Both are run with BVLC's: that says nothing of a rewrite that changes it."""
    field = "num_output: 4 kernel_size: 3 bias_term: false pad_type: 1"
    text = prototxt(DATA, f"conv: Convolution data -> conv {{ convolution_param {{ {field} }} }}")
    graph = Graph(load(tmp_path, text, {"conv": VALUES["conv"]}).layers, {})
    conv = graph.layers[-1]
    param = copied(conv.param)
    param.convolution_param.pad.append(1)
    actual = wiring(graph, [conv], {conv: (param, conv.blobs)}, {})
    assert actual == "layer 'conv' would get another window, and its own is a fork's"


SCALE = "scale: Scale data -> scale"
SHIFT = "scale: Scale data -> scale { scale_param { bias_term: true } }"
FACTORS = {"scale": [np.array([2.0, -1, 0.5])]}
SHIFTS = {"scale": [np.array([2.0, -1, 0.5]), np.array([1.0, 2, 3])]}


@pytest.mark.parametrize("fields", ["pad_r: 1", "hole: 3", "pad_type: 1"])
def test_what_is_in_front_folds_forward(merged: Merger, fields: str) -> None:
    """A multiplier does, whatever the window; a shift only where nothing is padded."""
    field = f"num_output: 4 kernel_size: 3 bias_term: false {fields}"
    conv = f"conv: Convolution scale -> conv {{ convolution_param {{ {field} }} }}"
    weights = {"conv": VALUES["conv"]}
    result = merged(DATA, SCALE, conv, "end: TanH conv -> out", weights={**weights, **FACTORS})
    assert result.names == ["conv", "end"]
    result = merged(DATA, SHIFT, conv, "end: TanH conv -> out", weights={**weights, **SHIFTS})
    if fields == "hole: 3":
        assert result.names == ["conv", "end"]
    else:
        result.refused(
            "scale", "it pads with 0" if fields == "pad_r: 1" else "pad_type is a fork's"
        )


def test_a_hole_that_sticks_out_takes_no_shift(merged: Merger) -> None:
    """Its dilation counts: taps of 3 at a distance of 6 reach over an input of 11."""
    field = "num_output: 4 kernel_size: 3 bias_term: false hole: 6 stride: 9"
    conv = f"conv: Convolution scale -> conv {{ convolution_param {{ {field} }} }}"
    weights = {"conv": VALUES["conv"], **SHIFTS}
    result = merged("data 2 3 12 11", SHIFT, conv, "end: TanH conv -> out", weights=weights)
    result.refused("scale", "its kernel is larger than its input")


POINT = "{ convolution_param { num_output: 4 kernel_size: 1 } }"


@pytest.mark.parametrize(
    "fields", ["hole: 2", "pad_l: 1", "pad_l: 1 pad_r: 1 pad_t: 1 pad_b: 1", "pad_l: 0"]
)
def test_kernels_with_such_windows_are_not_merged(merged: Merger, fields: str) -> None:
    """One behind the other, side by side or added up: the window would have to be written anew."""
    field = f"num_output: 4 kernel_size: 3 {fields}"
    conv = f"conv: Convolution data -> conv {{ convolution_param {{ {field} }} }}"
    other = conv.replace("conv:", "other:").replace("-> conv", "-> other")
    nets = (
        (conv, f"next: Convolution conv -> out {POINT}"),
        (conv, other, "cat: Concat conv other -> out"),
        (conv, other, "sum: Eltwise conv other -> out"),
    )
    shape = [VALUES["conv"][0], np.ones(4)]
    for lines in nets:
        names = [line.split(":")[0] for line in lines]
        weights = {name: shape for name in names if name in ("conv", "other")}
        result = merged(DATA, *lines, "end: TanH out -> end", weights=weights, serial="always")
        assert result.names == [*names, "end"]


@pytest.mark.parametrize(("sides", "reason"), [
    ("pad_l: 2 pad_t: 2", "it pads otherwise at the end than at the beginning"),
    ("pad_l: 1 pad_r: 1 pad_t: 1 pad_b: 1", None),
])  # fmt: skip
def test_a_mean_with_sides_is_a_kernel_if_they_are_equal(
    merged: Merger, sides: str, reason: Optional[str]
) -> None:
    """Only then it is a convolution, and can be added to one."""
    conv = "{ convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }"
    mean = f"{{ pooling_param {{ pool: AVE kernel_size: 3 {sides} }} }}"
    lines = (f"conv: Convolution data -> conv {conv}", f"mean: Pooling data -> mean {mean}")
    result = merged(DATA, *lines, "sum: Eltwise conv mean -> out", "end: TanH out -> end")
    assert len(result.names) == (2 if reason is None else 4)
    layers = parse(prototxt(DATA, lines[1])).layers
    kernel = kernel_of(Graph(layers, {}), layers[-1])
    assert kernel == reason if reason else isinstance(kernel, Kernel)


@pytest.mark.parametrize("fields", ["pool: AVE pad_l: 1", "pool: AVE pad: [0, 1, 0]"])
def test_a_shift_does_not_go_through_a_mean_with_sides(merged: Merger, fields: str) -> None:
    data = "data 2 3 6 8 7" if "[" in fields else DATA
    size = "kernel_size: [1, 3, 3]" if "[" in fields else "kernel_size: 3"
    pool = f"pool: Pooling data -> pool {{ pooling_param {{ {size} {fields} }} }}"
    conv = "conv: Convolution data -> c { convolution_param { num_output: 3 kernel_size: 1 } }"
    lines = (conv, pool.replace("data ->", "c ->"), SHIFT.replace("data ->", "pool ->"))
    result = merged(data, *lines, "end: TanH scale -> out", weights=SHIFTS)
    result.refused("scale", "it counts the zeros of its padding")


@pytest.mark.parametrize(("value", "goes"), [("true", False), ("false", True)])
def test_a_shift_through_a_mean_with_ceil_mode(merged: Merger, value: str, goes: bool) -> None:
    """BVLC divides by what is inside, tpu-mlir's Caffe by the whole kernel (ceil_mode: true)."""
    fields = f"pool: AVE kernel_size: 3 stride: 2 ceil_mode: {value}"
    pool = f"pool: Pooling c -> pool {{ pooling_param {{ {fields} }} }}"
    conv = "conv: Convolution data -> c { convolution_param { num_output: 3 kernel_size: 1 } }"
    lines = (conv, pool, SHIFT.replace("data ->", "pool ->"), "end: TanH scale -> out")
    result = merged("data 2 3 12 10", *lines, weights=SHIFTS)
    assert ("scale" not in result.names) == goes


def test_a_multiplier_goes_through_a_maximum_over_three_axes(merged: Merger) -> None:
    pool = "pool: Pooling c -> pool { pooling_param { kernel_size: [1, 2, 2] stride: [1, 2, 2] } }"
    conv = "conv: Convolution data -> c { convolution_param { num_output: 3 kernel_size: 3 } }"
    scale = {"scale": [np.array([2.0, 1, 0.5])]}
    lines = (conv, pool, SCALE.replace("data ->", "pool ->"), "end: TanH scale -> out")
    result = merged("data 2 3 5 8 7", *lines, weights=scale)
    assert result.names == ["conv", "pool", "end"]


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "DepthwiseConv"])
def test_a_depthwise_type_without_group(merged: Merger, kind: str) -> None:
    """Weights of one channel a row: each channel is a group. Else it is as it says."""
    field = "num_output: 3 kernel_size: 3 bias_term: false"
    conv = f"conv: {kind} data -> conv {{ convolution_param {{ {field} }} }}"
    norm = {"bn": [np.arange(3.0), np.arange(1.0, 4), np.ones(1)]}
    lines = (DATA, SCALE, conv.replace("data ->", "scale ->"), BN, "end: TanH bn -> out")
    for kernel in (VALUES["conv"][0][:3, :1], VALUES["conv"][0][:3]):
        result = merged(*lines, weights={"conv": [kernel], **norm, **FACTORS})
        assert result.names == ["conv", "end"]
        assert result.layer("conv").type == kind
        assert result.blobs("conv")[0].shape == kernel.shape
        assert "group" not in result.text


def layer(kind: str, block: str, **extra: str) -> Layer:
    layer = Layer(LayerParameter(name="a", type=kind))
    layer.extra = {f"{block}.{name}": value for name, value in extra.items()}
    return layer


def test_hole_is_dilation() -> None:
    def dilation(**extra: str) -> list:  # type: ignore[type-arg]
        conv = layer("Convolution", "convolution_param", **extra)
        assert unknown_fields(conv) is None
        return list(spec_of(conv).param.convolution_param.dilation)

    assert dilation(hole="2") == [2]
    assert dilation(hole_h="2", hole_w="3") == [2, 3]
    assert dilation(engine="MKLDNN") == []


def test_ceil_mode_is_round_mode() -> None:
    for value, mode in (("false", 1), ("true", 0)):
        pool = layer("Pooling", "pooling_param", ceil_mode=value)
        assert unknown_fields(pool) is None
        assert spec_of(pool).param.pooling_param.round_mode == mode


def test_both_spellings_are_not_guessed() -> None:
    conv = layer("Convolution", "convolution_param", hole="2")
    conv.param.convolution_param.dilation.append(3)
    assert unknown_fields(conv) is not None
    pool = layer("Pooling", "pooling_param", ceil_mode="false")
    pool.param.pooling_param.round_mode = 0
    assert unknown_fields(pool) is not None

"""merge-serial: linear layers right behind one another become one, where that costs no more."""

from typing import Dict, List, Tuple

import numpy as np
import pytest

from tests.merger import Merger

IN = "data 2 6 9 11"


def conv(name: str, outputs: int, body: str, bottom: str = "data") -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


def fc(name: str, outputs: int, bottom: str, body: str = "") -> str:
    """An InnerProduct likewise."""
    fields = f"inner_product_param {{ num_output: {outputs} {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {fields} }}"


K1, NO_BIAS = "kernel_size: 1", "bias_term: false"

# Two layers a and b; which of them stays, and the shape of its weights.
MERGED: Dict[str, Tuple[List[str], str, Tuple[int, ...]]] = {
    "3x3_then_1x1": (
        [conv("a", 8, "kernel_size: 3 pad: 1"), conv("b", 5, K1, "a")], "a", (5, 6, 3, 3),
    ),
    "strided_3x3_then_1x1": (
        [conv("a", 8, "kernel_size: 3 pad: 1 stride: 2"), conv("b", 5, K1, "a")], "a", (5, 6, 3, 3),
    ),
    "1x1_then_3x3": (
        [conv("a", 8, K1), conv("b", 5, "kernel_size: 3", "a")], "b", (5, 6, 3, 3),
    ),
    "1x1_without_bias_then_padded": (
        [conv("a", 8, f"{K1} {NO_BIAS}"), conv("b", 5, "kernel_h: 3 kernel_w: 5 pad: 1", "a")],
        "b", (5, 6, 3, 5),
    ),
    "1x1_padded_then_3x3": (
        [conv("a", 8, f"{K1} pad: 1"), conv("b", 5, "kernel_size: 3", "a")], "b", (5, 6, 3, 3),
    ),
    "1x1_strided_then_padded": (
        [conv("a", 8, f"{K1} stride: 2 {NO_BIAS}"),
         conv("b", 5, "kernel_size: 3 pad: 1 stride: 2", "a")],
        "b", (5, 6, 3, 3),
    ),
    "3x1_then_1x3": (
        [conv("a", 30, "kernel_h: 3 kernel_w: 1"), conv("b", 5, "kernel_h: 1 kernel_w: 3", "a")],
        "b", (5, 6, 3, 3),
    ),
    "depthwise_then_depthwise_1x1": (
        [conv("a", 6, "kernel_size: 3 group: 6"), conv("b", 6, f"{K1} group: 6", "a")],
        "a", (6, 1, 3, 3),
    ),
    "groups": (
        [conv("a", 12, "kernel_size: 3 group: 2"), conv("b", 8, f"{K1} group: 2", "a")],
        "a", (8, 3, 3, 3),
    ),
    "groups_4_and_2": (
        [conv("a", 24, f"{K1} group: 2"), conv("b", 8, "kernel_size: 3 group: 4", "a")],
        "b", (8, 3, 3, 3),
    ),
    "products": ([fc("a", 30, "data"), fc("b", 5, "a")], "b", (5, 594)),
    "products_transposed": (
        [fc("a", 30, "data"), fc("b", 5, "a", "transpose: true")], "b", (594, 5),
    ),
    "products_along_the_last_axis": (
        [fc("a", 30, "data", "axis: 3"), fc("b", 5, "a", "axis: 3")], "b", (5, 11),
    ),
    "covering": (
        [conv("a", 30, "kernel_h: 9 kernel_w: 11"), fc("b", 5, "a")], "b", (5, 594),
    ),
    "covering_flattened": (
        [conv("a", 30, "kernel_h: 9 kernel_w: 11 group: 3"), "flat: Flatten a -> flat",
         fc("b", 5, "flat", NO_BIAS)],
        "b", (5, 594),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_two_become_one(merged: Merger, name: str) -> None:
    """One layer is left, of these weights."""
    lines, left, shape = MERGED[name]
    serial = "always" if name == "covering_flattened" else "auto"
    result = merged(IN, *lines, "relu: ReLU b -> relu", serial=serial)
    assert result.names == [left, "relu"]
    assert result.layer(left).blobs[0].shape == shape


def test_the_new_window_is_written_short(merged: Merger) -> None:
    """One kernel_size where the old layer had kernel_h and kernel_w."""
    conv_param = merged(IN, *MERGED["3x1_then_1x3"][0]).layer("b").param.convolution_param
    assert list(conv_param.kernel_size) == [3]
    assert not conv_param.HasField("kernel_h")
    wide = conv("b", 5, "kernel_h: 3 kernel_w: 5", "a")
    conv_param = merged(IN, conv("a", 8, f"{K1} pad: 1"), wide).layer("b").param.convolution_param
    assert (
        conv_param.kernel_h,
        conv_param.kernel_w,
        list(conv_param.pad),
        conv_param.HasField("pad_h"),
    ) == (3, 5, [1], False)


def test_one_dilation_is_written_for_all_axes(merged: Merger) -> None:
    """That of an axis of one tap is of no matter; where axes differ one gets zeros between taps."""
    tall = "kernel_h: 3 kernel_w: 1 dilation: 2"
    conv_param = (
        merged(IN, conv("a", 8, tall), conv("b", 5, K1, "a")).layer("a").param.convolution_param
    )
    assert (conv_param.kernel_h, conv_param.kernel_w, list(conv_param.dilation)) == (3, 1, [2])
    wide = conv("b", 2, "kernel_h: 1 kernel_w: 3", "a")
    conv_param = merged(IN, conv("a", 90, tall), wide).layer("b").param.convolution_param
    assert (conv_param.kernel_h, conv_param.kernel_w, list(conv_param.dilation)) == (5, 3, [])


REFUSED: Dict[str, Tuple[List[str], str]] = {
    "border_of_a_bias": (
        [conv("a", 8, K1), conv("b", 5, "kernel_size: 3 pad: 1", "a")],
        "pads what the first gave a bias",
    ),
    "border_of_a_window": (
        [conv("a", 30, f"kernel_h: 3 kernel_w: 1 {NO_BIAS}"),
         conv("b", 5, "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0", "a")],
        "the second pads, and the first would reach into the input",
    ),
    "separable": (
        [conv("a", 6, "kernel_size: 3 group: 6"), conv("b", 20, K1, "a")],
        "more multiply-adds",
    ),
    "bottleneck": (
        [conv("a", 2, K1), conv("b", 20, "kernel_size: 3", "a")], "more multiply-adds",
    ),
    "factored_product": ([fc("a", 3, "data"), fc("b", 40, "a")], "more multiply-adds"),
    "larger_later": (
        [conv("a", 4, f"{K1} stride: 3 {NO_BIAS}"), conv("b", 5, f"{K1} pad: 5", "a")],
        "more multiply-adds",
    ),
    "different_axes_written_alike": (
        [fc("a", 30, "data", "axis: -2"), fc("b", 5, "a", "axis: -2")], "different axes",
    ),
    "different_axes": (
        [fc("a", 30, "data", "axis: 3"), fc("b", 5, "a", "axis: 2")], "different axes",
    ),
    "not_covering": (
        [conv("a", 30, "kernel_size: 9"), fc("b", 5, "a")], "just as large as its input",
    ),
    "covering_grouped": (
        [conv("a", 6, "kernel_h: 9 kernel_w: 11 group: 6"), fc("b", 5, "a")], "more multiply-adds",
    ),
    "covering_along_another_axis": (
        [conv("a", 30, "kernel_h: 9 kernel_w: 11"), fc("b", 5, "a", "axis: 2")],
        "its axis is not 1",
    ),
    "weights": (
        [conv("a", 6, f"{K1} {NO_BIAS}"), conv("b", 6, "kernel_size: 5 stride: 4 group: 6", "a")],
        "more weights than the two",
    ),
    "kernel_larger_than_input": (
        [conv("a", 8, "kernel_h: 9 kernel_w: 3"), conv("b", 5, "kernel_size: 2 stride: 2", "a")],
        "its kernel is larger than its input",
    ),
    "channels_elsewhere": (
        [conv("a", 8, "kernel_size: 3 axis: 2"), conv("b", 5, K1, "a")],
        "its channels lie on axis 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_two_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    lines, reason = REFUSED[name]
    result = merged(IN, *lines, "relu: ReLU b -> relu")
    assert result.names == ["a", "b", "relu"]
    result.refused("b", reason)


@pytest.mark.parametrize("kept", ["a", "b"])
def test_kept(merged: Merger, kept: str) -> None:
    """Neither takes the other in then."""
    lines = [conv("a", 8, "kernel_size: 3"), conv("b", 5, K1, "a"), "relu: ReLU b -> relu"]
    merged(IN, *lines, keep=[kept]).refused("b", "one of them is kept as asked with keep")


def test_shared_weights(merged: Merger) -> None:
    """The second goes, and the values that it shared stay those of the others."""
    shared = f'num_output: 6 {K1} {NO_BIAS} }} param {{ name: "w" '
    lines = [conv("a", 6, "kernel_size: 3")]
    lines += [f"{n}: Convolution {x} -> {n} {{ convolution_param {{ {shared} }} }}" for n, x in
              (("b", "a"), ("c", "data"))]  # fmt: skip
    assert merged(IN, *lines, keep_shared=True).names == ["a", "c"]


def test_another_reader_between(merged: Merger) -> None:
    """Who reads the first as well must find it."""
    lines = [conv("a", 8, "kernel_size: 3"), conv("b", 5, K1, "a"), "t: TanH a -> t"]
    assert merged(IN, *lines).names == ["a", "b", "t"]


def test_memory_written_by_another(merged: Merger) -> None:
    """The second would read what the first reads, later."""
    result = merged(
        IN, conv("x", 5, K1), conv("a", 8, K1, "x"), "flat: Flatten x -> flat",
        "tanh: TanH flat -> flat", conv("b", 5, "kernel_size: 3", "a"), "relu: ReLU b -> relu",
    )  # fmt: skip
    result.refused("b", "the memory of 'x' is written in place by another")


def test_a_part_of_the_flattened(merged: Merger) -> None:
    """The second sees rows of the first's channels."""
    flat = "flat: Flatten a -> flat { flatten_param { axis: 2 } }"
    lines = [conv("a", 30, "kernel_h: 9 kernel_w: 11"), flat, fc("b", 5, "flat")]
    result = merged(IN, *lines, "relu: ReLU b -> relu", skip=["fold-permute"])
    result.refused("b", "'flat' does not flatten all of each image")


def test_what_is_exact_of_a_chain(merged: Merger) -> None:
    """The border keeps the first two apart, not the others."""
    result = merged(
        IN, conv("a", 8, K1), conv("b", 8, "kernel_size: 3 pad: 1", "a"), conv("c", 7, K1, "b"),
        conv("d", 5, K1, "c"), "relu: ReLU d -> relu",
    )  # fmt: skip
    assert result.names == ["a", "b", "relu"]
    (reason,) = [refusal.reason for refusal in result.report.refusals if refusal.layer == "b"]
    assert "pads what the first gave a bias" in reason


@pytest.mark.parametrize("serial", ["always", "never"])
@pytest.mark.parametrize("name", ["separable", "bottleneck", "factored_product", "larger_later"])
def test_whatever_it_costs(merged: Merger, name: str, serial: str) -> None:
    """--serial always merges what is exact; never, nothing."""
    result = merged(IN, *REFUSED[name][0], "relu: ReLU b -> relu", serial=serial)
    assert len(result.names) == {"always": 2, "never": 3}[serial]
    assert [
        refusal for refusal in result.report.refusals if refusal.rewrite == "merge-serial"
    ] == []


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "DepthwiseConv"])
def test_depthwise_of_forks(merged: Merger, kind: str) -> None:
    """What is no longer depthwise is no longer of a fork's type."""
    first = conv("a", 6, "kernel_size: 3 group: 6").replace("Convolution", kind, 1)
    result = merged(IN, first, conv("b", 5, K1, "a"), "t: TanH b -> t", serial="always")
    assert result.names == ["a", "t"]
    assert result.layer("a").type == "Convolution"


def test_one_spatial_axis_and_three(merged: Merger) -> None:
    """As many as the blob has."""
    for sizes in ("7", "4 5 6"):
        lines = [conv("a", 8, "kernel_size: 3 pad: 1"), conv("b", 5, K1, "a"), "t: TanH b -> t"]
        assert merged(f"data 2 6 {sizes}", *lines).names == ["a", "t"]


def test_of_unknown_shapes(merged: Merger) -> None:
    """Behind a layer whose shape nobody knows: only where the first cannot be the cheaper one."""
    odd = "odd: Mystery data -> x"
    lines = [odd, conv("a", 8, "kernel_size: 3", "x"), conv("b", 5, K1, "a"), "t: TanH b -> t"]
    weights = {"a": [np.ones((8, 6, 3, 3)), np.ones(8)], "b": [np.ones((5, 8, 1, 1)), np.ones(5)]}
    assert merged(IN, *lines, weights=weights).names == ["odd", "a", "t"]
    weights["a"] = [np.ones((8, 6, 1, 1))]
    lines[1:3] = [conv("a", 8, f"{K1} {NO_BIAS}", "x"), conv("b", 5, f"{K1} pad: 1", "a")]
    merged(IN, *lines, weights=weights).refused("b", "its shapes are not known")

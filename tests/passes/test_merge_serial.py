"""merge-serial: linear layers right behind one another become one, where that costs no more."""

from typing import Dict, List, Tuple

import pytest

from tests.passes.support import Merger

IN = "data 2 6 9 11"


def conv(name: str, outputs: int, body: str, bottom: str = "data") -> str:
    """A Convolution that writes a blob of its own name."""
    own = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {own} }}"


def fc(name: str, outputs: int, bottom: str, body: str = "") -> str:
    """An InnerProduct likewise."""
    own = f"inner_product_param {{ num_output: {outputs} {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {own} }}"


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
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_two_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    lines, reason = REFUSED[name]
    result = merged(IN, *lines, "relu: ReLU b -> relu")
    assert result.names == ["a", "b", "relu"]
    result.refused("b", reason)

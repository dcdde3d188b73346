"""Deconvolutions in merge-serial and merge-branches: with what is 1x1 around them, and in sums."""

from typing import Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.seeds import examples

IN = "data 2 6 5 7"
END = "t: TanH end -> t"
K1, NO_BIAS = "kernel_size: 1", "bias_term: false"
K2, K5, SAME = "kernel_size: 2 stride: 2", "kernel_size: 5", "kernel_size: 3 pad: 1"
UP = "kernel_size: 4 stride: 2 pad: 1"


def conv(
    name: str, bottom: str, outputs: int, body: str = K1, top: str = "", kind: str = "Convolution"
) -> str:
    """A Convolution that writes a blob of its own name, or ``top``."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: {kind} {bottom} -> {top or name} {{ {fields} }}"


def deconv(name: str, bottom: str, outputs: int, body: str = UP, top: str = "") -> str:
    """A Deconvolution likewise."""
    return conv(name, bottom, outputs, body, top, "Deconvolution")


# Two layers, which of them stays, and the shape of its weights.
ROWS: Dict[str, Tuple[List[str], str, Tuple[int, ...]]] = {
    "then_1x1": ([deconv("d", "data", 8), conv("c", "d", 5, top="end")], "d", (6, 5, 4, 4)),
    "then_1x1_of_groups": (
        [deconv("d", "data", 8, f"{UP} group: 2"), conv("c", "d", 4, f"{K1} group: 4", "end")],
        "d", (6, 2, 4, 4),
    ),
    "1x1_then": (
        [conv("c", "data", 8, f"{K1} {NO_BIAS}"), deconv("d", "c", 5, top="end")],
        "d", (6, 5, 4, 4),
    ),
    "1x1_of_groups_then": (
        [conv("c", "data", 12, f"{K1} {NO_BIAS} group: 3"),
         deconv("d", "c", 6, f"{UP} group: 6 {NO_BIAS}", "end")],
        "d", (6, 2, 4, 4),
    ),
    "bias_then_1x1": (
        [conv("c", "data", 8), deconv("d", "c", 5, f"{K1} pad: 1", "end")], "d", (6, 5, 1, 1),
    ),
    "point_then_point": (
        [conv("c", "data", 8), deconv("d", "c", 5, K1, "end")], "d", (6, 5, 1, 1),
    ),
    "two": (
        [deconv("d", "data", 8, K2),
         deconv("e", "d", 5, "kernel_size: 1 pad: 1", "end")],
        "e", (6, 5, 2, 2),
    ),
    "other_sides": (
        [deconv("d", "data", 8, "kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 3 dilation: 2"),
         conv("c", "d", 5, top="end")],
        "d", (6, 5, 3, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_two_become_one(merged: Merger, name: str) -> None:
    """The Deconvolution stays."""
    lines, left, shape = ROWS[name]
    result = merged(IN, *lines, END)
    assert result.names == [left, "t"]
    assert (result.layer(left).type, result.layer(left).blobs[0].shape) == ("Deconvolution", shape)
    assert (result.report.after.multiply_adds or 0) <= (result.report.before.multiply_adds or 0)


NEAREST = f"kernel_size: 2 stride: 2 group: 8 {NO_BIAS}"


def test_a_bias_before_nearest_upsampling(merged: Merger) -> None:
    """Each of its output places sees one place, and all the same weight."""
    lines = [conv("c", "data", 8, f"{K1} group: 2"), deconv("d", "c", 8, NEAREST, "end"), END]
    weights = {"d": [np.full((8, 1, 2, 2), 0.5)]}
    assert merged(IN, *lines, weights=weights, serial="always").names == ["d", "t"]
    result = merged(IN, *lines, serial="always")
    result.refused("d", "differ from place to place of the first's bias")


def test_a_bias_of_zeros_is_none(merged: Merger) -> None:
    lines = [conv("c", "data", 8), deconv("d", "c", 5, top="end"), END]
    weights = {"c": [merged(IN, *lines).blobs("c")[0], np.zeros(8)]}
    assert merged(IN, *lines, weights=weights).names == ["d", "t"]


# Two layers and why the second does not go with the first.
APART: Dict[str, Tuple[List[str], str]] = {
    "bias": (
        [conv("a", "data", 8), deconv("b", "a", 5, top="end")],
        "not all places of the second see as many of the first",
    ),
    "window": (
        [conv("a", "data", 8, "kernel_size: 3"), deconv("b", "a", 5, top="end")],
        "a convolution of more than 1x1",
    ),
    "window_behind": (
        [deconv("a", "data", 8), conv("b", "a", 5, "kernel_size: 3", "end")],
        "a convolution of more than 1x1",
    ),
    "stride": (
        [deconv("a", "data", 8), conv("b", "a", 5, f"{K1} stride: 2", "end")], "with a stride",
    ),
    "padding": (
        [deconv("a", "data", 8), conv("b", "a", 5, f"{K1} pad: 1", "end")], "a convolution of",
    ),
    "cut_off": (
        [deconv("a", "data", 8, f"{UP} {NO_BIAS}"), deconv("b", "a", 2, "kernel_size: 3", "end")],
        "the first cuts off places",
    ),
    "multiply_adds": (
        [deconv("a", "data", 4), conv("b", "a", 30, top="end")], "more multiply-adds",
    ),
    "weights": (
        [deconv("a", "data", 6, f"kernel_size: 3 stride: 3 group: 6 {NO_BIAS}"),
         conv("b", "a", 12, top="end")],
        "more weights than the two",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_two_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    lines, reason = APART[name]
    result = merged(IN, *lines, END)
    assert result.names == ["a", "b", "t"]
    result.refused("b", reason)


def test_another_reader_between(merged: Merger) -> None:
    lines = [deconv("d", "data", 8), conv("c", "d", 5, top="end"), "s: AbsVal d -> s", END]
    assert merged(IN, *lines).names == ["d", "c", "s", "t"]


def test_a_fully_connected_layer_behind(merged: Merger) -> None:
    """It reads places, not channels: nothing is said of it."""
    fields = "inner_product_param { num_output: 3 }"
    result = merged(IN, deconv("d", "data", 2), f"f: InnerProduct d -> end {{ {fields} }}", END)
    assert (result.names, result.report.refusals) == (["d", "f", "t"], [])


@pytest.mark.parametrize("kept", ["d", "c"])
def test_kept(merged: Merger, kept: str) -> None:
    result = merged(IN, *ROWS["then_1x1"][0], END, keep=[kept])
    result.refused("c", "one of them is kept as asked with keep")


def test_norms_and_in_place_layers_around(merged: Merger) -> None:
    """FCN-like: the norms go first, what is written over is the Deconvolution's top then."""
    lines = [conv("c", "data", 8, f"{K1} {NO_BIAS}"), "n: BatchNorm c -> c", deconv("d", "c", 6),
             "m: BatchNorm d -> d", conv("e", "d", 5, top="end"), "r: ReLU end -> end"]  # fmt: skip
    assert merged(IN, *lines, END).names == ["c", "d", "r", "t"]


def test_of_unknown_shapes(merged: Merger) -> None:
    """What is before the Deconvolution works at as many places; what is behind it may not."""
    odd = "odd: Mystery data -> x"
    for lines, left in (
        ([conv("c", "x", 8, f"{K1} {NO_BIAS}"), deconv("d", "c", 5, top="end")], ["d"]),
        ([deconv("d", "x", 8), conv("c", "d", 5, top="end")], ["d", "c"]),
    ):
        seeds = merged(IN, *(line.replace(" x ", " data ") for line in lines), serial="never")
        weights = {name: seeds.blobs(name) for name in "cd"}
        assert merged(IN, odd, *lines, END, weights=weights).names == ["odd", *left, "t"]


def test_shared_weights(merged: Merger) -> None:
    """FCN's bilinear upsampling, say, twice: it would not be the same for both."""
    body = f"{UP} {NO_BIAS} }} param {{ name: 'w' "
    lines = [deconv("d", "data", 8, body), conv("c", "d", 5, top="end"), END,
             deconv("e", "data", 8, body), "s: AbsVal e -> s"]  # fmt: skip
    merged(IN, *lines, keep_shared=True).refused("c", "shares its weights with 'e'")
    assert merged(IN, *lines).names == ["d", "t", "e", "s"]


# -- sums ----------------------------------------------------------------------------------

# What is added up, and the shape of the weights that are left.
SUMS: Dict[str, Tuple[List[str], Tuple[int, ...]]] = {
    "alike": ([deconv("a", "data", 4), deconv("b", "data", 4)], (6, 4, 4, 4)),
    "smaller_kernel": (
        [deconv("a", "data", 4), deconv("b", "data", 4, K2)], (6, 4, 4, 4),
    ),
    "groups": (
        [deconv("a", "data", 4, f"{UP} group: 2"), deconv("b", "data", 4, f"{UP} {NO_BIAS}")],
        (6, 4, 4, 4),
    ),
    "one_axis_each": (
        [deconv("a", "data", 4, "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0"),
         deconv("b", "data", 4, "kernel_h: 3 kernel_w: 3 pad: 1"), conv("c", "data", 4)],
        (6, 4, 3, 3),
    ),
    "of_1x1": (
        [conv("p", "data", 9, f"{K1} {NO_BIAS}"), deconv("a", "p", 4), deconv("b", "data", 4)],
        (6, 4, 4, 4),
    ),
    "of_1x1_each": (
        [conv("p", "data", 9, f"{K1} {NO_BIAS}"), deconv("a", "p", 4),
         conv("q", "data", 9, f"{K1} {NO_BIAS}"), deconv("b", "q", 4)],
        (6, 4, 4, 4),
    ),
    "the_blob_itself": (
        [deconv("a", "data", 6, "kernel_size: 3 pad: 1"), "s: Scale data -> s"], (6, 6, 3, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("coefficients", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_sums(merged: Merger, name: str, coefficients: bool) -> None:
    """One Deconvolution is left; kernels of other sizes are placed by their pads."""
    lines, shape = SUMS[name]
    terms = [line.split(":")[0] for line in lines if not line.startswith(("p:", "q:"))]
    fields = " ".join(f"coeff: {n - 0.5}" for n, _ in enumerate(terms)) if coefficients else ""
    both = f"sum: Eltwise {' '.join(terms)} -> end {{ eltwise_param {{ {fields} }} }}"
    result = merged(IN, *lines, both, END, serial="never")
    (left, _) = result.names
    assert (result.layer(left).type, result.layer(left).blobs[0].shape) == ("Deconvolution", shape)


# The input, what is added up, and why it stays.
STAY: Dict[str, Tuple[str, List[str], str]] = {
    "strides": (
        "data 2 6 1 1",
        [deconv("a", "data", 4, K5), deconv("b", "data", 4, f"{K5} stride: 2")],
        "strides",
    ),
    "convolution": (
        IN,
        [deconv("a", "data", 4, SAME), conv("b", "data", 4, SAME)],
        "a convolution of more than 1x1",
    ),
    "multiply_adds": (
        IN,
        [deconv("a", "data", 6, f"{UP} group: 6"),
         deconv("b", "data", 6, K2)],
        "more multiply-adds than its branches",
    ),
    "weights": (
        IN,
        [deconv("p", "data", 1, f"{K2} {NO_BIAS}"), conv("a", "p", 3),
         deconv("q", "data", 1, f"{K2} {NO_BIAS}"), conv("b", "q", 3)],
        "more weights than its branches",
    ),
    "bias_on_the_way": (
        IN,
        [conv("p", "data", 6), deconv("a", "p", 4), deconv("b", "data", 4)],
        "through 'p', 'a' stays: not all places of the second see as many",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAY)
def test_sums_that_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    data, lines, reason = STAY[name]
    result = merged(data, *lines, "sum: Eltwise a b -> end", END, serial="never")
    assert result.names == [*(line.split(":")[0] for line in lines), "sum", "t"]
    result.refused("sum", reason)


def test_some_of_the_bottoms(merged: Merger) -> None:
    """Two of one blob, a third of another: the Eltwise stays with two bottoms."""
    lines = [deconv("a", "data", 4), deconv("b", "data", 4), "v: AbsVal data -> v",
             deconv("c", "v", 4), "sum: Eltwise a c b -> end { eltwise_param { coeff: 2 coeff: 3 "
             "coeff: -1 } }", END]  # fmt: skip
    assert merged(IN, *lines).names == ["a", "v", "c", "sum", "t"]


def test_one_spatial_axis_and_three(merged: Merger) -> None:
    for sizes in ("7", "3 4 5"):
        lines = [deconv("a", "data", 8), deconv("b", "data", 8), "s: Eltwise a b -> s",
                 conv("c", "s", 5, top="end"), END]  # fmt: skip
        assert merged(f"data 2 6 {sizes}", *lines).names == ["a", "t"]


class Ups:
    """Draws Deconvolutions, what is 1x1 before and behind them, and sums."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.count = 0
        self.lines = [f"data 2 4 {self.number(1, 5)} {self.number(1, 5)}"]

    def number(self, least: int, most: int) -> int:
        return int(self.data.draw(st.integers(least, most)))

    def layer(self, kind: str, bottom: str, outputs: int, body: str) -> str:
        self.count += 1
        group = 2 ** self.number(0, 2) if not self.number(0, 2) else 1
        body += f" group: {group} bias_term: {('true', 'false')[self.number(0, 1)]}"
        self.lines.append(conv(f"l{self.count}", bottom, outputs, body, kind=kind))
        return f"l{self.count}"

    def point(self, bottom: str, outputs: int) -> str:
        """A 1x1 convolution or, now and then, a Deconvolution."""
        kind = "Convolution" if self.number(0, 3) else "Deconvolution"
        return self.layer(kind, bottom, outputs, K1)

    def term(self, bottom: str, outputs: int, extent: int, stride: int) -> str:
        """A Deconvolution whose kernel, less its pads, has this ``extent``."""
        if not self.number(0, 2):
            bottom = self.point(bottom, 4)
        pad = self.number(0, 2)
        dilation = 2 if (extent + 2 * pad) % 2 and not self.number(0, 2) else 1
        size = (extent + 2 * pad - 1) // dilation + 1
        body = f"kernel_size: {size} stride: {stride} pad: {pad} dilation: {dilation}"
        top = self.layer("Deconvolution", bottom, outputs, body)
        return top if self.number(0, 2) else self.point(top, outputs)


@examples(60)
@given(data=st.data())
def _random_deconvolutions(merger: Merger, data: st.DataObject) -> None:
    ups, end = Ups(data), "data"
    for _ in range(ups.number(1, 2)):
        extent, stride, outputs = ups.number(1, 4), ups.number(1, 3), 4 * ups.number(1, 2)
        terms = [ups.term(end, outputs, extent, stride) for _ in range(ups.number(1, 3))]
        end = terms[0]
        if len(terms) > 1:
            ups.count += 1
            end = f"s{ups.count}"
            ups.lines.append(f"{end}: Eltwise {' '.join(terms)} -> {end}")
        if ups.number(0, 1):
            end = ups.point(end, 4)
        if outputs > 4 and end[0] != "l":
            break
    note("\n".join(ups.lines))
    serial = ("auto", "always")[ups.number(0, 1)]
    report = merger(*ups.lines, f"t: TanH {end} -> t", seed=ups.number(0, 3), serial=serial).report
    if serial == "auto":
        assert (report.after.multiply_adds or 0) <= (report.before.multiply_adds or 0)


@pytest.mark.hypothesis
def test_random_deconvolutions(merged: Merger) -> None:
    """All that tests.merger checks holds, and nothing grows."""
    _random_deconvolutions(merged)

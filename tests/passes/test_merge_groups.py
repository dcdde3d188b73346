"""merge-groups: equal convolutions of the parts of a Slice, joined again, become one."""

from typing import Dict, List, Tuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.seeds import examples

IN = "data 2 12 9 11"
SLICE = "cut: Slice data -> p q"
CAT, END = "cat: Concat a b -> cat", "t: TanH cat -> t"


def conv(
    name: str, bottom: str, body: str = "kernel_size: 3", outputs: int = 4, top: str = ""
) -> str:
    """A Convolution that writes a blob of its own name, or ``top``."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {top or name} {{ {fields} }}"


A, B = conv("a", "p"), conv("b", "q")
THREE = [f"conv{n}: Convolution p{n} -> c{n} {{ convolution_param {{ num_output: 5 "
         "kernel_size: 3 pad: 1 stride: 2 dilation: 2 } }" for n in range(3)]  # fmt: skip

# The layers in front of the last one, those that are left, and the groups of the first of them.
INTO_ONE: Dict[str, Tuple[List[str], List[str], int]] = {
    "two": ([SLICE, A, B, CAT], ["a"], 2),
    "three": (
        ["cut: Slice data -> p0 p1 p2", *THREE, "cat: Concat c0 c1 c2 -> cat"], ["conv0"], 3,
    ),
    "groups_of_their_own": (
        [SLICE, *(conv(n, x, "kernel_size: 3 group: 2") for n, x in ("ap", "bq")), CAT],
        ["a"], 4,
    ),
    "depthwise": (
        [SLICE, *(conv(n, x, "kernel_size: 3 group: 6", 6) for n, x in ("ap", "bq")), CAT],
        ["a"], 12,
    ),
    "one_without_bias": (
        [SLICE, A, conv("b", "q", "kernel_size: 3 bias_term: false"), CAT], ["a"], 2,
    ),
    "slice_points": (
        ["cut: Slice data -> p q { slice_param { slice_point: 6 } }", A, B, CAT], ["a"], 2,
    ),
    "the_other_way_round_in_the_net": ([SLICE, B, A, CAT], ["a"], 2),
    "norms_between": (
        [SLICE, A, "n: BatchNorm a -> a", B, "m: BatchNorm b -> b", CAT], ["a"], 2,
    ),
    "written_over": ([SLICE, A, "r: ReLU a -> a", B, "s: ReLU b -> b", CAT], ["a", "r"], 2),
    "pointwise": (
        [SLICE, A, B, "r: Sigmoid a -> ra", "s: Sigmoid b -> rb", "cat: Concat ra rb -> cat"],
        ["a", "r"], 2,
    ),
    "pointwise_before": (
        [SLICE, "r: ReLU p -> p", "s: ReLU q -> q", A, B, CAT], ["r", "a"], 2,
    ),
    "two_levels": (
        [SLICE, A, "r: ReLU a -> a", B, "s: ReLU b -> b", conv("c", "a", outputs=5),
         conv("d", "b", outputs=5), "cat: Concat c d -> cat"],
        ["a", "r", "c"], 2,
    ),
    "pooling": (
        [SLICE, A, B, *(f"{n}p: Pooling {n} -> {n}p {{ pooling_param {{ kernel_size: 2 }} }}"
                        for n in "ab"), "cat: Concat ap bp -> cat"],
        ["a", "ap"], 2,
    ),
    "beside_others": (
        [SLICE, A, B, conv("c", "data"), "cat: Concat c a b -> cat"], ["a", "c", "cat"], 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTO_ONE)
def test_groups_of_one(merged: Merger, name: str) -> None:
    """One convolution with as many groups, and one of each of the layers around it."""
    lines, left, group = INTO_ONE[name]
    result = merged(IN, *lines, END)
    assert result.names == [*left, "t"]
    first = next(layer for layer in result.after.layers if layer.type == "Convolution")
    assert first.param.convolution_param.group == group
    assert (result.report.after.multiply_adds or 0) <= (result.report.before.multiply_adds or 0)


def test_a_net_output_keeps_its_name(merged: Merger) -> None:
    result = merged(IN, SLICE, A, B, CAT)
    assert list(result.layer("a").param.top) == ["cat"]


def test_what_is_told(merged: Merger) -> None:
    result = merged(IN, SLICE, A, "r: ReLU a -> a", B, "s: ReLU b -> b", CAT)
    (change,) = result.report.changes
    assert (change.rewrite, change.changed) == ("merge-groups", ("a",))
    assert change.removed == ("cut", "b", "s", "cat")


def param(kind: str, body: str) -> str:
    """The rest of a layer's text."""
    return f"{{ {kind}_param {{ {body} }} }}"


# The layers, what the Concat reads, and why it stays.
REFUSED: Dict[str, Tuple[List[str], str, str]] = {
    "windows": ([SLICE, A, conv("b", "q", "kernel_size: 5 pad: 1")], "a b", "windows differ"),
    "outputs": ([SLICE, A, conv("b", "q", outputs=5)], "a b", "different numbers of outputs"),
    "groups": (
        [SLICE, A, conv("b", "q", "kernel_size: 3 group: 2")], "a b", "differ in their groups",
    ),
    "unequal_parts": (
        [f"cut: Slice data -> p q {param('slice', 'slice_point: 5')}", A, B], "a b",
        "read different numbers of channels",
    ),
    "other_order": ([SLICE, A, B], "b a", "not all parts of Slice 'cut', in its order"),
    "some": (["cut: Slice data -> p q u", A, B, "v: AbsVal u -> v"], "a b",
             "not all parts of Slice 'cut', in its order"),
    "a_part_read_by_others": ([SLICE, A, B, "v: AbsVal q -> v"], "a b", "'q' has other readers"),
    "a_blob_read_by_others": ([SLICE, A, B, "v: AbsVal b -> v"], "a b", "'b' has other readers"),
    "another_layer": (
        [SLICE, A, "r: ReLU a -> a", B, "s: TanH b -> b"], "a b", "'r', 's' differ",
    ),
    "another_slope": (
        [SLICE, A, "r: ReLU a -> a", B, f"s: ReLU b -> b {param('relu', 'negative_slope: 0.1')}"],
        "a b", "'r', 's' differ",
    ),
    "another_length": (
        [SLICE, A, "r: ReLU a -> a", B], "a b", "more layers on one side",
    ),
    "another_level": (
        [SLICE, A, "r: ReLU a -> a", "v: ReLU q -> q", B], "a b", "'a', 'v' differ",
    ),
    "axis": (
        [f"cut: Slice data -> p q {param('slice', 'axis: 2 slice_point: 5')}",
         conv("a", "p"), conv("b", "q", "kernel_h: 2 kernel_w: 3")],
        "a b", "does not cut channels apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_they_stay(merged: Merger, name: str) -> None:
    """And the reason is told."""
    lines, bottoms, reason = REFUSED[name]
    result = merged(IN, *lines, f"cat: Concat {bottoms} -> cat", END)
    assert "cut" in result.names
    result.refused("cat", reason)


@pytest.mark.parametrize("kept", ["cut", "a", "b", "cat"])
def test_kept(merged: Merger, kept: str) -> None:
    result = merged(IN, SLICE, A, B, CAT, END, keep=[kept])
    assert result.names == ["cut", "a", "b", "cat", "t"]
    result.refused("cat", "one of them is kept as asked")


def test_memory_written_by_another(merged: Merger) -> None:
    """The convolutions would read the whole blob later than the Slice did."""
    result = merged(
        IN, conv("x", "data"), "cut: Slice x -> p q", "flat: Flatten x -> flat",
        "tanh: TanH flat -> flat", A, B, CAT, END,
    )  # fmt: skip
    result.refused("cat", "the memory of 'x' is written in place by another")


NOT_TRIED: Dict[str, List[str]] = {
    "no_convolution": [SLICE, "a: ReLU p -> a", "b: ReLU q -> b", CAT],
    "two_slices": [
        "cut: Slice data -> p u", "cut2: Slice data -> v q", A, B, "z: AbsVal u -> z",
        "y: AbsVal v -> y", CAT],
    "one_convolution": [SLICE, A, "b: Pooling q -> b { pooling_param { kernel_size: 3 } }", CAT],
    "sum": [SLICE, A, B, "cat: Eltwise a b -> cat"],
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_TRIED)
def test_what_is_no_such_thing(merged: Merger, kind: str) -> None:
    result = merged(IN, *NOT_TRIED[kind], END, only=["merge-groups"])
    assert (result.report.changes, result.report.refusals) == ([], [])


def test_shared_weights(merged: Merger) -> None:
    """Two of one Concat may share; with a third that stays the first would change for it."""
    body = "kernel_size: 3 bias_term: false } param { name: 'w' "
    lines = [SLICE, conv("a", "p", body), conv("b", "q", body), CAT, END]
    assert merged(IN, *lines, keep_shared=True).names == ["a", "t"]
    third = [conv("other", "data", "kernel_size: 1", 6), conv("c", "other", body)]
    result = merged(IN, *third, *lines, keep_shared=True)
    result.refused("cat", "shares its weights with 'c', kept so with keep_shared")


def test_one_spatial_axis_and_three(merged: Merger) -> None:
    for sizes in ("7", "4 5 6"):
        assert merged(f"data 2 12 {sizes}", SLICE, A, B, CAT, END).names == ["a", "t"]


def test_of_unknown_shapes(merged: Merger) -> None:
    """Behind a layer whose shape nobody knows."""
    lines = ["odd: Mystery data -> x", "cut: Slice x -> p q", A, B, CAT, END]
    seeds = merged(IN, SLICE, A, B, CAT, skip=["merge-groups"])
    weights = {name: seeds.blobs(name) for name in "ab"}
    merged(IN, *lines, weights=weights).refused("cat", "the shape of 'x' is not known")


@examples(25)
@given(data=st.data())
def _random_groups(merger: Merger, data: st.DataObject) -> None:
    """Towers of whatever layers, most of them alike."""

    def number(least: int, most: int) -> int:
        return int(data.draw(st.integers(least, most)))

    towers, levels = number(2, 3), number(1, 3)
    odd = number(0, 3 * towers * levels)  # the layer that is unlike the others, if there is one
    lines = [f"data 2 {4 * towers} {number(5, 9)} {number(5, 9)}"]
    lines.append("cut: Slice data -> " + " ".join(f"b{n}" for n in range(towers)))
    ends = [f"b{n}" for n in range(towers)]
    for level in range(levels):
        kind, size = number(0, 2), number(1, 3)
        group, outputs = number(1, 2), 2 * number(1, 3)
        bias = ("true", "false")[number(0, 1)]
        for tower in range(towers):
            unlike = level * towers + tower == odd
            name = f"l{level}_{tower}"
            if kind == 2 and level:
                fields = "TanH" if unlike else "ReLU"
                lines.append(f"{name}: {fields} {ends[tower]} -> {ends[tower]}")
                continue
            body = f"kernel_size: {size} pad: {size // 2 + size % 2} bias_term: {bias} "
            body += f"group: {3 - group if unlike else group}"
            lines.append(conv(name, ends[tower], body, outputs))
            ends[tower] = name
    lines.append(f"cat: Concat {' '.join(ends)} -> cat")
    note("\n".join(lines))
    result = merger(*lines, END, seed=number(0, 3), serial="never")
    assert ("cut" in result.names) == (odd < towers * levels)


@pytest.mark.hypothesis
def test_random_groups(merged: Merger) -> None:
    """All that tests.merger checks holds; equal towers become one."""
    _random_groups(merged)

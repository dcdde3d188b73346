"""raise-stride: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merged, Merger

IN = "data 2 6 11 14"


def conv(name: str, bottom: str, body: str, top: str = "") -> str:
    return f"{name}: Convolution {bottom} -> {top or name} {{ convolution_param {{ {body} }} }}"


def picks(name: str, bottom: str, body: str = "stride: 2") -> str:
    return conv(name, bottom, f"num_output: 5 kernel_size: 1 {body}")


FIRST = conv("a", "data", "num_output: 8 kernel_h: 3 kernel_w: 2 pad_h: 1 stride: 1")
WAYS: Dict[str, List[str]] = {
    "nothing": [],
    "relu": ["r: ReLU x -> y"],
    "in_place": ["r: ReLU x -> x", "p: PReLU x -> x"],
    "norm": ["s: Sigmoid x -> y", "n: BatchNorm y -> z", "m: Scale z -> z"],
    "power": ["p: Power x -> y { power_param { power: 2 } }"],
    "twice": ["t: TanH x -> y", "e: Eltwise y y -> z { eltwise_param { operation: PROD } }"],
    "pointwise": ["t: TanH x -> y", "u: AbsVal y -> z", "d: Dropout z -> z", "e: ELU z -> w"],
}


def strides(result: Merged) -> Dict[str, List[int]]:
    """Name -> stride, height and width, of the convolutions that are left."""
    actual = {}
    for layer in result.after.layers:
        if layer.type == "Convolution":
            param = layer.param.convolution_param
            pair = [param.stride_h, param.stride_w] if param.stride_h else list(param.stride) * 2
            actual[layer.name] = pair[:2] or [1, 1]
    return actual


def way(name: str) -> List[str]:
    return [line.replace("x", "a") for line in WAYS[name]]


def end(lines: List[str]) -> str:
    return lines[-1].split(" -> ")[1].split()[0] if lines else "a"


@pytest.mark.parametrize("name", WAYS)
def test_through_what_computes_each_place_by_itself(merged: Merger, name: str) -> None:
    between = way(name)
    readers = [picks("b", end(between)), picks("c", end(between), "stride: 2 bias_term: false")]
    result = merged(IN, FIRST, *between, *readers, only=["drop-identity", "raise-stride"])
    assert strides(result) == {"a": [2, 2], "b": [1, 1], "c": [1, 1]}


@pytest.mark.parametrize("height", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("first", [
    "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 stride: 3 pad: 1", "kernel_size: 1",
    "kernel_h: 3 kernel_w: 1 pad_h: 1 stride_h: 1 stride_w: 2 dilation: 2 pad_w: 0",
    "kernel_size: 3 pad: 1 group: 2",
])  # fmt: skip
def test_the_strides_multiply_at_every_size(merged: Merger, first: str, height: int) -> None:
    """Sizes and values are those of before, whatever remainder the strides leave."""
    layer = conv("a", "data", f"num_output: 8 {first}")
    reader = picks("b", "r", "stride_h: 2 stride_w: 3")
    result = merged(f"data 2 6 {height + 4} 13", layer, "r: ReLU a -> r", reader)
    assert strides(result)["b"] == [1, 1]


def test_a_net_output_keeps_its_name_and_an_inner_blob_gets_a_new_one(merged: Merger) -> None:
    result = merged(IN, FIRST, "r: ReLU a -> r", picks("b", "r"), only=["raise-stride"])
    tops = [top for layer in result.after.layers for top in layer.param.top]
    assert tops[-1] == "b"
    assert {"a", "r"}.isdisjoint(tops)


def test_it_goes_on_to_the_next(merged: Merger) -> None:
    """A 1x1 convolution that took a stride in hands it on to what is before it."""
    lines = [FIRST, "r: ReLU a -> r", conv("m", "r", "num_output: 7 kernel_size: 1"),
             "q: ReLU m -> m", picks("b", "m")]  # fmt: skip
    result = merged(IN, *lines)
    assert strides(result) == {"a": [2, 2], "m": [1, 1], "b": [1, 1]}


def shortcut(other: str, join: str = "Eltwise") -> List[str]:
    """A residual block: ``other`` is the bottom of the sum beside the convolution ``k``."""
    return [
        conv("h", "data", "num_output: 6 kernel_size: 3 pad: 1"),
        "hr: ReLU h -> hr",
        conv("k", "hr", "num_output: 6 kernel_size: 3 pad: 1"),
        f"sum: {join} {other} k -> sum",
        "sr: ReLU sum -> sum",
        picks("b", "sum"),
        picks("c", "sum", "stride: 2 bias_term: false"),
    ]


@pytest.mark.parametrize("join", ["Eltwise", "Concat"])
def test_a_shared_shortcut_is_picked_by_a_convolution_of_ones(merged: Merger, join: str) -> None:
    result = merged(IN, *shortcut("hr", join), only=["raise-stride"])
    assert strides(result)["k"] == [2, 2]
    picking = result.layer("hr_stride")
    assert picking.param.convolution_param.group == 6
    assert (result.blobs("hr_stride")[0] == 1).all()
    assert result.report.changes[0].added == ("hr_stride",)
    assert result.after.layers.index(picking) == result.after.layers.index(result.layer("sum")) - 1


def test_both_bottoms_of_a_sum_take_it_in_where_they_are_private(merged: Merger) -> None:
    lines = [conv("g", "data", "num_output: 6 kernel_size: 1"), *shortcut("g")]
    result = merged(IN, *lines, only=["raise-stride"])
    assert strides(result) == {
        "g": [2, 2], "h": [1, 1], "k": [2, 2], "b": [1, 1], "c": [1, 1],
    }  # fmt: skip


def test_names_that_are_taken(merged: Merger) -> None:
    lines = shortcut("hr")
    lines.insert(2, "hr_stride: Sigmoid hr -> hr_stride")
    result = merged(IN, *lines, only=["raise-stride"])
    assert result.report.changes[0].added == ("hr_stride2",)


@pytest.mark.parametrize("rounding", ["round_mode: FLOOR", "ceil_mode: false"])
def test_a_pooling_that_rounds_down(merged: Merger, rounding: str) -> None:
    """In BVLC's last version a Pooling may round down; then it picks what a convolution does.

    Forks say it as ceil_mode: false.
    """
    reader = f"b: Pooling r -> b {{ pooling_param {{ kernel_size: 1 stride: 2 {rounding} }} }}"
    result = merged(IN, FIRST, "r: ReLU a -> r", reader, only=["raise-stride"])
    assert strides(result) == {"a": [2, 2]}
    assert rounding in result.text


REFUSED: Dict[str, List[str]] = {
    "other places of the blob are read as well, by 'c'": [
        FIRST, picks("b", "a"), "c: Sigmoid a -> c",
    ],
    "other places of the blob are read as well, by 'c', 'd'": [
        FIRST, picks("b", "a"), "c: Sigmoid a -> c", "d: TanH a -> d",
    ],
    "Pooling 'b' rounds its size up": [
        FIRST, "b: Pooling a -> b { pooling_param { kernel_size: 1 stride: 2 } }"],
    "'r' has other readers": [FIRST, "r: ReLU a -> r", "q: Sigmoid r -> q", "s: AbsVal r -> s",
                              picks("b", "s")],
    "Pooling 'm' makes what it reads": [
        FIRST, "m: Pooling a -> m { pooling_param { kernel_size: 2 stride: 2 } }", picks("b", "m")],
    "Input 'data' makes what it reads": [picks("b", "data")],
    "Softmax 's' makes what it reads": [FIRST, "s: Softmax a -> s", picks("b", "s")],
    "Deconvolution 'd' makes what it reads": [
        "d: Deconvolution data -> d { convolution_param { num_output: 3 kernel_size: 2 } }",
        picks("b", "d")],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_hands_no_stride_on(merged: Merger, reason: str) -> None:
    result = merged(IN, *REFUSED[reason], only=["raise-stride"])
    result.refused("b", reason)


NOT_TRIED: Dict[str, List[str]] = {
    "strides differ": [picks("b", "a"), picks("c", "a", "stride: 3")],
    "a reader needs all": [picks("b", "a"), "c: Sigmoid a -> c"],
    "a kernel": [conv("b", "a", "num_output: 5 kernel_size: 2 stride: 2")],
    "padding": [picks("b", "a", "stride: 2 pad: 1")],
    "rounds up": ["b: Pooling a -> b { pooling_param { kernel_size: 1 stride: 2 } }"],
    "stride 1": [picks("b", "a", "")],
}


@pytest.mark.parametrize("kind", NOT_TRIED)
def test_what_picks_no_places(merged: Merger, kind: str) -> None:
    result = merged(IN, FIRST, *NOT_TRIED[kind], only=["raise-stride"])
    assert result.report.changes == []


def test_where_nothing_is_saved(merged: Merger) -> None:
    layer = conv("a", "data", "num_output: 8 kernel_h: 11 kernel_w: 14")
    merged(IN, layer, picks("b", "a"), only=["raise-stride"]).refused("b", "save no multiply-adds")


@pytest.mark.parametrize("operation", ["MAX", "PROD"])
def test_through_a_norm_that_nothing_takes_in(merged: Merger, operation: str) -> None:
    """A mean far from 0 is subtracted: what is added up is more than the values that are left."""
    lines = [conv(name, "data", "num_output: 4 kernel_size: 3 pad: 1") for name in ("a", "b")]
    lines.append(f"e: Eltwise a b -> e {{ eltwise_param {{ operation: {operation} }} }}")
    lines += ["n: BatchNorm e -> n", "s: Sigmoid n -> s", picks("c", "s")]
    far = {"n": [np.full(4, 2.0), np.full(4, 0.7), np.ones(1)]}
    result = merged(IN, *lines, weights=far)
    assert strides(result) == {"a": [2, 2], "b": [2, 2], "c": [1, 1]}
    assert merged(IN, *lines, weights=far, only=["raise-stride"]).report.changes


def test_through_a_log(merged: Merger) -> None:
    lines = [FIRST, "s: Sigmoid a -> s", "l: Log s -> l { log_param { shift: 0.1 } }"]
    result = merged(IN, *lines, picks("b", "l"), only=["raise-stride"])
    assert strides(result) == {"a": [2, 2], "b": [1, 1]}


@pytest.mark.parametrize("kept", ["a", "b"])
def test_kept_as_asked(merged: Merger, kept: str) -> None:
    lines = [IN, FIRST, "r: ReLU a -> r", picks("b", "r")]
    result = merged(*lines, only=["raise-stride"], keep=[kept])
    assert result.report.changes == []

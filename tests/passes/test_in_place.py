"""in-place: it fires where nobody else sees the blob, and refuses by kind."""

from typing import Dict, List, Tuple

import pytest

from caffe_merge.merging.report import Size
from tests.merger import Merged, Merger

IN = "data 2 4 7 6"
CONV = "conv: Convolution data -> a { convolution_param { num_output: 5 kernel_size: 3 } }"
LAST = "last: Pooling b -> c { pooling_param { kernel_size: 2 stride: 2 } }"
A, B = 2 * 5 * 5 * 4 * 4, 2 * 5 * 3 * 2 * 4  # bytes of the blobs a, b and of c


def sizes(result: Merged) -> Tuple[Size, Size]:
    return result.report.before, result.report.after


def in_place(result: Merged) -> List[str]:
    """The layers that write over their bottom."""
    layers = result.after.layers
    return [layer.name for layer in layers if list(layer.param.bottom) == list(layer.param.top)]


LAYERS = {
    "relu": "x: ReLU a -> b",
    "leaky": "x: ReLU a -> b { relu_param { negative_slope: 0.1 } }",
    "prelu": "x: PReLU a -> b",
    "scale": "x: Scale t -> b { scale_param { bias_term: true } }",
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_fires(merged: Merger, name: str) -> None:
    before = ["t: TanH a -> t"] if name == "scale" else []
    result = merged(IN, CONV, *before, LAYERS[name], LAST, in_place=True)
    assert in_place(result) == ["x"]
    assert list(result.layer("x").param.top) == ["b"]  # the blob that holds what it held
    old, new = (size.activation_bytes or 0 for size in sizes(result))
    assert old - new == (A if "elu" in LAYERS[name].lower() and name != "prelu" else 0)
    (change,) = [change for change in result.report.changes if change.rewrite == "in-place"]
    assert change.changed == ("x",)


def test_an_output_keeps_its_name(merged: Merger) -> None:
    result = merged(IN, CONV, "x: ReLU a -> b", in_place=True)
    assert [list(layer.param.top) for layer in result.after.layers] == [["data"], ["b"], ["b"]]


def test_behind_another_in_place(merged: Merger) -> None:
    """All blobs of the chain have the name of the last."""
    lines = ["t: TanH a -> a", "s: Scale a -> a", "x: ReLU a -> b", LAST]
    result = merged(IN, CONV, *lines, in_place=True)
    assert in_place(result) == ["t", "s", "x"]


SKIP = ["drop-identity", "drop-rectifier", "fold-permute"]  # they would leave less to write over


@pytest.mark.parametrize(
    "shared",
    [
        ["f: Flatten b -> f", "y: PReLU f -> f"],
        ["f: Reshape b -> f { reshape_param { shape { dim: 2 dim: -1 } } }", "y: Sigmoid f -> f"],
        ["f: Split b -> f", "y: TanH f -> f"],
    ],
)
def test_memory_that_is_written_further_down(merged: Merger, shared: List[str]) -> None:
    """The top's memory is shared and written over later: the bottom, which nobody reads, may be."""
    end = "ip: InnerProduct f -> c { inner_product_param { num_output: 3 } }"
    result = merged(IN, CONV, "x: ReLU a -> b", *shared, end, in_place=True, skip=SKIP)
    assert "x" in in_place(result)
    assert [change.rewrite for change in result.report.changes] == ["in-place"]


def test_over_memory_that_nobody_else_reads(merged: Merger) -> None:
    """Both names are gone of which it is: what they held is written over."""
    result = merged(IN, CONV, "f: Flatten a -> f", "x: ReLU f -> b", in_place=True)
    assert in_place(result) == ["x"]
    assert result.report.blobs_gone == ["a", "f"]


def test_behind_folds(merged: Merger) -> None:
    lines = ["n: BatchNorm a -> n", "s: Scale n -> s", "x: ReLU s -> b", LAST]
    result = merged(IN, CONV, *lines, in_place=True)
    assert result.names == ["conv", "x", "last"]
    assert in_place(result) == ["x"]
    old, new = (size.activation_bytes or 0 for size in sizes(result))
    assert old - new == 5 * A  # with both buffers of the BatchNorm


def test_off_by_default_and_on_by_its_name(merged: Merger) -> None:
    assert in_place(merged(IN, CONV, "x: ReLU a -> b", LAST)) == []
    assert in_place(merged(IN, CONV, "x: ReLU a -> b", LAST, only=["in-place"])) == ["x"]


def test_with_equalize(merged: Merger) -> None:
    lines = ["x: ReLU a -> b", "z: Convolution b -> z { convolution_param { num_output: 3 "
             "kernel_size: 1 } }"]  # fmt: skip
    result = merged(IN, CONV, *lines, in_place=True, equalize=True)
    assert in_place(result) == ["x"]


REFUSED: Dict[str, Tuple[List[str], str]] = {
    "another_reader": ([CONV, "x: ReLU a -> b", "t: TanH a -> t"], "'a' is read by 't' as well"),
    "input": (["x: ReLU data -> b"], "'data' is a net input"),
    "input_behind": (["t: TanH data -> data", "x: ReLU data -> b"], "'data' is a net input"),
    "shared_memory": ([CONV, "f: Flatten a -> f", "x: ReLU f -> b", "t: TanH a -> t"],
                      "the memory of its bottom 'f' is that of another blob too"),
    "memory_of_the_input": (["f: Flatten data -> f", "x: ReLU f -> b"],
                            "'f' is that of another blob too"),
    "two_bottoms": (["v 2 5", CONV, "t: TanH a -> t",
                     "x: Scale t v -> b { scale_param { axis: 0 } }"],
                    "it has not one bottom and one top"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(merged: Merger, name: str) -> None:
    lines, reason = REFUSED[name]
    merged(IN, *lines, in_place=True).refused("x", reason)


def test_what_the_user_keeps(merged: Merger) -> None:
    result = merged(IN, CONV, "x: ReLU a -> b", LAST, in_place=True, keep=["x"])
    result.refused("x", "kept as asked")


def test_it_refuses_what_a_fork_does(merged: Merger) -> None:
    lines = [CONV, "x: ReLU a -> b { relu_param { unheard: 3 } }", LAST]
    merged(IN, *lines, in_place=True).refused("x", "unheard")

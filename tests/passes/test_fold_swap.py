"""fold-swap: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List, Tuple

import numpy as np
import pytest

from tests.merger import Merger

IN = "data 2 12 9 11"
CAT = "cat: Concat data data -> x"  # behind it nothing goes back
SWAP = (
    "p: Convolution x -> s { convolution_param { num_output: 24 kernel_size: 1 bias_term: false } }"
)
ORDER = np.roll(np.arange(24), 5)  # its inverse is another
WEIGHTS = {"p": [np.eye(24)[ORDER].reshape(24, 24, 1, 1)]}


def conv(name: str, body: str = "kernel_size: 3", bottom: str = "s") -> str:
    return (
        f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ num_output: 6 {body} }} }}"
    )


def fc(name: str, body: str = "") -> str:
    body = f"inner_product_param {{ num_output: 5 {body} }}"
    return f"{name}: InnerProduct s -> {name} {{ {body} }}"


def deconv(name: str, body: str = "") -> str:
    body = f"convolution_param {{ num_output: 6 kernel_size: 4 stride: 2 {body} }}"
    return f"{name}: Deconvolution s -> {name} {{ {body} }}"


READERS: Dict[str, List[str]] = {
    "convolution": [conv("c")],
    "padded": [conv("c", "kernel_h: 3 kernel_w: 2 pad: 1 stride: 2 bias_term: false")],
    "deconvolution": [deconv("c", "pad: 1")],
    "product": [fc("c")],
    "product_transposed": [fc("c", "transpose: true bias_term: false")],
    "several": [conv("c"), conv("d", "kernel_size: 1 pad: 1"), fc("e")],
    "power": ["w: Power s -> w { power_param { shift: 2 } }",
              conv("c", "kernel_size: 3 pad: 1", "w")],
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_into_what_reads_it(merged: Merger, name: str) -> None:
    """The convolution that changes the order is gone, those that read it have other weights."""
    result = merged(IN, CAT, SWAP, *READERS[name], weights=WEIGHTS, only=["fold-swap"])
    assert "p" not in result.names
    assert "'c'" in result.report.changes[0].note or name == "power"


@pytest.mark.parametrize("place", ["s", "n"])
def test_through_what_is_affine_per_channel(merged: Merger, place: str) -> None:
    """BatchNorm and Scale have their values in the other order; in place or not."""
    lines = [
        f"bn: BatchNorm s -> {place}",
        f"scale: Scale {place} -> {place} {{ scale_param {{ bias_term: true }} }}",
        conv("c", "kernel_size: 3 pad: 1", place),
    ]
    result = merged(IN, CAT, SWAP, *lines, weights=WEIGHTS, only=["fold-swap"])
    assert result.names == ["cat", "bn", "scale", "c"]
    assert place not in {top for layer in result.after.layers for top in layer.param.top}


def test_all_passes_together(merged: Merger) -> None:
    """The order first, so that what is affine goes on."""
    lines = ["scale: Scale s -> n { scale_param { bias_term: true } }", conv("c", bottom="n")]
    assert merged(IN, CAT, SWAP, *lines, weights=WEIGHTS).names == ["cat", "c"]


REFUSED: Dict[str, Tuple[List[str], str]] = {
    "grouped": ([conv("c", "kernel_size: 3 group: 2")], "it is grouped, and channels of different"),
    "grouped_deconvolution": ([deconv("c", "group: 3")], "it is grouped"),
    "product_axis": ([fc("c", "axis: 2")], "its axis is 2, not 1"),
    "relu": (["r: ReLU s -> r", conv("c", bottom="r")], "ReLU 'r' reads it: it cannot take it in"),
    "another_reader": ([conv("c"), "t: TanH s -> t"], "TanH 't' reads it: it cannot take it in"),
    "another_axis": (
        ["w: Scale s -> w { scale_param { axis: 3 } }", conv("c", bottom="w")],
        "Scale 'w' reads it: it cannot take it in",
    ),
    "output": ([], "'s' is a net output"),
    "output_behind": (["w: Scale s -> w"], "'w' is a net output"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_stays(merged: Merger, name: str) -> None:
    lines, reason = REFUSED[name]
    result = merged(IN, CAT, SWAP, *lines, weights=WEIGHTS, only=["fold-swap"])
    result.refused("p", reason)


def test_memory_that_is_written_in_place(merged: Merger) -> None:
    """Behind the Flatten, whose memory is that of its bottom, nobody may read that anew."""
    lines = [SWAP, "f: Flatten x -> y", "t: TanH y -> y", conv("c")]
    result = merged(IN, CAT, *lines, weights=WEIGHTS, only=["fold-swap"])
    result.refused("p", "the memory of 'x' is written in place by another")


@pytest.mark.parametrize("kept", ["p", "c"])
def test_keep(merged: Merger, kept: str) -> None:
    lines = [IN, CAT, SWAP, conv("c")]
    result = merged(*lines, weights=WEIGHTS, keep=[kept], only=["fold-swap"])
    result.refused("p", "kept as asked" if kept == "p" else "layer 'c', which reads it, is kept")


def test_shared_weights(merged: Merger) -> None:
    first = conv("c", "kernel_size: 3 bias_term: false").replace(" } }", " } param { name: 'w' } }")
    lines = [IN, CAT, SWAP, first, first.replace("c:", "d:").replace("-> c", "-> d")]
    result = merged(*lines, weights=WEIGHTS, only=["fold-swap"])
    assert result.names == ["cat", "c", "d"]
    assert [result.layer(name).param.param[0].name for name in "cd"] == ["w", "w"]


NO_ORDER = {
    "two_of_one": np.eye(24)[np.r_[1, 1:24]],
    "another_value": np.eye(24)[ORDER] * np.linspace(1, 2, 24),
    "means": np.kron(np.diag([1.0] * 11 + [0]), np.eye(2)) + np.pad(np.full((2, 2), 0.5), (22, 0)),
    "two_in_a_row": np.eye(24) + np.eye(24)[ORDER],
}


@pytest.mark.parametrize("name", NO_ORDER)
def test_other_convolutions_stay(merged: Merger, name: str) -> None:
    weights = {"p": [NO_ORDER[name].reshape(24, 24, 1, 1)]}
    result = merged(IN, CAT, SWAP, conv("c"), weights=weights, only=["fold-swap"])
    assert result.report.changes == []


@pytest.mark.parametrize("body", ["pad: 1", "stride: 2"])
def test_other_windows_stay(merged: Merger, body: str) -> None:
    line = SWAP.replace("kernel_size: 1", f"kernel_size: 1 {body}")
    result = merged(IN, CAT, line, conv("c"), weights=WEIGHTS, only=["fold-swap"])
    assert result.report.changes == []

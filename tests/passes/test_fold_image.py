"""fold-image: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List, Tuple

import pytest

from tests.merger import Merger

IN = "data 2 3 9 11"
T = "t: TanH data -> x"
BIAS = "m: Bias x -> s { bias_param { num_axes: 3 } }"


def conv(name: str, body: str, bottom: str = "s") -> str:
    body = f"convolution_param {{ num_output: 6 {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {body} }}"


def fc(name: str, body: str = "") -> str:
    body = f"inner_product_param {{ num_output: 5 {body} }}"
    return f"{name}: InnerProduct s -> {name} {{ {body} }}"


READERS: Dict[str, List[str]] = {
    "product": [fc("c")],
    "no_bias": [fc("c", "bias_term: false")],
    "transposed": [fc("c", "transpose: true")],
    "covering": [conv("c", "kernel_h: 9 kernel_w: 11")],
    "covering_grouped": [conv("c", "kernel_h: 9 kernel_w: 11 group: 3 bias_term: false")],
    "covering_padded": [conv("c", "kernel_h: 11 kernel_w: 13 pad: 1")],
    "several": [fc("c"), conv("d", "kernel_h: 9 kernel_w: 11")],
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("axis", ["num_axes: 3", "axis: -3 num_axes: -1"])
def test_into_what_sees_it_whole(merged: Merger, name: str, axis: str) -> None:
    """A position's own value is no longer its own in a sum over all positions."""
    result = merged(IN, T, BIAS.replace("num_axes: 3", axis), *READERS[name])
    assert "m" not in result.names
    assert result.fate("m").detail.startswith("folded forwards into 'c'")
    assert len(result.blobs("c")) == 2


def test_in_place(merged: Merger) -> None:
    """The blob that it wrote over has another name where the value is another."""
    line = "m: Bias x -> x { bias_param { num_axes: 3 } }"
    result = merged(IN, T, line, fc("c").replace("s ->", "x ->"))
    assert "x" not in {top for layer in result.after.layers for top in layer.param.top}


REFUSED: Dict[str, Tuple[List[str], str]] = {
    "several_places": ([conv("c", "kernel_size: 3")], "Convolution 'c' reads it: its output has"),
    "product_axis": ([fc("c", "axis: 2")], "its output has several places"),
    "another_reader": ([fc("c"), "u: TanH s -> u"], "TanH 'u' reads it: it cannot take it in"),
    "output": ([], "'s' is a net output"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_stays(merged: Merger, name: str) -> None:
    lines, reason = REFUSED[name]
    merged(IN, T, BIAS, *lines).refused("m", reason)


def test_memory_that_is_written_in_place(merged: Merger) -> None:
    """Behind the Flatten, whose memory is that of its bottom, nobody may read that anew."""
    result = merged(IN, T, BIAS, "f: Flatten x -> y", "u: TanH y -> y", fc("c"))
    result.refused("m", "the memory of 'x' is written in place by another")


def test_over_a_net_input(merged: Merger) -> None:
    """It keeps its name; nobody may read it behind another layer that writes over it."""
    line = "m: Bias data -> data { bias_param { num_axes: 3 } }"
    product = fc("c").replace("s ->", "data ->")
    assert merged(IN, line, product).names == ["c"]
    result = merged(IN, "r: ReLU data -> data", line, product)
    result.refused("m", "it is written over 'data', which keeps its name")


@pytest.mark.parametrize("kept", ["m", "c"])
def test_keep(merged: Merger, kept: str) -> None:
    result = merged(IN, T, BIAS, fc("c"), keep=[kept])
    result.refused("m", "kept as asked" if kept == "m" else "layer 'c', which reads it, is kept")


@pytest.mark.parametrize("body", ["axis: 2 num_axes: 2", "num_axes: 2"])
def test_part_of_an_image_stays(merged: Merger, body: str) -> None:
    result = merged(IN, T, BIAS.replace("num_axes: 3", body), fc("c"))
    result.refused("m", "it varies along axes")

"""drop-crop: it fires where sizes are equal at every size of the input, and only there."""

from typing import Dict, List

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caffe_merge.algebra.sizes import Floor, Size, then
from caffe_merge.errors import NetError
from caffe_merge.net.graph import Graph
from caffe_merge.passes.rewriting.axis_sizes import size_of
from tests.merger import Merger
from tests.nets import parse, prototxt
from tests.real_caffe import RealCaffe
from tests.seeds import examples

IN = "data 2 3 16 12"
END = "end: TanH y -> end"
CROP = "k: Crop {} {} -> y {{ crop_param {{ axis: {} }} }}"


def conv(name: str, bottom: str, body: str = "kernel_size: 3 pad: 1", kind: str = "") -> str:
    fields = f"convolution_param {{ num_output: 5 {body} }}"
    return f"{name}: {kind or 'Convolution'} {bottom} -> {name} {{ {fields} }}"


def pool(name: str, bottom: str, body: str = "kernel_size: 2 stride: 2") -> str:
    return f"{name}: Pooling {bottom} -> {name} {{ pooling_param {{ {body} }} }}"


EQUAL: Dict[str, List[str]] = {
    "of the input": [conv("a", "data"), CROP.format("a", "data", 2)],
    "of itself": [conv("a", "data"), CROP.format("a", "a", 0)],
    "two ways to half": [conv("a", "data", "kernel_size: 3 pad: 1 stride: 2"), pool("b", "data"),
                         CROP.format("a", "b", 2)],
    "two steps or one": [pool("a", "data", "kernel_size: 4 stride: 4"), pool("p", "data"),
                         pool("b", "p"), CROP.format("a", "b", 2)],
    "up and down": [pool("p", "data"), conv("u", "p", "kernel_size: 2 stride: 2", "Deconvolution"),
                    conv("a", "u", "kernel_size: 2 stride: 2"), CROP.format("a", "p", 2)],
    "channels too": [conv("a", "data"), conv("b", "data"), "t: TanH b -> t",
                     CROP.format("a", "b", 1)],
    "places of one": [pool("a", "data", "global_pooling: true"), conv("c", "data"),
                      pool("b", "c", "global_pooling: true"), "t: TanH b -> t",
                      CROP.format("a", "b", 2)],
    "behind a crop": [conv("a", "data"), "j: Crop data a -> j { crop_param { axis: 2 } }",
                      conv("b", "j"), "t: TanH a -> t", CROP.format("b", "a", 2)],
}  # fmt: skip
OTHER: Dict[str, List[str]] = {
    "up behind down": [pool("p", "data"),
                       conv("u", "p", "kernel_size: 2 stride: 2", "Deconvolution"),
                       CROP.format("u", "data", 2)],
    "rounded down and up": [pool("a", "data"),
                            pool("b", "data", "kernel_size: 2 stride: 2 round_mode: FLOOR"),
                            "t: TanH b -> t", CROP.format("a", "b", 2)],
    "smaller than a kernel": [conv("p", "data", "kernel_size: 4 stride: 3"),
                              conv("a", "p", "kernel_size: 2 pad: 1"),
                              conv("b", "data", "kernel_size: 3 stride: 3 pad: 1"),
                              "t: TanH b -> t", CROP.format("a", "b", 2)],
    "another input": ["other 2 5 16 12", conv("a", "data"), "t: TanH other -> t",
                      CROP.format("a", "other", 2)],
    "its batch": ["other 2 3 16 12", conv("a", "data"), conv("b", "other"), "t: TanH b -> t",
                  CROP.format("a", "b", 0)],
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_goes(merged: Merger, name: str) -> None:
    only = ["drop-crop"]
    lines = [*EQUAL[name], END]
    result = merged(IN, *lines, *(["e: TanH b -> e"] if any("b:" in x for x in lines) else []),
                    only=only)  # fmt: skip
    assert "k" not in result.names


@pytest.mark.parametrize("name", OTHER)
def test_stays_where_another_input_size_would_be_cropped(merged: Merger, name: str) -> None:
    result = merged(IN, *OTHER[name], END, only=["drop-crop"])
    assert "k" in result.names
    assert any("at another size" in refusal.reason for refusal in result.report.refusals)


REFUSED: Dict[str, List[str]] = {
    "would be a net output": [conv("a", "data"), conv("b", "data"), CROP.format("a", "b", 2), END],
    "kept as asked": [conv("a", "data"), CROP.format("a", "data", 2), END],
    "would have readers": [conv("a", "data"), "t: TanH a -> t", CROP.format("a", "data", 2)],
    "a fork's field": [conv("a", "data"),
                       CROP.format("a", "data", 2).replace("axis", "odd: 1 axis"), END],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    keep = ["k"] if reason == "kept as asked" else []
    weights = {"a": [np.ones((5, 3, 3, 3)), np.ones(5)]}
    result = merged(IN, *REFUSED[reason], keep=keep, only=["drop-crop"], weights=weights)
    assert "k" in result.names
    said = [refusal.reason for refusal in result.report.refusals if refusal.layer == "k"]
    assert not said or reason in said[0]
    assert said or "fork" in reason  # its shape is not known then


def test_two_crops_to_the_size_of_one_blob(merged: Merger) -> None:
    """The second stays: nobody else reads the blob."""
    lines = [conv("a", "data"), conv("b", "data"), conv("c", "data"), CROP.format("a", "b", 2),
             CROP.format("c", "b", 2).replace("k:", "l:").replace("-> y", "-> z"),
             "s: Eltwise y z -> s"]  # fmt: skip
    assert merged(IN, *lines, only=["drop-crop"]).names == ["a", "b", "c", "l", "s"]


def test_in_place_around(merged: Merger) -> None:
    lines = [conv("a", "data"), "r: ReLU a -> a", CROP.format("a", "data", 2), "t: TanH y -> y",
             "e: TanH a -> e"]  # fmt: skip
    assert merged(IN, *lines[:4], only=["drop-crop"]).names == ["a", "r", "t"]
    assert merged(IN, *lines, only=["drop-crop"]).names == ["a", "r", "t", "e"]


def test_of_an_input_smaller_than_a_kernel(real_caffe: RealCaffe) -> None:
    """C's division gives the kernel one place: the Crop above takes one of two there."""
    for side, whole, part in (16, 6, 6), (2, 2, 1):
        text = prototxt(f"data 2 3 {side} {side}", *OTHER["smaller than a kernel"])
        tops = real_caffe.top_shapes(text)
        assert (tops["a"][2], tops["y"][2]) == (whole, part)


_FLOORS = st.builds(Floor, st.integers(0, 4), st.integers(-9, 9), st.integers(1, 4))


@examples(200)
@given(st.lists(_FLOORS, max_size=5), st.integers(1, 99))
def test_algebra(steps: List[Floor], start: int) -> None:
    size, value = Size(), start
    for step in steps:
        size, value = then(size, step), max(step(value), 1)
    assert size(start) == value
    assert size(1) == size.least


@examples(60)
@given(st.data())
def test_sizes_are_those_of_the_layers(data: st.DataObject) -> None:
    """What is said of a size holds for each size that the net can be run at."""
    lines = _drawn(data)
    height = _height_of(lines)
    for size in range(1, 33):
        try:
            graph = _graph(size, lines)
        except NetError:
            continue
        top = graph.tops[graph.layers[-1]][0]
        assert top.shape is not None
        assert top.shape[2] == height(size)


@examples(20)
@given(st.data())
def test_small_sizes_are_those_of_real_caffe(real_caffe: RealCaffe, data: st.DataObject) -> None:
    lines, size = _drawn(data), data.draw(st.integers(1, 12))
    try:
        _graph(size, lines)
    except NetError:
        assume(False)
    tops = real_caffe.top_shapes(prototxt(f"data 2 3 {size} 40", *lines))
    assert tops[f"l{len(lines) - 1}"][2] == _height_of(lines)(size)


def _drawn(data: st.DataObject) -> List[str]:
    """A few windows in a row, the last of them ``l<n>``."""
    lines, last = [], "data"
    for number in range(data.draw(st.integers(1, 4))):
        kernel, stride, pad = (data.draw(st.integers(low, high)) for low, high in
                               ((1, 4), (1, 3), (0, 2)))  # fmt: skip
        body = f"kernel_size: {kernel} stride: {stride} pad: {min(pad, kernel - 1)}"
        kind = data.draw(st.sampled_from(["Convolution", "Deconvolution", "Pooling", "FLOOR"]))
        if kind in ("Pooling", "FLOOR"):
            lines.append(pool(f"l{number}", last, body + " round_mode: FLOOR" * (kind == "FLOOR")))
        else:
            lines.append(conv(f"l{number}", last, body, kind))
        last = f"l{number}"
    return lines


def _graph(size: int, lines: List[str]) -> Graph:
    return Graph(parse(prototxt(f"data 2 3 {size} 40", *lines)).layers, {})


def _height_of(lines: List[str]) -> Size:
    """The height that the last layer is said to have."""
    graph = _graph(32, lines)
    origin = size_of(graph, graph.tops[graph.layers[-1]][0], 2)
    assert origin.version is graph.tops[graph.layers[0]][0]
    return origin.size

"""Random nets of what the small rewrites are for: Permutes in rows, before InnerProducts, ReLUs
behind what is never negative, Crops, sums of InnerProducts and convolutions, maps over the input.

They are merged, run at the size of the text in float64 and in Caffe, and at other sizes where all
of their layers take these.
"""

from typing import List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError
from caffe_merge.net.graph import Graph
from tests.merger import Merger, assert_equal, random_inputs, run
from tests.nets import load_pair
from tests.real_caffe import RealCaffe
from tests.seeds import examples
from tests.test_random_moving import PARTS, Moving

NEVER_NEGATIVE = ("Sigmoid", "AbsVal", "Softmax", "BNLL", "ReLU")
RECTIFIERS = ("ReLU", "PReLU", "ELU", "AbsVal")


class Small(Moving):
    """Draws such nets."""

    kinds: Tuple[str, ...] = ("rectified", "rectified", "rectifier", "same", "whole_crop", "crop",
             "dense", "flat", "reshape", "join", "product", "pool", "cut")  # fmt: skip

    def build(self, size: int) -> List[str]:
        """An input, perhaps written over, and layers of the kinds, linear ones among them."""
        shape = (2, self.number(2, 4), self.number(4, 6), self.number(4, 6))
        self.lines.append("data " + " ".join(map(str, shape)))
        self.shapes["data"] = shape
        for number in range(self.number(0, 2)):
            kind = self.pick("BatchNorm", "Scale", "Power", "ReLU")
            self.line(f"i{number}: {kind} data -> data")
        self.draw("c", "same", "data")
        for number in range(size):
            kind = str(self.pick(*self.kinds)) if self.number(0, 5) else str(self.pick(*PARTS))
            blobs = list(self.shapes) if self.number(0, 3) else [self.last]
            whole = [blob for blob in blobs if len(self.shapes[blob]) == 4] or blobs
            self.draw(f"l{number}", kind, str(self.pick(*whole)))
        return self.lines

    def draw_rectified(self, name: str, bottom: str) -> str:
        """Something that is never negative, and a ReLU or the like behind it, mostly."""
        line = self.pointwise(f"{name}n", bottom, str(self.pick(*NEVER_NEGATIVE)))
        self.line(line)
        if self.number(0, 3):
            return self.draw_rectifier(name, self.last)
        return self.pointwise(name, bottom, str(self.pick(*NEVER_NEGATIVE)))

    def draw_rectifier(self, name: str, bottom: str) -> str:
        kind = str(self.pick(*RECTIFIERS))
        leaky = kind == "ReLU" and self.flag()
        body = " { relu_param { negative_slope: 0.3 } }" if leaky else ""
        return self.pointwise(name, bottom, kind) + body

    def pointwise(self, name: str, bottom: str, kind: str) -> str:
        """Perhaps in place, where Caffe allows that."""
        top = name if kind == "AbsVal" else self.top(name, bottom)
        return f"{name}: {kind} {bottom} -> {top}"

    def draw_same(self, name: str, bottom: str) -> Optional[str]:
        """A convolution that keeps the size, and a Crop to that, mostly."""
        body = f"convolution_param {{ num_output: {self.number(1, 5)} kernel_size: 3 pad: 1 }}"
        if not self.number(0, 3):
            return f"{name}: Convolution {bottom} -> {name} {{ {body} }}"
        if not self.line(f"{name}c: Convolution {bottom} -> {name}c {{ {body} }}"):
            return None
        return f"{name}: Crop {name}c {bottom} -> {name}"

    def draw_whole_crop(self, name: str, bottom: str) -> str:
        return f"{name}: Crop {bottom} {self.other(self.shapes[bottom], 1)} -> {name}"

    def draw_dense(self, name: str, bottom: str) -> Optional[str]:
        """A convolution and an InnerProduct of one blob, added up."""
        shape = self.shapes[bottom]
        if len(shape) != 4:
            return None
        window = f"kernel_size: {self.number(1, 3)} stride: {self.number(1, 2)} pad: 0"
        body = f"convolution_param {{ num_output: {self.number(1, 3)} {window} }}"
        if not self.line(f"{name}c: Convolution {bottom} -> {name}c {{ {body} }}"):
            return None
        values = int(np.prod(self.shapes[f"{name}c"][1:]))
        body = f"inner_product_param {{ num_output: {values} }}"
        self.line(f"{name}p: InnerProduct {bottom} -> {name}p {{ {body} }}")
        self.line(f"{name}f: Flatten {name}c -> {name}f")
        ends = [f"{name}f", f"{name}p"][:: self.pick(1, -1)]  # type: ignore[misc]
        body = "" if self.flag() else " { eltwise_param { coeff: 2 coeff: -0.5 } }"
        return f"{name}: Eltwise {' '.join(ends)} -> {name}{body}"


class WithPermutes(Small):
    """The same with Permutes, in a row mostly, and InnerProducts behind them."""

    kinds = (*Small.kinds, "permutes", "permutes", "permutes")

    def draw_permutes(self, name: str, bottom: str) -> Optional[str]:
        for number in range(self.number(1, 2)):
            line = self.draw_permute(f"{name}{number}", bottom)
            bottom = f"{name}{number}" if self.line(line) else bottom
        if self.flag():
            return self.draw_permute(name, bottom)
        body = f"inner_product_param {{ num_output: {self.number(1, 5)} }}"
        return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"


def _merged(kind: type, merger: Merger, data: st.DataObject) -> None:
    lines: List[str] = kind(data).build(data.draw(st.integers(3, 7)))
    note("\n".join(lines))
    names = [line.split(":")[0] for line in lines[1:]]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=1)) if names else []
    result = merger(*lines, seed=data.draw(st.integers(0, 3)), keep=keep)
    assert not set(keep) - set(result.names), "a kept layer is gone"
    _run_at_another_size(merger)


def _run_at_another_size(merger: Merger) -> None:
    """Both nets on an input that is larger along each axis, where the old one takes it."""
    stem = f"net{merger.count}"
    old, new = (
        load_pair([merger.folder / f"{name}.{end}" for end in ("prototxt", "caffemodel")])
        for name in (stem, f"{stem}_merged")
    )
    shape = [dim + more for dim, more in zip(_input_shape(old), (1, 0, 3, 1))]
    for net in (old, new):
        dims = net.layers[0].param.input_param.shape[0].dim
        dims[:] = shape
    try:
        Graph(old.layers, {})
        values = run(old, random_inputs(old))
    except CaffeMergeError:
        return
    if any(layer.misfit for layer in old.layers):
        return  # a Reshape, say, that Caffe would not take there
    after = run(new, random_inputs(new))
    outputs = {top.name for top in Graph(old.layers, {}).outputs}
    assert_equal({n: v for n, v in values.items() if n in outputs}, after, 1e-5)


def _input_shape(net: object) -> List[int]:
    return list(net.layers[0].param.input_param.shape[0].dim)  # type: ignore[attr-defined]


@examples(15)
@given(data=st.data())
def _random_small(merger: Merger, data: st.DataObject) -> None:
    _merged(Small, merger, data)


@examples(15)
@given(data=st.data())
def _random_permutes(merger: Merger, data: st.DataObject) -> None:
    _merged(WithPermutes, merger, data)


@examples(10)
@given(data=st.data())
def _random_in_a_fork(merger: Merger, caffe: RealCaffe, data: st.DataObject) -> None:
    _merged(WithPermutes, merger, data)
    stem = f"net{merger.count}"
    pairs = [
        (merger.folder / f"{name}.prototxt", merger.folder / f"{name}.caffemodel")
        for name in (stem, f"{stem}_merged")
    ]
    before, after = (load_pair(pair) for pair in pairs)
    inputs = random_inputs(before)
    outputs = {top.name for top in Graph(before.layers, {}).outputs}
    values = caffe.forward_pair(*pairs[0], inputs)
    assert_equal(
        {name: value for name, value in values.items() if name in outputs},
        caffe.forward_pair(*pairs[1], inputs),
        1e-4,
    )
    assert len(after.layers) <= len(before.layers)


@pytest.mark.hypothesis
def test_random_small(merged: Merger) -> None:
    """All that tests.merger checks holds, in real Caffe too, and at another size."""
    _random_small(merged)


@pytest.mark.hypothesis
def test_random_permutes(merged: Merger) -> None:
    """Likewise in float64."""
    _random_permutes(merged)


@pytest.mark.hypothesis
def test_random_permutes_in_a_fork(merged: Merger, forks_caffe: RealCaffe) -> None:
    """Likewise in a Caffe that has Permute."""
    _random_in_a_fork(merged, forks_caffe)

"""Random nets of layers that move values between maps per channel and what takes them in.

Blobs are joined, cut, turned, repeated, resized and multiplied, in place or not, read once or more.
Nets with layers of forks are judged in float64, and by a Caffe that has them where there is one.
"""

from typing import Callable, List, Optional, Tuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError
from caffe_merge.net.graph import Graph
from tests.merger import Merger, assert_equal, random_inputs
from tests.nets import load_pair, parse, prototxt
from tests.real_caffe import RealCaffe
from tests.seeds import examples
from tests.test_random_nets import Recipe, Shape

BVLC = ("join", "cut", "crop", "tile", "flat", "reshape", "product", "plane", "relu", "pool")
FORKS = ("permute", "shuffle", "interp", "upsample")
PARTS = ("linear", "affine")


class Moving(Recipe):
    """Draws such nets; the shapes come from the net itself."""

    kinds: Tuple[str, ...] = BVLC

    def build(self, size: int) -> List[str]:
        """Linear layers, ``size`` layers that move values, a map, and what reads it."""
        shape = (2, self.number(2, 4), self.number(4, 6), self.number(4, 6))
        self.lines.append("data " + " ".join(map(str, shape)))
        self.shapes["data"] = shape
        for number in range(self.number(1, 3)):
            self.draw(f"c{number}", "linear", "data" if self.flag() else self.last)
        for number in range(size):
            kind = str(self.pick(*self.kinds)) if self.number(0, 5) else str(self.pick(*PARTS))
            pool = list(self.shapes)[-2:] if self.number(0, 4) else list(self.shapes)
            self.draw(f"l{number}", kind, str(self.pick(*pool)))
        for number in range(self.number(1, 2)):
            self.draw(f"a{number}", "affine", self.last)
        for number in range(self.number(0, 2)):
            self.draw(f"e{number}", str(self.pick(*self.kinds, *PARTS)), self.last)
        return self.lines

    @property
    def last(self) -> str:
        """The last blob."""
        return next(reversed(self.shapes))

    def draw(self, name: str, kind: str, bottom: str) -> None:
        """A layer of a kind behind ``bottom``, if the net takes it."""
        maker: Callable[[str, str], Optional[str]] = getattr(self, f"draw_{kind}")
        line = maker(name, bottom)
        if line is not None:
            self.line(line)

    def line(self, line: str) -> bool:
        """Add a line if Caffe would take it, and its tops; whether it did."""
        try:
            graph = Graph(parse(prototxt(*self.lines, line)).layers, {})
        except CaffeMergeError:
            return False
        layer = graph.layers[-1]
        if any(top.shape is None or max(top.shape) > 60 for top in graph.tops[layer]):
            return False
        self.lines.append(line)
        for bottom in layer.param.bottom:
            if bottom not in layer.param.top:
                self.read.add(bottom)
        for top in graph.tops[layer]:
            assert top.shape is not None
            self.shapes.pop(top.name, None)
            self.shapes[top.name] = top.shape
        return True

    def top(self, name: str, bottom: str) -> str:
        """A new blob, or the bottom itself where nobody reads it."""
        return bottom if bottom not in self.read and bottom != "data" and self.flag() else name

    def other(self, like: Shape, but: int = -1) -> str:
        """A blob of the shape ``like``, axis ``but`` apart."""
        fitting = [
            blob
            for blob, shape in self.shapes.items()
            if len(shape) == len(like)
            and all(a == b for axis, (a, b) in enumerate(zip(shape, like)) if axis != but)
        ]
        return str(self.pick(*fitting))

    def axis(self, bottom: str) -> int:
        """Any axis but the first, the channels mostly."""
        rank = len(self.shapes[bottom])
        return 1 if rank < 3 or self.number(0, 2) else self.number(2, rank - 1)

    def draw_join(self, name: str, bottom: str) -> str:
        axis = self.axis(bottom)
        blobs = [bottom, *(self.other(self.shapes[bottom], axis) for _ in range(self.number(1, 2)))]
        body = f"concat_param {{ axis: {axis} }}"
        return f"{name}: Concat {' '.join(blobs)} -> {name} {{ {body} }}"

    def draw_cut(self, name: str, bottom: str) -> Optional[str]:
        axis = self.axis(bottom)
        size = self.shapes[bottom][axis]
        if size < 2:
            return None
        body = f"slice_param {{ axis: {axis} slice_point: {self.number(1, size - 1)} }}"
        return f"{name}: Slice {bottom} -> {name} {name}b {{ {body} }}"

    def draw_crop(self, name: str, bottom: str) -> str:
        body = f"crop_param {{ axis: {self.number(1, 3)} offset: {self.number(0, 1)} }}"
        return f"{name}: Crop {bottom} {self.pick(*self.shapes)} -> {name} {{ {body} }}"

    def draw_tile(self, name: str, bottom: str) -> str:
        body = f"tile_param {{ axis: {self.axis(bottom)} tiles: 2 }}"
        return f"{name}: Tile {bottom} -> {name} {{ {body} }}"

    def draw_flat(self, name: str, bottom: str) -> str:
        body = f"flatten_param {{ axis: {self.pick(1, 1, 2)} end_axis: {self.pick(-1, -1, -2)} }}"
        return f"{name}: Flatten {bottom} -> {name} {{ {body} }}"

    def draw_reshape(self, name: str, bottom: str) -> str:
        dims = self.pick((0, -1), (0, 0, -1), (0, 0, 1, -1), (0, 2, -1), (0, -1, 2), (0, 0, -1, 1),
                         (-1, 4), (2, -1, 3))  # fmt: skip
        body = " ".join(f"dim: {dim}" for dim in dims)  # type: ignore[attr-defined]
        return f"{name}: Reshape {bottom} -> {name} {{ reshape_param {{ shape {{ {body} }} }} }}"

    def draw_product(self, name: str, bottom: str) -> str:
        operation = self.pick("PROD", "PROD", "PROD", "MAX", "SUM")
        body = f"eltwise_param {{ operation: {operation} }}"
        return f"{name}: Eltwise {bottom} {self.other(self.shapes[bottom])} -> {name} {{ {body} }}"

    def draw_plane(self, name: str, bottom: str) -> str:
        body = f"scale_param {{ axis: {self.number(0, 1)} }}"
        return f"{name}: Scale {bottom} {self.pick(*self.shapes)} -> {name} {{ {body} }}"

    def draw_affine(self, name: str, bottom: str) -> str:
        kind = str(self.pick("Scale", "Scale", "BatchNorm", "Power", "Half"))
        body = {"Half": "power_param { scale: 0.5 }", "Power": "power_param { scale: 2 shift: 1 }"}
        if kind == "Scale":
            bias = str(self.flag()).lower()
            body[kind] = f"scale_param {{ axis: {self.axis(bottom)} bias_term: {bias} }}"
        kind, inside = kind.replace("Half", "Power"), body.get(kind, "")
        return f"{name}: {kind} {bottom} -> {self.top(name, bottom)} {{ {inside} }}"

    def draw_linear(self, name: str, bottom: str) -> str:
        if len(self.shapes[bottom]) != 4 or not self.number(0, 4):
            body = f"inner_product_param {{ num_output: {self.number(1, 5)} }}"
            return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"
        kernel = self.number(1, 3)
        body = f"num_output: {self.number(1, 6)} kernel_size: {kernel} pad: {self.number(0, 1)}"
        body += f" bias_term: {str(self.flag()).lower()}"
        kind = "Deconvolution" if not self.number(0, 5) else "Convolution"
        return f"{name}: {kind} {bottom} -> {name} {{ convolution_param {{ {body} }} }}"

    def draw_relu(self, name: str, bottom: str) -> str:
        return f"{name}: {self.pick('ReLU', 'PReLU')} {bottom} -> {self.top(name, bottom)}"

    def draw_pool(self, name: str, bottom: str) -> str:
        body = f"pool: {self.pick('AVE', 'MAX')} kernel_size: 2 pad: {self.number(0, 1)}"
        return f"{name}: Pooling {bottom} -> {name} {{ pooling_param {{ {body} }} }}"

    def draw_permute(self, name: str, bottom: str) -> str:
        axes = list(range(1, len(self.shapes[bottom])))
        order = [0, *(self._draw(st.permutations(axes)))]
        body = " ".join(f"order: {axis}" for axis in order)
        return f"{name}: Permute {bottom} -> {name} {{ permute_param {{ {body} }} }}"

    def draw_shuffle(self, name: str, bottom: str) -> str:
        body = f"shuffle_channel_param {{ group: {self.number(2, 3)} }}"
        return f"{name}: ShuffleChannel {bottom} -> {name} {{ {body} }}"

    def draw_interp(self, name: str, bottom: str) -> str:
        body = f"interp_param {{ height: {self.number(2, 9)} width: {self.number(2, 9)} }}"
        return f"{name}: Interp {bottom} -> {name} {{ {body} }}"

    def draw_upsample(self, name: str, bottom: str) -> str:
        return f"{name}: Upsample {bottom} -> {name} {{ upsample_param {{ scale: 2 }} }}"


class WithForks(Moving):
    """The same with layers of forks."""

    kinds = (*BVLC, *FORKS)


def _merged(kind: type, merger: Merger, data: st.DataObject) -> List[str]:
    recipe = kind(data)
    lines: List[str] = recipe.build(data.draw(st.integers(1, 4)))
    note("\n".join(lines))
    names = [line.split(":")[0] for line in lines[1:]]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=1)) if names else []
    result = merger(*lines, seed=data.draw(st.integers(0, 3)), keep=keep)
    assert not set(keep) - set(result.names), "a kept layer is gone"
    return lines


@examples(40)
@given(data=st.data())
def _random_moving(merger: Merger, data: st.DataObject) -> None:
    _merged(Moving, merger, data)


@examples(40)
@given(data=st.data())
def _random_forks(merger: Merger, data: st.DataObject) -> None:
    _merged(WithForks, merger, data)


@examples(15)
@given(data=st.data())
def _random_in_forks(merger: Merger, caffe: RealCaffe, data: st.DataObject) -> None:
    _merged(WithForks, merger, data)
    stem = f"net{merger.count}"
    pairs = [
        (merger.folder / f"{name}.prototxt", merger.folder / f"{name}.caffemodel")
        for name in (stem, f"{stem}_merged")
    ]
    inputs = random_inputs(load_pair(pairs[0]))
    before, after = (caffe.forward_pair(*pair, inputs) for pair in pairs)
    assert_equal(before, after, 1e-4)


@pytest.mark.hypothesis
def test_random_moving(merged: Merger) -> None:
    """All that tests.merger checks holds, in real Caffe too."""
    _random_moving(merged)


@pytest.mark.hypothesis
def test_random_moving_of_forks(merged: Merger) -> None:
    """Likewise in float64."""
    _random_forks(merged)


@pytest.mark.hypothesis
def test_random_moving_in_a_fork(merged: Merger, forks_caffe: RealCaffe) -> None:
    """Likewise in a Caffe that has the layers."""
    _random_in_forks(merged, forks_caffe)

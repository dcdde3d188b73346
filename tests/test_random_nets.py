"""Random nets: whatever is merged computes what it did, in float64 and in real Caffe.

The nets of an example's `Recipe` are small and odd: layers of every foldable kind in any order, in
place or not, with branches that are read again, summed, concatenated and split.
"""

from typing import Dict, List, Set, Tuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.seeds import examples

Shape = Tuple[int, ...]


class Recipe:
    """Draws a net line by line; knows each blob's shape and which have been read."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        self.lines: List[str] = []
        self.shapes: Dict[str, Shape] = {}
        self.read: Set[str] = set()

    def pick(self, *options: object) -> object:
        """One of the options."""
        return self._draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        """A number from low to high."""
        return int(self._draw(st.integers(low, high)))

    def flag(self) -> bool:
        """True or false."""
        return bool(self._draw(st.booleans()))

    def build(self, size: int) -> List[str]:
        """A net of ``size`` layers."""
        shape = (2, self.number(1, 6), self.number(4, 8), self.number(4, 8))
        self.lines.append("data " + " ".join(map(str, shape)))
        self.shapes["data"] = shape
        for number in range(size):
            self.add(f"l{number}")
        return self.lines

    def add(self, name: str) -> None:
        """A layer of a random kind that the chosen bottom allows."""
        unread = [blob for blob in self.shapes if blob not in self.read]
        # Mostly on, where runs come from; now and then from any blob, where branches do.
        pool = unread[-1:] if unread and self.number(0, 4) else list(self.shapes)
        bottom = str(self.pick(*pool))
        shape = self.shapes[bottom]
        kinds = ["BatchNorm", "Scale", "Scale", "Bias", "Power", "Dropout", "ReLU", "PReLU"]
        kinds += ["InnerProduct", "Branch"]
        if len(shape) == 4:
            kinds += ["Convolution", "Convolution", "Deconvolution", "Pooling"]
        if len(shape) == 1:
            kinds = ["Scale", "Power", "Dropout", "ReLU"]
        kind = str(self.pick(*kinds))
        getattr(self, "_" + kind.lower(), self._simple)(name, kind, bottom)

    def put(self, name: str, kind: str, bottom: str, body: str, shape: Shape, alter: bool) -> None:
        """Write the line; in place if that is asked for and nobody else reads the bottom."""
        in_place = alter and bottom not in self.read and self.flag()
        top = bottom if in_place else name
        if not in_place:
            self.read.add(bottom)
        self.shapes.pop(top, None)
        self.shapes[top] = shape
        self.lines.append(f"{name}: {kind} {bottom} -> {top} {{ {body} }}")

    def _simple(self, name: str, kind: str, bottom: str) -> None:
        self.put(name, kind, bottom, "", self.shapes[bottom], alter=True)

    def _batchnorm(self, name: str, kind: str, bottom: str) -> None:
        eps = self.pick("", "eps: 0.001", "eps: 1e-9", "use_global_stats: true")
        body = f"batch_norm_param {{ {eps} }}"
        self.put(name, kind, bottom, body, self.shapes[bottom], alter=True)

    def _scale(self, name: str, kind: str, bottom: str) -> None:
        shape = self.shapes[bottom]
        channels = ["", "", "", f"axis: {1 - len(shape)}"]
        odd = ["num_axes: 0", "axis: -1", "axis: 0", "num_axes: -1", "axis: 0 num_axes: 2"]
        choice = self.pick(*channels, *odd)
        body = f"scale_param {{ {choice} bias_term: {str(self.flag()).lower()} }}"
        self.put(name, kind, bottom, body, shape, alter=True)

    def _bias(self, name: str, kind: str, bottom: str) -> None:
        choice = self.pick("", "", "num_axes: 0", "axis: -1")
        self.put(name, kind, bottom, f"bias_param {{ {choice} }}", self.shapes[bottom], alter=True)

    def _power(self, name: str, kind: str, bottom: str) -> None:
        choice = self.pick("", "scale: 0.5", "shift: 1.25", "scale: -2 shift: 0.5", "power: 2")
        self.put(name, kind, bottom, f"power_param {{ {choice} }}", self.shapes[bottom], alter=True)

    def _innerproduct(self, name: str, kind: str, bottom: str) -> None:
        shape = self.shapes[bottom]
        axis = self.number(1, len(shape) - 1)
        written = axis if self.flag() else axis - len(shape)
        outputs = self.number(1, 7)
        flags = f"transpose: {str(self.flag()).lower()} bias_term: {str(self.flag()).lower()}"
        body = f"inner_product_param {{ num_output: {outputs} axis: {written} {flags} }}"
        self.put(name, kind, bottom, body, (*shape[:axis], outputs), alter=False)

    def _convolution(self, name: str, kind: str, bottom: str) -> None:
        num, channels, height, width = self.shapes[bottom]
        group = self.number(1, channels)
        while channels % group:
            group -= 1
        outputs = group * self.number(1, 3)
        down = kind == "Convolution"
        kernel = [
            self.number(1, min(3, size)) if down else self.number(1, 3) for size in (height, width)
        ]
        stride, pad = self.number(1, 2), self.number(0, min(kernel) - 1) if min(kernel) > 1 else 0
        body = f"num_output: {outputs} group: {group} kernel_h: {kernel[0]} kernel_w: {kernel[1]} "
        body += f"stride: {stride} pad: {pad} bias_term: {str(self.flag()).lower()}"
        if down:
            sizes = [(n + 2 * pad - k) // stride + 1 for n, k in zip((height, width), kernel)]
        else:
            sizes = [(n - 1) * stride + k - 2 * pad for n, k in zip((height, width), kernel)]
        if min(sizes) < 1 or max(sizes) > 16:
            return
        shape = (num, outputs, sizes[0], sizes[1])
        self.put(name, kind, bottom, f"convolution_param {{ {body} }}", shape, alter=False)

    _deconvolution = _convolution

    def _pooling(self, name: str, kind: str, bottom: str) -> None:
        shape = self.shapes[bottom]
        method = self.pick("MAX", "AVE")
        if self.flag():
            body = f"pool: {method} global_pooling: true"
            out = (*shape[:2], 1, 1)
        else:
            body = f"pool: {method} kernel_size: 1"
            out = shape
        self.put(name, kind, bottom, f"pooling_param {{ {body} }}", out, alter=False)

    def _branch(self, name: str, kind: str, bottom: str) -> None:
        """A Split, a Concat or an Eltwise of the bottom with others of its shape."""
        shape = self.shapes[bottom]
        fitting = [blob for blob, other in self.shapes.items() if other == shape]
        kind = str(self.pick("Split", "Concat", "Eltwise"))
        if kind == "Split":
            tops = [f"{name}_{number}" for number in range(self.number(1, 3))]
            self.read.add(bottom)
            self.shapes.update(dict.fromkeys(tops, shape))
            self.lines.append(f"{name}: Split {bottom} -> {' '.join(tops)}")
            return
        bottoms = [bottom, *(str(self.pick(*fitting)) for _ in range(self.number(1, 2)))]
        if kind == "Concat":
            shape = (shape[0], shape[1] * len(bottoms), *shape[2:])
            if shape[1] > 24:
                return
        self.read.update(bottoms)
        self.shapes[name] = shape
        self.lines.append(f"{name}: {kind} {' '.join(bottoms)} -> {name}")


# Stands behind every net and reads its input, so that each example has something to merge.
ENDING = [
    "end_c: Convolution data -> end_c { convolution_param { num_output: 3 kernel_size: 2 } }",
    "end_n: BatchNorm end_c -> end_n",
    "end_t: TanH end_n -> end_t",
    "end_b: BatchNorm end_t -> end_b",
    "end_d: Dropout end_b -> end_d",
    "end_s: Scale end_d -> end_s { scale_param { bias_term: true } }",
]
MERGED = {"drop-identity", "fold-affine", "one-scale"}


@examples(150)
@given(data=st.data())
def _random_net(merger: Merger, data: st.DataObject) -> None:
    recipe = Recipe(data)
    lines = [*recipe.build(data.draw(st.integers(2, 14))), *ENDING]
    form = data.draw(st.sampled_from([None, None, None, "conv", "scale"]))
    note("\n".join(lines))
    seed, equalize = data.draw(st.integers(0, 3)), data.draw(st.booleans())
    result = merger(*lines, seed=seed, affine_as=form, equalize=equalize)
    assert {change.rewrite for change in result.report.changes} >= MERGED
    assert not {"end_n", "end_d"} & set(result.names)
    assert len({"end_b", "end_s"} & set(result.names)) == 1


@pytest.mark.hypothesis
def test_random_nets(merged: Merger) -> None:
    """Everything that tests.merger checks holds for random nets, each of which merges something."""
    _random_net(merged)

"""Random nets of branches, chains and Concats: one convolution does what they did, at any size.

Blocks of random linear branches, kernels side by side or in a row, affine layers before and behind
ReLU and Pooling; some blobs are read by others too, some layers are kept.
"""

from typing import List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers.shapes.geometry import convolution_window, sticks_out
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.merging.report import Size
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from tests.merger import (
    Merged,
    Merger,
    assert_equal,
    freed_inputs,
    random_inputs,
    run,
    without,
)
from tests.seeds import examples
from tests.test_random_nets import Recipe

Pair = Tuple[int, int]


class Window(NamedTuple):
    """A sliding window over two axes."""

    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)

    def size(self, height: int, width: int) -> Optional[Pair]:
        """The output size, None where it is larger than the input or the net would get large."""
        rows, columns = (
            (length + 2 * p - d * (k - 1) - 1) // s + 1
            for length, k, s, p, d in zip((height, width), *self)
        )
        return (rows, columns) if 0 < rows < 13 and 0 < columns < 13 else None

    @property
    def text(self) -> str:
        """As fields of a convolution."""
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = self
        text = f"kernel_h: {kh} kernel_w: {kw} stride_h: {sh} stride_w: {sw} pad_h: {ph} "
        return text + f"pad_w: {pw} dilation: {dh} dilation: {dw}"


POINT = Window((1, 1), (1, 1), (0, 0))


class Structures(Recipe):
    """Draws blocks; each method writes layers behind ``bottom`` and returns their blob, if any."""

    def add(self, name: str) -> None:
        """A block, a chain or a single layer, behind the last blob or any."""
        pool = list(self.shapes)[-1:] if self.number(0, 4) else list(self.shapes)
        bottom = str(self.pick(*pool))
        if len(self.shapes[bottom]) != 4:
            super().add(name)
            return
        kinds = [self.block, self.block, self.concat, self.chain, self.scaled, self.scaled]
        kind = self.number(0, len(kinds) + 1)
        if kind >= len(kinds):
            super().add(name)
            return
        top = kinds[kind](name, bottom)
        if top is not None and self.flag():
            self.put(f"{name}_r", "ReLU", top, "", self.shapes[top], alter=True)

    def window(self) -> Window:
        """Any window, one with an odd kernel and half of it as padding most of the time."""
        kernel, stride = self.pair(1, 3), self.pair(1, 2) if not self.number(0, 2) else (1, 1)
        dilation = (1, 1) if self.number(0, 3) else self.pair(1, 2)
        if self.number(0, 2):
            pad = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
        else:
            pad = self.pair(0, 2)
        return Window(kernel, stride, pad, dilation)

    def pair(self, low: int, high: int) -> Pair:
        """Two numbers, the same ones mostly."""
        first = self.number(low, high)
        return (first, first if self.number(0, 2) else self.number(low, high))

    def like(self, window: Window) -> Window:
        """Another window that has as many places on every input."""
        kernel, pad, dilation = [], [], []
        for k, p, d in zip(window.kernel, window.pad, window.dilation):
            other = self.number(1, 4)
            twice = 2 * p - d * (k - 1) + other - 1
            fits = twice >= 0 and twice % 2 == 0
            kernel.append(other if fits else k)
            pad.append(twice // 2 if fits else p)
            dilation.append(1 if fits else d)
        return Window((kernel[0], kernel[1]), window.stride, (pad[0], pad[1]),
                      (dilation[0], dilation[1]))  # fmt: skip

    def conv(self, name: str, bottom: str, window: Window, outputs: int = 0) -> Optional[str]:
        """A convolution of any grouping."""
        num, channels, *sizes = self.shapes[bottom]
        size = window.size(*sizes)
        outputs = outputs or int(str(self.pick(1, 2, 4, channels)))
        if size is None:
            return None
        groups = [g for g in range(1, channels + 1) if channels % g == outputs % g == 0]
        group = self.pick(1, 1, *groups)
        body = f"num_output: {outputs} group: {group} bias_term: {str(self.flag()).lower()} "
        body = f"convolution_param {{ {body}{window.text} }}"
        self.put(name, "Convolution", bottom, body, (num, outputs, *size), alter=False)
        return self.affine(name, name) if not self.number(0, 2) else name

    def affine(self, name: str, bottom: str) -> str:
        """BatchNorm, Scale, Bias or Power, in place or not."""
        kind = str(self.pick("BatchNorm", "Scale", "Bias", "Power"))
        getattr(self, f"_{kind.lower()}")(f"{name}_a", kind, bottom)
        return next(reversed(self.shapes))

    def branch(self, name: str, bottom: str, window: Window, outputs: int) -> Optional[str]:
        """A linear map to ``outputs`` channels with the places of ``window``."""
        num, channels, *sizes = self.shapes[bottom]
        size = window.size(*sizes)
        kind = self.pick("conv", "conv", "narrow", "then", "mean", "id", "affine", "inner")
        middle: Optional[str] = bottom
        if kind == "id" or (kind == "affine" and bottom == "data"):
            return bottom if (outputs, size) == (channels, tuple(sizes)) else None
        if kind == "affine":
            self.read.add(bottom)  # so that it is not written over
            fits = (outputs, size) == (channels, tuple(sizes))
            return self.affine(name, bottom) if fits else None
        if kind == "inner":
            return self.block(name, bottom, window, outputs)
        if kind == "narrow":
            middle = self.conv(f"{name}_0", bottom, POINT)
        elif kind == "mean":
            middle = self.conv(f"{name}_0", bottom, POINT, outputs)
        elif kind == "then":
            middle = self.conv(f"{name}_0", bottom, self.like(window))
            return None if middle is None else self.conv(name, middle, POINT, outputs)
        if middle is None:
            return None
        like = self.like(window)
        plain = like.kernel[0] > like.pad[0] and like.kernel[1] > like.pad[1]
        if kind == "mean" and like.stride == like.dilation == (1, 1) and plain and size:
            (kh, kw), _, (ph, pw), _ = like
            body = f"pool: AVE kernel_h: {kh} kernel_w: {kw} pad_h: {ph} pad_w: {pw}"
            shape = (num, outputs, *size)
            self.put(name, "Pooling", middle, f"pooling_param {{ {body} }}", shape, alter=False)
            return name
        return self.conv(name, middle, like, outputs)

    def block(
        self, name: str, bottom: str, window: Optional[Window] = None, outputs: int = 0
    ) -> Optional[str]:
        """Branches of ``bottom``, added up."""
        if len(name) > 12:
            return None
        window = window or self.window()
        outputs = outputs or int(str(self.pick(2, 4, self.shapes[bottom][1])))
        tops = [self.conv(f"{name}_f", bottom, window, outputs)]
        tops += [
            self.branch(f"{name}_{n}", bottom, window, outputs) for n in range(self.number(1, 3))
        ]
        first = tops[0]
        if first is None:
            return None
        shape = self.shapes[first]
        fitting = [top for top in tops if top is not None and self.shapes.get(top) == shape]
        if len(fitting) < 2:
            return first
        self.read.update(fitting)
        numbers = " ".join(f"coeff: {self.pick(1, -2, 0.5)}" for _ in fitting)
        body = f"eltwise_param {{ {numbers} }}" if not self.number(0, 2) else ""
        return self.join(name, "Eltwise", fitting, shape, body)

    def join(
        self, name: str, kind: str, bottoms: List[str], shape: Tuple[int, ...], body: str
    ) -> str:
        """An Eltwise or a Concat."""
        self.shapes[name] = shape
        self.lines.append(f"{name}: {kind} {' '.join(bottoms)} -> {name} {{ {body} }}")
        return name

    def concat(self, name: str, bottom: str) -> Optional[str]:
        """Convolutions of ``bottom``, most of them of one window, side by side."""
        window = self.window()
        tops: List[str] = []
        for number in range(self.number(2, 4)):
            choice = window if self.number(0, 3) else self.like(window)
            top = self.conv(f"{name}_{number}", bottom, choice)
            if top is None:
                return None
            tops.append(top)
        self.read.update(tops)
        shapes = [self.shapes[top] for top in tops]
        shape = (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])
        return self.join(name, "Concat", tops, shape, "")

    def chain(self, name: str, bottom: str) -> Optional[str]:
        """Convolutions in a row."""
        top: Optional[str] = bottom
        for number in range(self.number(2, 3)):
            window = POINT if self.flag() else self.window()
            top = top and self.conv(f"{name}_{number}", top, window)
        return top

    def scaled(self, name: str, bottom: str) -> Optional[str]:
        """An affine layer among others that a multiplier may pass, and convolutions behind."""
        top = self.conv(f"{name}_c", bottom, self.window()) if self.flag() else bottom
        if top is None or top == "data":
            return None
        for number in range(self.number(1, 3)):
            kind = str(self.pick("ReLU", "affine", "Pooling", "PReLU", "Half"))
            if kind == "affine":
                top = self.affine(f"{name}_{number}", top)
            elif kind == "Half":
                body = "power_param { scale: 0.5 }"
                shape = self.shapes[top]
                self.put(f"{name}_{number}", "Power", top, body, shape, alter=True)
                top = next(reversed(self.shapes))
            else:
                getattr(self, f"_{kind.lower()}", self._simple)(f"{name}_{number}", kind, top)
                top = next(reversed(self.shapes))
        for number in range(self.number(1, 2)):
            self.conv(f"{name}_d{number}", top, self.window())
            self.read.add(top)
        return None


def _resized(net: Net, by: Pair) -> None:
    for layer in net.layers:
        if layer.type == "Input":
            dims = layer.param.input_param.shape[0].dim
            dims[2:] = [max(1, size + more) for size, more in zip(dims[2:], by)]


def _is_odd(net: Net) -> bool:
    """Whether a kernel is larger than its input somewhere, which no merge is asked to keep."""
    graph = Graph(net.layers, {})
    return any(
        sticks_out(convolution_window(LayerSpec(layer.param), 2), bottom.shape[2:])
        for layer in net.layers
        for bottom in graph.bottoms[layer]
        if layer.type == "Convolution" and bottom.shape is not None
    )


def _check_other_sizes(result: Merged, by: Pair) -> bool:
    """Wherever the old net can be built, the new one can, and agrees; whether it could."""
    _resized(result.before, by)
    _resized(result.after, by)
    try:
        if _is_odd(result.before):
            return False
        inputs = random_inputs(result.before)
        before = run(result.before, inputs)
    except CaffeMergeError:
        return False
    if any(0 in array.shape for array in before.values()):
        return False
    freed = freed_inputs(result.before, result.after, inputs, before)
    assert_equal(before, without(run(result.after, inputs), freed), 1e-5)
    return True


def _check_size(result: Merged, serial: str) -> None:
    """The report tells the truth, and nothing grew, but for Scales that were a Power or a Bias."""
    before, after = result.report.before, result.report.after
    assert after == Size.of(Graph(result.after.layers, {}))
    graph = Graph(result.before.layers, {})
    free = [top.shape for layer in result.before.layers if layer.type in ("Power", "Bias")
            for top in graph.tops[layer]]  # fmt: skip
    assert before.multiply_adds is not None
    assert after.multiply_adds is not None
    if serial != "always":
        values = sum(shape[0] * shape[1] * 12 * 12 for shape in free if shape is not None)
        assert after.multiply_adds <= before.multiply_adds + values


@examples(250)
@given(data=st.data())
def _random_structure(merger: Merger, quick: Merger, data: st.DataObject) -> None:
    recipe = Structures(data)
    lines = recipe.build(data.draw(st.integers(1, 4)))
    note("\n".join(lines))
    names = [line.split(":")[0] for line in lines[1:]]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=1)) if names else []
    serial = data.draw(st.sampled_from(["auto", "auto", "always", "never"]))
    first = merger if data.draw(st.integers(0, 3)) == 0 else quick
    result = first(*lines, seed=data.draw(st.integers(0, 3)), keep=keep, serial=serial)
    assert not set(keep) - set(result.names), "a kept layer is gone"
    _check_size(result, serial)
    by = (data.draw(st.integers(-3, 4)), data.draw(st.integers(-3, 4)))
    _check_other_sizes(result, by)


@pytest.mark.hypothesis
def test_random_structures(merged: Merger) -> None:
    """All that tests.merger checks, and more: any size, nothing grows; a part in Caffe."""
    (merged.folder / "quick").mkdir()
    _random_structure(merged, Merger(merged.folder / "quick", None))


def _line(name: str, bottom: str, outputs: int, kernel: int) -> str:
    body = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2}"
    return f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {body} }} }}"


def _up(name: str, outputs: int, kernel: int, pad: int) -> str:
    body = f"num_output: {outputs} kernel_size: {kernel} stride: 2 pad: {pad}"
    return f"{name}: Deconvolution data -> {name} {{ convolution_param {{ {body} }} }}"


# For each rewrite that these nets are about, the shortest one that it makes something of.
SHORTEST = {
    "merge-branches": [
        _line("a", "data", 6, 3), _line("b", "data", 6, 1), "sum: Eltwise a b -> sum",
    ],
    "merge-concat": [
        _line("a", "data", 6, 3), _line("b", "data", 4, 3), "both: Concat a b -> both",
    ],
    "merge-serial": [_line("a", "data", 6, 3), _line("b", "a", 4, 1)],
    "merge-serial of a Deconvolution": [_up("a", 6, 4, 1), _line("b", "a", 4, 1)],
    "merge-branches of Deconvolutions": [
        _up("a", 6, 4, 1), _up("b", 6, 2, 0), "sum: Eltwise a b -> sum",
    ],
    "merge-groups": ["cut: Slice data -> p q", _line("a", "p", 4, 3), _line("b", "q", 4, 3),
                     "both: Concat a b -> both"],
    "fold-forward": ["t: TanH data -> t", "n: BatchNorm t -> n", _line("c", "n", 5, 1)],
    "fold-through": [_line("a", "data", 6, 3), "r: ReLU a -> r",
                     "p: Power r -> p { power_param { scale: 0.5 } }", "t: TanH p -> t"],
}  # fmt: skip


@pytest.mark.parametrize("by", [(0, 0), (4, -2), (-3, 1)])
@pytest.mark.parametrize("rewrite", SHORTEST)
def test_each_rewrite_holds_at_any_size(merged: Merger, rewrite: str, by: Pair) -> None:
    result = merged("data 2 6 9 8", *SHORTEST[rewrite])
    assert rewrite.split()[0] in {change.rewrite for change in result.report.changes}
    _check_size(result, "auto")
    assert _check_other_sizes(result, by)

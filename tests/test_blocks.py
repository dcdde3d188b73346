"""Blocks that papers train in several branches and deploy as one convolution, as Caffe has them.

RepVGG (arXiv 2101.03697), ACNet (1908.03930), RepLKNet (2203.06717), MobileOne (2206.04040) and
DiverseBranchBlock (2103.13425), whose six transforms are tested one by one and nested.
"""

import re
from typing import Dict, List, Tuple

import pytest

from tests.merger import Merger

IN = "data 2 6 9 8"
STYLES = ("apart", "in_place")


class Block:
    """Lines of a net in which every convolution has its BatchNorm and Scale."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.lines: List[str] = []

    def bn(self, name: str, bottom: str) -> str:
        """BatchNorm and Scale behind ``bottom``; their blob."""
        over = self.style == "in_place" and bottom != "data"
        mid, end = (bottom, bottom) if over else (f"{name}_bn", f"{name}_scale")
        self.lines.append(f"{name}_bn: BatchNorm {bottom} -> {mid}")
        body = "scale_param { bias_term: true }"
        self.lines.append(f"{name}_scale: Scale {mid} -> {end} {{ {body} }}")
        return end

    def conv(self, name: str, body: str, bottom: str = "data", outputs: int = 6) -> str:
        """A Convolution without bias, and BatchNorm and Scale behind it; their blob."""
        fields = f"num_output: {outputs} bias_term: false {body}"
        line = f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {fields} }} }}"
        self.lines.append(line)
        return self.bn(name, name)

    def mean(self, name: str, body: str, bottom: str) -> str:
        """A mean, and BatchNorm and Scale behind it; their blob."""
        fields = f"pool: AVE {body}"
        self.lines.append(f"{name}: Pooling {bottom} -> {name} {{ pooling_param {{ {fields} }} }}")
        return self.bn(name, name)

    def sum(self, *bottoms: str, name: str = "sum") -> str:
        """An Eltwise of all; its blob."""
        self.lines.append(f"{name}: Eltwise {' '.join(bottoms)} -> {name}")
        return name

    def relu(self, bottom: str) -> List[str]:
        """The net, with a ReLU behind ``bottom``."""
        top = bottom if self.style == "in_place" else "out"
        return [IN, *self.lines, f"relu: ReLU {bottom} -> {top}"]


def repvgg(block: Block) -> str:
    """3x3, 1x1 and the blob itself, each with BatchNorm."""
    return block.sum(
        block.conv("three", "kernel_size: 3 pad: 1"),
        block.conv("one", "kernel_size: 1"),
        block.bn("id", "data"),
    )


def repvgg_exported(block: Block) -> str:
    """The same, added two by two, the blob itself first."""
    inner = block.sum("data", block.bn("id", "data"), name="inner")
    more = block.sum(inner, block.conv("one", "kernel_size: 1"), name="more")
    return block.sum(more, block.conv("three", "kernel_size: 3 pad: 1"))


def repvgg_grouped(block: Block) -> str:
    """RepVGG-g2: all of two groups."""
    return block.sum(
        block.conv("three", "kernel_size: 3 pad: 1 group: 2"),
        block.conv("one", "kernel_size: 1 group: 2"),
        block.bn("id", "data"),
    )


def repvgg_strided(block: Block) -> str:
    """The first of a stage."""
    return block.sum(
        block.conv("three", "kernel_size: 3 pad: 1 stride: 2"),
        block.conv("one", "kernel_size: 1 stride: 2"),
    )


def acnet(block: Block) -> str:
    """A cross beside the square."""
    return block.sum(
        block.conv("three", "kernel_size: 3 pad: 1"),
        block.conv("flat", "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1"),
        block.conv("tall", "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0"),
    )


def replknet(block: Block) -> str:
    """A large depthwise kernel and a small one."""
    return block.sum(
        block.conv("three", "kernel_size: 31 pad: 15 group: 6"),
        block.conv("small", "kernel_size: 5 pad: 2 group: 6"),
    )


def mobileone(block: Block) -> str:
    """Several depthwise kernels alike, one of 1x1, the blob itself."""
    several = [block.conv(n, "kernel_size: 3 pad: 1 group: 6") for n in ("three", "b", "c")]
    first = block.conv("one", "kernel_size: 1 group: 6")
    return block.sum(*several, first, block.bn("id", "data"))


def transform_1(block: Block) -> str:
    """A convolution and its BatchNorm."""
    return block.conv("three", "kernel_size: 3 pad: 1")


def transform_2(block: Block) -> str:
    """Two of them added."""
    bodies = {"three": "kernel_size: 3 pad: 1", "b": "kernel_size: 3 pad: 1"}
    return block.sum(*(block.conv(name, body) for name, body in bodies.items()))


def transform_3(block: Block) -> str:
    """1x1, then 3x3. The border of the second holds what the BatchNorm of the first makes of 0."""
    return block.conv("three", "kernel_size: 3", block.conv("one", "kernel_size: 1 pad: 1"))


def transform_4(block: Block) -> str:
    """Two of them side by side."""
    parts = [block.conv("three", "kernel_size: 3 pad: 1"), block.conv("b", "kernel_size: 3 pad: 1")]
    block.lines.append(f"cat: Concat {' '.join(parts)} -> cat")
    return "cat"


def transform_5(block: Block) -> str:
    """A mean behind 1x1, beside a 3x3 that pays for it."""
    first = block.conv("one", "kernel_size: 1 pad: 1")
    return block.sum(
        block.mean("mean", "kernel_size: 3", first), block.conv("three", "kernel_size: 3 pad: 1")
    )


def transform_6(block: Block) -> str:
    """Kernels of several sizes."""
    return block.sum(
        block.conv("one", "kernel_size: 1"),
        block.conv("three", "kernel_size: 3 pad: 1"),
        block.conv("flat", "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1"),
        block.conv("two", "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0"),
    )


def diverse(block: Block) -> str:
    """All of them: the DiverseBranchBlock."""
    chain = block.conv("second", "kernel_size: 3", block.conv("first", "kernel_size: 1 pad: 1"))
    mean = block.mean("mean", "kernel_size: 3", block.conv("before", "kernel_size: 1 pad: 1"))
    return block.sum(
        block.conv("three", "kernel_size: 3 pad: 1"), block.conv("one", "kernel_size: 1"),
        chain, mean,
    )  # fmt: skip


def diverse_side_by_side(block: Block) -> str:
    """Two halves of the outputs, each a sum, beside each other, and 1x1 behind them."""
    halves = []
    for name in ("left", "right"):
        three = block.conv(f"{name}_three", "kernel_size: 3 pad: 1", outputs=3)
        halves.append(
            block.sum(three, block.conv(f"{name}_one", "kernel_size: 1", outputs=3), name=name)
        )
    block.lines.append(f"cat: Concat {' '.join(halves)} -> cat")
    return block.conv("last", "kernel_size: 1", "cat")


# The block, and the kernel and group of the one convolution that it becomes.
BLOCKS: Dict[str, Tuple[Tuple[int, int], int]] = {
    "repvgg": ((3, 3), 1),
    "repvgg_exported": ((3, 3), 1),
    "repvgg_grouped": ((3, 3), 2),
    "repvgg_strided": ((3, 3), 1),
    "acnet": ((3, 3), 1),
    "replknet": ((31, 31), 6),
    "mobileone": ((3, 3), 6),
    "transform_1": ((3, 3), 1),
    "transform_2": ((3, 3), 1),
    "transform_3": ((3, 3), 1),
    "transform_4": ((3, 3), 1),
    "transform_5": ((3, 3), 1),
    "transform_6": ((3, 3), 1),
    "diverse": ((3, 3), 1),
    "diverse_side_by_side": ((3, 3), 1),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", BLOCKS)
def test_one_convolution_is_left(merged: Merger, name: str, style: str) -> None:
    """Whatever the layers are called, in place or not; its bias is what the BatchNorms add."""
    kernel, group = BLOCKS[name]
    block = Block(style)
    result = merged(*block.relu(globals()[name](block)))
    (left, relu) = result.names
    assert relu == "relu"
    assert left.endswith("three"), "the one with all the taps"
    layer = result.layer(left)
    assert layer.blobs[0].shape[2:] == kernel
    assert layer.param.convolution_param.group == group
    assert len(layer.blobs) == 2
    after, before = result.report.after, result.report.before
    assert after.multiply_adds is not None
    assert before.multiply_adds is not None
    assert after.multiply_adds < before.multiply_adds


def test_blocks_in_a_row(merged: Merger) -> None:
    """Each of another blob; what lies between keeps them apart."""
    lines, bottom, left = [IN], "data", []
    for number in range(3):
        block = Block("in_place")
        top = repvgg(block)
        fields = [re.sub(r"\b(three|one|id|sum)", rf"b{number}_\1", line) for line in block.lines]
        lines += [line.replace("data", bottom) for line in fields]
        bottom = f"b{number}_{top}"
        lines.append(f"relu{number}: ReLU {bottom} -> {bottom}")
        left += [f"b{number}_three", f"relu{number}"]
    assert merged(*lines).names == left


def test_a_branch_that_somebody_else_reads(merged: Merger) -> None:
    """It stays, and the others become one beside it."""
    block = Block("apart")
    lines = block.relu(repvgg(block))
    result = merged(*lines, "head: TanH one_scale -> head")
    assert result.names == ["three", "one", "sum", "relu", "head"]

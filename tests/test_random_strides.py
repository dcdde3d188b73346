"""Random nets of residual and dense blocks whose blobs are read at strides: merged, the same.

The blocks and what stands between are drawn, and the sizes, so that every remainder of a stride
comes up at some border. Real Caffe judges every net where it is there.
"""

from typing import List

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.seeds import examples

ACTIVATIONS = ("ReLU", "PReLU", "Sigmoid", "TanH", "BatchNorm", "Scale")


class Blocks:
    """Draws a net block by block; ``end`` is the blob that the next block reads."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.lines: List[str] = []
        self.count = 0
        self.channels = self.number(2, 6)
        height, width = self.number(5, 15), self.number(5, 15)
        self.lines.append(f"data 2 {self.channels} {height} {width}")
        self.end = "data"

    def number(self, least: int, most: int) -> int:
        return int(self.data.draw(st.integers(least, most)))

    def conv(self, bottom: str, outputs: int, body: str) -> str:
        """A convolution of ``outputs`` channels; its top."""
        self.count += 1
        name = f"c{self.count}"
        inside = f"num_output: {outputs} {body}"
        self.lines.append(
            f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {inside} }} }}"
        )
        return name

    def activated(self, bottom: str) -> str:
        """Up to two layers that compute each place by itself, in place or not; the last top."""
        for _ in range(self.number(0, 2)):
            self.count += 1
            kind = ACTIVATIONS[self.number(0, len(ACTIVATIONS) - 1)]
            top = bottom if self.number(0, 1) and bottom != "data" else f"a{self.count}"
            self.lines.append(f"l{self.count}: {kind} {bottom} -> {top}")
            bottom = top
        return bottom

    def block(self) -> None:
        """A plain, residual or dense block."""
        kind = self.number(0, 2)
        start = self.activated(self.conv(self.end, self.channels, "kernel_size: 1"))
        kernel = self.number(1, 3)
        inner = self.conv(start, self.channels, f"kernel_size: {kernel} pad: {kernel // 2}")
        if kind and kernel % 2:
            self.count += 1
            join = "Eltwise" if kind == 1 else "Concat"
            self.lines.append(f"j{self.count}: {join} {start} {inner} -> j{self.count}")
            inner = f"j{self.count}"
        self.end = self.activated(inner)

    def transition(self) -> None:
        """One to three readers, most of them 1x1 of one stride; a sum of those of one size."""
        outputs, stride = self.number(2, 6), self.number(2, 3)
        tops = [
            self.conv(self.end, outputs, f"kernel_size: 1 stride: {stride}")
            for _ in range(self.number(1, 2))
        ]
        if not self.number(0, 4):
            self.conv(self.end, 3, f"kernel_size: {self.number(1, 2)} stride: {self.number(1, 3)}")
        self.end = tops[0]
        if len(tops) > 1:
            self.count += 1
            self.lines.append(f"s{self.count}: Eltwise {tops[0]} {tops[1]} -> s{self.count}")
            self.end = f"s{self.count}"
        self.channels = outputs


@examples(40)
@given(data=st.data())
def _random_strides(merger: Merger, data: st.DataObject) -> None:
    blocks = Blocks(data)
    for _ in range(blocks.number(1, 2)):
        blocks.block()
        blocks.transition()
    note("\n".join(blocks.lines))
    report = merger(*blocks.lines, seed=blocks.number(0, 3)).report
    assert (report.after.multiply_adds or 0) <= (report.before.multiply_adds or 0)


@pytest.mark.hypothesis
def test_random_strides(merged: Merger) -> None:
    """All that tests.merger checks holds, and nothing grows."""
    _random_strides(merged)

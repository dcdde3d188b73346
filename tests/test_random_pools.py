"""Random nets of 1x1 convolutions whose outputs are averaged: merged, the same.

Windows, strides, paddings, groups, biases and what stands around are drawn, and the sizes, so that
the last window is cut at some border. Real Caffe judges every net where it is there.
"""

from typing import List

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.seeds import examples

AROUND = ("ReLU", "Sigmoid", "BatchNorm", "Scale", "Dropout")


class Pools:
    """Draws a net layer by layer; ``end`` is the blob that the next layer reads."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.count = 0
        self.size = [self.number(4, 12), self.number(4, 12)]
        self.channels = 2 * self.number(1, 3)
        self.lines = [f"data 2 {self.channels} {self.size[0]} {self.size[1]}"]
        self.end = "data"
        self.read = {"data"}  # blobs that something reads already, so that nothing may write them

    def number(self, least: int, most: int) -> int:
        return int(self.data.draw(st.integers(least, most)))

    def layer(self, kind: str, bottom: str, body: str = "", in_place: bool = False) -> str:
        """A layer of this kind behind ``bottom``; its top."""
        self.count += 1
        top = bottom if in_place else f"b{self.count}"
        text = f" {{ {body} }}" if body else ""
        self.lines.append(f"l{self.count}: {kind} {bottom} -> {top}{text}")
        return top

    def around(self) -> None:
        """Perhaps a layer that keeps the shape, in place or not."""
        if self.number(0, 2):
            return
        kind = AROUND[self.number(0, len(AROUND) - 1)]
        in_place = self.end not in self.read and bool(self.number(0, 1))
        self.end = self.layer(kind, self.end, "", in_place)

    def points(self) -> None:
        """A 1x1 convolution, or two side by side; perhaps another reader of it."""
        group = self.number(1, 2) if self.channels % 2 == 0 else 1
        tops: List[str] = []
        outputs = group * self.number(1, 4)
        for _ in range(self.number(1, 2)):
            body = f"num_output: {outputs} kernel_size: 1 group: {group}"
            if self.number(0, 1):
                body += " bias_term: false"
            tops.append(self.layer("Convolution", self.end, f"convolution_param {{ {body} }}"))
        self.end, self.channels = tops[0], outputs
        if len(tops) > 1:
            join = ("Eltwise", "Concat")[self.number(0, 1)]
            self.channels *= 2 if join == "Concat" else 1
            self.end = self.layer(join, " ".join(tops))
        if not self.number(0, 5):
            self.layer("AbsVal", self.end)
            self.read.add(self.end)

    def pool(self) -> None:
        """An average, or now and then a maximum, of whatever window fits."""
        if not self.number(0, 4):
            self.end = self.layer(
                "Pooling", self.end, "pooling_param { pool: AVE global_pooling: true }"
            )
            self.size = [1, 1]
            return
        kernel = [self.number(1, min(3, size)) for size in self.size]
        stride = [self.number(1, most) for most in kernel]
        pad = self.number(0, min(kernel) - 1)
        body = f"pool: {'MAX' if not self.number(0, 4) else 'AVE'} pad: {pad} "
        body += "kernel_h: {} kernel_w: {} ".format(*kernel)
        body += "stride_h: {} stride_w: {}".format(*stride)
        self.end = self.layer("Pooling", self.end, f"pooling_param {{ {body} }}")
        self.size = [1 + (n + 2 * pad - k) // s for n, k, s in zip(self.size, kernel, stride)]


@examples(40)
@given(data=st.data())
def _random_pools(merger: Merger, data: st.DataObject) -> None:
    pools = Pools(data)
    for _ in range(pools.number(1, 2)):
        for step in (pools.around, pools.points, pools.around, pools.pool, pools.around):
            step()
    note("\n".join(pools.lines))
    report = merger(*pools.lines, seed=pools.number(0, 3)).report
    assert (report.after.multiply_adds or 0) <= (report.before.multiply_adds or 0)


@pytest.mark.hypothesis
def test_random_pools(merged: Merger) -> None:
    """All that tests.merger checks holds, and nothing grows."""
    _random_pools(merged)

"""Random nets with channels that are 0, constant, unread or there twice: merged, the same.

Weights are drawn too: rows and columns of 0, rows of one sign, equal rows. Real Caffe judges every
net where it is there.
"""

from typing import Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.merger import Merger
from tests.nets import prototxt, seeded
from tests.seeds import examples

PLAIN = ("ReLU", "ReLU", "ReLU", "PReLU", "Sigmoid", "BatchNorm", "TanH")


class Dead:
    """Draws a net layer by layer."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.count = 0
        self.size = self.number(7, 10)  # at most that of the smaller side, as layers cut it
        self.lines = [f"data 2 3 {self.size} {self.size + self.number(0, 2)}"]

    def number(self, least: int, most: int) -> int:
        return int(self.data.draw(st.integers(least, most)))

    def layer(
        self, kind: str, bottoms: str, body: str = "", tops: int = 1, over: bool = False
    ) -> str:
        """A layer of this kind behind ``bottoms``; its tops. ``over``: it writes in place."""
        self.count += 1
        names = " ".join(f"b{self.count}{'xyz'[number]}" for number in range(tops))
        text = f" {{ {body} }}" if body else ""
        self.lines.append(f"l{self.count}: {kind} {bottoms} -> {bottoms if over else names}{text}")
        return bottoms if over else names

    def conv(self, bottom: str, outputs: int, group: int = 1) -> str:
        """A convolution that keeps the size where it pads."""
        size = self.number(0, 1) * 2 + 1
        pad = size // 2 if self.size < 5 or self.number(0, 1) or group > 1 else 0
        self.size -= size - 1 - 2 * pad
        body = f"num_output: {outputs} kernel_size: {size} pad: {pad} group: {group}"
        body += " bias_term: false" if not self.number(0, 3) else ""
        return self.layer("Convolution", bottom, f"convolution_param {{ {body} }}")

    def between(self, blob: str, channels: int) -> str:
        """Up to three layers that keep channels apart."""
        for _ in range(self.number(0, 3)):
            kind = self.number(0, 9)
            if kind == 0:
                blob = self.conv(blob, channels, channels)
            elif kind == 1 and self.size > 2:
                self.size -= 1
                pool = ("pool: AVE", "pool: MAX")[self.number(0, 1)]
                body = f"{pool} kernel_size: 2 pad: {self.number(0, 1)}"
                blob = self.layer("Pooling", blob, f"pooling_param {{ {body} }}")
            elif kind == 2:
                blob = self.layer("Scale", blob, "scale_param { bias_term: true }")
            else:
                over = bool(self.number(0, 1))
                blob = self.layer(PLAIN[self.number(0, len(PLAIN) - 1)], blob, over=over)
        return blob

    def block(self, bottom: str) -> str:
        """One or two convolutions, joined; what is between; perhaps cut, and several readers."""
        channels = self.number(2, 6)
        blob = self.between(self.conv(bottom, channels), channels)
        join = self.number(0, 3)
        if join in (1, 2):
            size = self.number(1, 2)
            body = f"convolution_param {{ num_output: {channels} kernel_size: 1 }}"
            first = self.layer("Convolution", blob, body)
            others = [self.layer("Convolution", blob, body) for _ in range(size)]
            bottoms = " ".join([first, *others])
            blob = self.layer("Eltwise" if join == 1 else "Concat", bottoms)
            channels *= 1 if join == 1 else size + 1
            blob = self.between(blob, channels)
        if channels > 2 and not self.number(0, 3):
            point = f"slice_param {{ slice_point: {self.number(1, channels - 1)} }}"
            tops = self.layer("Slice", blob, point, 2)
            blob, other = tops.split()
            self.reader(other)
        for _ in range(self.number(0, 1)):
            self.reader(blob)
        return blob

    def reader(self, blob: str) -> None:
        kind = self.number(0, 4)
        if kind == 0:
            transpose = ("true", "false")[self.number(0, 1)]
            body = f"inner_product_param {{ num_output: 3 transpose: {transpose} }}"
            self.layer("InnerProduct", blob, body)
        elif kind == 1:
            self.layer("Deconvolution", blob, "convolution_param { num_output: 2 kernel_size: 2 }")
        else:
            self.conv(blob, 3)

    def weights(self, seed: int) -> Dict[str, List[np.ndarray]]:
        """Seeded weights, of which some are made 0, of one sign or equal."""
        out = seeded(prototxt(*self.lines), seed)
        for blobs in out.values():
            if not blobs or blobs[0].ndim < 2:
                if len(blobs) == 2:
                    blobs[0][self.number(0, len(blobs[0]) - 1)] *= self.number(0, 1)
                continue
            kernel = blobs[0]
            for _ in range(self.number(0, 3)):
                self.spoil(kernel, blobs[1] if len(blobs) > 1 else None)
        return out

    def spoil(self, kernel: np.ndarray, bias: Optional[np.ndarray]) -> None:
        """Make rows or columns of a kernel 0, of one sign, or equal to another."""
        rows, columns = kernel.shape[:2]
        kind, row, column = self.number(0, 4), self.number(0, rows - 1), self.number(0, columns - 1)
        if kind == 0:
            kernel[:, column] = 0
        elif kind == 1:
            kernel[row] = 0
        elif kind == 2:
            kernel[row] = -np.abs(kernel[row])
            if bias is not None and row < len(bias):
                bias[row] = -abs(bias[row])
        elif kind == 3:
            kernel[row] = kernel[0]
            if bias is not None and row < len(bias):
                bias[row] = bias[0]
        else:
            kernel[:, column] = kernel[:, 0]


@examples(25)
@given(data=st.data())
def _random_dead(merger: Merger, data: st.DataObject) -> None:
    dead = Dead(data)
    blob = "data"
    for _ in range(dead.number(1, 3)):
        blob = dead.block(blob)
    dead.conv(blob, 2)
    note("\n".join(dead.lines))
    report = merger(*dead.lines, weights=dead.weights(dead.number(0, 3))).report
    assert (report.after.multiply_adds or 0) <= (report.before.multiply_adds or 0)


@pytest.mark.hypothesis
def test_random_dead(merged: Merger) -> None:
    """All that tests.merger checks holds, and nothing grows."""
    _random_dead(merged)

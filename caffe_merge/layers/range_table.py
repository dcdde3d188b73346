"""How ready the linear layers of a net are for 8 bits: their ranges, and what rounding costs."""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from caffe_merge.algebra.ranges import LEVELS, SMALLEST_NORMAL, decibels, spread, squared_errors
from caffe_merge.arrays import Array, Float64
from caffe_merge.layers.layer import Layer, remembered
from caffe_merge.layers.linear import LINEAR_TYPES, output_multiplier
from caffe_merge.layers.ranges import channel_ranges, per_output
from caffe_merge.notes import Reason


class Row(NamedTuple):
    """One linear layer. Ratios are of its channels' ranges; a channel's range is its largest |w|.

    ``snr_per_tensor`` and ``snr_per_channel`` are the signal-to-noise ratios in dB of its weights
    rounded to 8 bits, None where nothing is lost. ``dead`` channels have weights of 0 alone,
    ``subnormal`` ones others but no normal float32; those that are ``rounded_away`` are alive, and
    become 0 with one scale per tensor. ``bias_to_range`` is the largest |bias| / range of a channel
    that is alive.
    """

    layer: str
    type: str
    channels: int
    largest: float
    to_median: Optional[float]
    to_smallest: Optional[float]
    bits_lost: Optional[float]
    most_bits_lost: Optional[float]
    snr_per_tensor: Optional[float]
    snr_per_channel: Optional[float]
    dead: int
    subnormal: int
    rounded_away: int
    largest_bias: Optional[float]
    bias_to_range: Optional[float]
    ranges: Tuple[float, ...]
    biases: Tuple[float, ...]


class Table(NamedTuple):
    """The rows of a net's linear layers, and the layers that have none with the reason."""

    rows: List[Row]
    left_out: List[Tuple[str, Reason]]

    def to_json(self) -> Dict[str, Any]:
        """The same as plain data; docs/int8.md describes every entry."""
        return {
            "layers": [_rounded(row)._asdict() for row in self.rows],
            "left_out": [{"layer": name, "reason": reason} for name, reason in self.left_out],
        }


def _rounded(row: Row) -> Row:
    """``row`` with channels of six digits: there are many, and they are looked at."""
    values = [tuple(float(f"{v:.6g}") for v in of) for of in (row.ranges, row.biases)]
    return row._replace(ranges=values[0], biases=values[1])


def table(layers: Iterable[Layer]) -> Table:
    """The rows of the linear ones of ``layers``, the worst first."""
    rows, left_out = [], []
    for layer in layers:
        if layer.type not in LINEAR_TYPES:
            continue
        measured = row(layer)
        if isinstance(measured, Reason):
            left_out.append((layer.name, measured))
        else:
            rows.append(measured)
    return Table(sorted(rows, key=lambda row: -(row.to_median or 0)), left_out)


@remembered
def row(layer: Layer) -> Union[Row, Reason]:
    """The Row of a linear ``layer``; or why it has none."""
    ranges = channel_ranges(layer)
    if isinstance(ranges, Reason):
        return ranges
    signal = per_output(layer, np.add, lambda rows, values: np.square(values, dtype=np.float64))
    largest = float(ranges.max(initial=0.0))
    alive = ranges > 0
    biases = layer.blobs[1].float64() if len(layer.blobs) > 1 else np.zeros(0)
    if not np.isfinite(biases).all():
        return Reason("its bias is not finite")
    relative = np.abs(biases[alive]) / ranges[alive] if len(biases) else np.zeros(0)
    return Row(
        layer.name,
        layer.type,
        len(ranges),
        largest,
        *spread(ranges),
        _snr(layer, signal, np.full(len(ranges), largest)),
        _snr(layer, signal, ranges),
        int((~alive).sum()),
        int((alive & (ranges < SMALLEST_NORMAL)).sum()),
        int((alive & (ranges < largest / LEVELS / 2)).sum()),
        float(np.abs(biases).max()) if len(biases) else None,
        float(relative.max()) if len(relative) else None,
        tuple(ranges.tolist()),
        tuple(biases.tolist()),
    )


def _snr(layer: Layer, signal: Float64, largest: Float64) -> Optional[float]:
    """The signal-to-noise ratio in dB of the weights, rounded with these ``largest`` values (C)."""
    steps = output_multiplier(layer, largest / LEVELS)

    def errors(rows: slice, values: Array) -> Float64:
        return squared_errors(values, steps[rows] if len(steps) > 1 else steps)

    return decibels(float(signal.sum()), float(per_output(layer, np.add, errors).sum()))

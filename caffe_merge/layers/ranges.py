"""How ready a linear layer is for 8 bits: ranges of its output channels, and what rounding costs.

All is said of the weights as they will be in the file. They are read a block of rows at a time, so
memory stays near one block.
"""

from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import numpy as np

from caffe_merge.algebra.ranges import (
    LEVELS,
    SMALLEST_NORMAL,
    decibels,
    spread,
    squared_errors,
)
from caffe_merge.arrays import Array, Float64, Indices, count
from caffe_merge.layers.layer import Layer, remembered
from caffe_merge.layers.linear import LINEAR_TYPES, odd_blobs, output_multiplier
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.notes import UNKNOWN, Reason
from caffe_merge.weights.blobs import BLOCK

TOO_WIDE = 16  # largest / median channel from which a summary warns: 4 of 8 bits


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


class Worst(NamedTuple):
    """The layer whose largest channel is furthest above its median channel."""

    layer: str
    to_median: float


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


def worst(layers: Iterable[Layer]) -> Optional[Worst]:
    """The worst of the linear ones of ``layers``; None if there is none. It rounds nothing."""
    furthest: Optional[Worst] = None
    for layer in layers:
        ranges = channel_ranges(layer) if layer.type in LINEAR_TYPES else None
        if ranges is None or isinstance(ranges, Reason):
            continue
        to_median = spread(ranges).to_median or 0.0
        if furthest is None or to_median > furthest.to_median:
            furthest = Worst(layer.name, to_median)
    return furthest


def channel_ranges(layer: Layer) -> Union[Float64, Reason]:
    """The largest magnitude (C) of the weights of each output channel of a linear ``layer``."""
    odd = odd_blobs(layer)
    if odd is not None:
        return odd
    if layer.missing:
        return Reason("the file has no weights for it, and its fillers are random", UNKNOWN)
    if not count(layer.blobs[0].shape):
        return Reason("its weights have no values")
    ranges = _per_channel(layer, np.maximum, lambda rows, values: np.abs(values))
    if not np.isfinite(ranges).all():
        return Reason("its weights are not finite")
    return ranges


def ranges_between(layer: Layer, inputs: Optional[int]) -> Float64:
    """The largest magnitudes of the weights between channels: (groups, outputs, inputs) of a group.

    The linear ``layer`` reads ``inputs`` channels; None takes all inputs of a group as one. It is
    one of which channel_ranges tells something.
    """
    weights = layer.blobs[0]
    rows, columns = weights.shape[:2]
    product = layer.type == "InnerProduct"
    transposed = product and layer.param.inner_product_param.transpose
    if product and not transposed:
        columns = inputs or 1  # a channel is several columns
    cells = np.zeros((rows, columns))
    for block in _blocks(weights.shape):
        magnitudes = np.abs(weights.rounded(block))
        cells[block] = magnitudes.reshape(len(magnitudes), columns, -1).max(axis=2)
    if product and not transposed:
        return cells[np.newaxis]
    if transposed:
        by_channel: Float64 = cells.reshape(inputs or 1, -1, columns).max(axis=1)
        return by_channel.T[np.newaxis]
    group = rows if layer.type == DEPTHWISE else int(layer.param.convolution_param.group)
    grouped: Float64 = cells.reshape(group, -1, columns)
    if layer.type == "Deconvolution":
        grouped = grouped.swapaxes(1, 2)
    return grouped if inputs is not None else grouped.max(axis=2, keepdims=True)


@remembered
def row(layer: Layer) -> Union[Row, Reason]:
    """The Row of a linear ``layer``; or why it has none."""
    ranges = channel_ranges(layer)
    if isinstance(ranges, Reason):
        return ranges
    signal = _per_channel(layer, np.add, lambda rows, values: np.square(values, dtype=np.float64))
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

    return decibels(float(signal.sum()), float(_per_channel(layer, np.add, errors).sum()))


def _per_channel(
    layer: Layer, reduction: np.ufunc, function: Callable[[slice, Array], Array]
) -> Float64:
    """``function`` of blocks of weights, reduced over all weights of an output channel: (C).

    The rows of the weights are inputs or outputs. Those of one group make the same channels.
    """
    weights = layer.blobs[0]
    group_of, columns = _groups(layer)
    out = np.zeros((int(group_of[-1]) + 1 if len(group_of) else 0, columns))
    for rows in _blocks(weights.shape):
        values = function(rows, weights.rounded(rows))
        cells = reduction.reduce(values.reshape(len(values), columns, -1), axis=2)
        starts = np.flatnonzero(np.diff(group_of[rows], prepend=-1))
        groups = group_of[rows][starts]
        out[groups] = reduction(out[groups], reduction.reduceat(cells, starts, axis=0))
    return out.reshape(-1)


def _groups(layer: Layer) -> Tuple[Indices, int]:
    """For each row of the weights, the group of output channels it makes; channels in a group."""
    shape = layer.blobs[0].shape
    rows = np.arange(shape[0])
    if layer.type == "Deconvolution":
        return rows // max(shape[0] // layer.param.convolution_param.group, 1), shape[1]
    if layer.type == "InnerProduct" and layer.param.inner_product_param.transpose:
        return np.zeros_like(rows), shape[1]
    return rows, 1


def _blocks(shape: Tuple[int, ...]) -> Iterator[slice]:
    step = max(BLOCK // max(count(shape[1:]), 1), 1)
    yield from (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))

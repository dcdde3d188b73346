"""The ranges of a linear layer's channels, and how far its largest is above the others.

All is said of the weights as they will be in the file. They are read a block of rows at a time, so
memory stays near one block.
"""

from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np

from caffe_merge.algebra.ranges import to_median
from caffe_merge.arrays import Array, Float64, Indices, count
from caffe_merge.formats.weights.blobs import BLOCK
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, odd_blobs
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.notes import UNKNOWN, Reason

TOO_WIDE = 16  # largest / median channel from which a summary warns: 4 of 8 bits


class Worst(NamedTuple):
    """The layer whose largest channel is furthest above its median channel."""

    layer: str
    to_median: float


def worst(layers: Iterable[Layer]) -> Optional[Worst]:
    """The worst of the linear ones of ``layers``; None if there is none. It rounds nothing."""
    furthest: Optional[Worst] = None
    for layer in layers:
        ranges = channel_ranges(layer) if layer.type in LINEAR_TYPES else None
        if ranges is None or isinstance(ranges, Reason):
            continue
        ratio = to_median(ranges) or 0.0
        if furthest is None or ratio > furthest.to_median:
            furthest = Worst(layer.name, ratio)
    return furthest


def channel_ranges(layer: Layer) -> Union[Float64, Reason]:
    """The largest magnitude (C) of the weights of each output channel of a linear ``layer``."""
    reason = odd_blobs(layer)
    if reason is not None:
        return reason
    if layer.missing:
        return Reason("the file has no weights for it, and its fillers are random", UNKNOWN)
    if not count(layer.blobs[0].shape):
        return Reason("its weights have no values")
    ranges = _ranges(layer)
    if not np.isfinite(ranges).all():
        return Reason("its weights are not finite")
    return ranges


def _ranges(layer: Layer) -> Float64:
    weights = layer.blobs[0]
    if _rows_are_outputs(layer):
        blocks = [weights.largest(rows) for rows in _blocks(weights.shape)]
        return np.asarray(np.concatenate(blocks), np.float64)
    return per_output(layer, np.maximum, lambda rows, values: np.abs(values))


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


def per_output(
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
    if _rows_are_outputs(layer):
        return rows, 1
    if layer.type == "Deconvolution":
        return rows // max(shape[0] // layer.param.convolution_param.group, 1), shape[1]
    return np.zeros_like(rows), shape[1]


def _rows_are_outputs(layer: Layer) -> bool:
    """Whether each row of its weights is an output channel; else rows are inputs."""
    if layer.type == "InnerProduct":
        return not layer.param.inner_product_param.transpose
    return layer.type != "Deconvolution"


def _blocks(shape: Tuple[int, ...]) -> Iterator[slice]:
    step = max(BLOCK // max(count(shape[1:]), 1), 1)
    yield from (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))

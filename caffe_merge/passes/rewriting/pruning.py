"""Pruned layers: parameters and blobs without some of the channels.

W'[o, i] = W[o, i] for the outputs and inputs that stay
b' = b + sum over inputs that go, W[o, i] constant[i]
W'[o, i] = W[o, i] + W[o, j] where input j goes and always equals input i
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Float64, Indices, Shape, count
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Blob, Computed, Dense, Rows
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import linear_param
from caffe_merge.layers.matrices import Mask, inputs_axis
from caffe_merge.passes.rewriting.forward_folding import folded_forward


class KeptChannels(NamedTuple):
    """The channels of a blob that are kept, and what replaces each that is removed.

    ``keep`` marks the kept channels; ``constant`` is the value of a removed one (0 where it has no
    effect); ``twin`` is the channel that always has the same value, -1 where there is none.
    """

    keep: Mask
    constant: Float64
    twin: Indices


def linear(layer: Layer, below: Optional[KeptChannels], keep: Optional[Mask]) -> New:
    """The layer, of one group, with channels of its bottom and top left out."""
    param, blobs = copied(layer.param), layer.blobs
    axis, weights = inputs_axis(layer), layer.blobs[0]
    numbers = [np.arange(size) for size in weights.shape[:2]]
    pairs: List[Tuple[int, int]] = []
    if below is not None:
        if below.constant.any():
            ones = np.ones(len(below.keep))
            param, blobs = folded_forward(layer, Affine(ones, below.constant, 1))
        width = weights.shape[axis] // len(below.keep)
        numbers[axis] = np.flatnonzero(np.repeat(below.keep, width))
        pairs = _pairs(below, width)
    biases = list(blobs[1:])
    if keep is not None:
        numbers[1 - axis] = np.flatnonzero(keep)
        linear_param(param).num_output = int(keep.sum())
        biases = [Dense(blob.float64()[keep], blob.dtype) for blob in biases]
    return param, (selected(weights, numbers, pairs, axis), *biases)


def _pairs(below: KeptChannels, width: int) -> List[Tuple[int, int]]:
    """For each input that goes and has a twin: where the twin is among those that stay, and it."""
    places = np.cumsum(below.keep) - 1
    pairs = []
    for channel in np.flatnonzero(~below.keep & (below.twin >= 0)).tolist():
        place = int(places[below.twin[channel]])
        pairs += [(place * width + n, channel * width + n) for n in range(width)]
    return pairs


def selected(
    weights: Blob, numbers: Sequence[Indices], pairs: Sequence[Tuple[int, int]], axis: int
) -> Blob:
    """Some rows and columns of ``weights``; ``pairs`` (to, of) are added up along ``axis``."""
    of_rows, of_columns = numbers
    shape: Shape = (len(of_rows), len(of_columns), *weights.shape[2:])

    def values(rows: Rows) -> Float64:
        chosen = of_rows[rows]
        wide = np.asarray(weights.rows(chosen), np.float64)
        out: Float64 = wide[:, of_columns]
        if axis == 1:
            for to, source in pairs:
                out[:, to] += wide[:, source]
            return out
        at = np.arange(len(of_rows))[rows]
        for to, source in pairs:
            if (at == to).any():
                more = np.asarray(weights.rows(np.array([source])), np.float64)
                out[at == to] += more[:, of_columns]
        return out

    return Computed(shape, values, weights.dtype, weights.depth + 1)


def depthwise(layer: Layer, keep: Mask) -> New:
    """A depthwise convolution of fewer channels."""
    param = copied(layer.param)
    left = int(keep.sum())
    for name in ("num_output", "group"):
        if param.convolution_param.HasField(name):
            setattr(param.convolution_param, name, left)
    weights, *biases = layer.blobs
    numbers = [np.flatnonzero(keep), np.arange(1)]
    new_biases = [Dense(blob.float64()[keep], blob.dtype) for blob in biases]
    return param, (selected(weights, numbers, (), 1), *new_biases)


def per_channel(layer: Layer, keep: Mask) -> New:
    """A layer whose blobs have a value for each channel, or one for all."""
    if not any(count(blob.shape) == len(keep) for blob in layer.blobs):
        return layer.param, layer.blobs
    return copied(layer.param), tuple(_vector(blob, keep) for blob in layer.blobs)


def _vector(blob: Blob, keep: Mask) -> Blob:
    if count(blob.shape) != len(keep):
        return blob
    shape = tuple(int(keep.sum()) if size == len(keep) else size for size in blob.shape)
    return Dense(blob.float64().reshape(-1)[keep].reshape(shape), blob.dtype)


def sliced(layer: Layer, sizes: Sequence[int]) -> New:
    """A Slice whose tops have these channels."""
    param = copied(layer.param)
    points = np.cumsum(sizes)[:-1].tolist()
    if param.slice_param.slice_point or len(set(sizes)) > 1:
        param.slice_param.slice_point[:] = points
    return param, layer.blobs

"""A convolution at one size as the matrix that it is, of all values given out by all that are read.

(Ding et al.: RepMLP, 2021, section 3.3, does it by running the convolution on an identity matrix.)
"""

from __future__ import annotations

from math import prod

import numpy as np

from caffe_merge.algebra.kernels import Kernel
from caffe_merge.arrays import Float64, Indices, Shape
from caffe_merge.formats.weights.blobs import Rows


def dense(kernel: Kernel, sizes: Shape, places: Shape) -> Kernel:
    """``kernel`` over an input of spatial ``sizes`` as one without axes.

    Its outputs and inputs are values of an image in Caffe's order, channel, then place; ``places``
    are how many outputs lie along each axis.
    """
    each = prod(places)
    outputs = kernel.outputs * each

    def weights(rows: Rows) -> Float64:
        return _rows(kernel, sizes, places, np.arange(outputs)[rows])

    def bias() -> Float64:
        assert kernel.bias is not None
        return np.repeat(kernel.bias(), each)

    inputs = kernel.inputs * prod(sizes)
    has_bias = kernel.bias is not None
    return Kernel(outputs, inputs, 1, (), weights, bias if has_bias else None, kernel.depth + 1)


def _rows(kernel: Kernel, sizes: Shape, places: Shape, rows: Indices) -> Float64:
    """Those ``rows`` of the matrix: (rows, inputs x sizes). Taps outside of the input read 0."""
    channels, place = np.divmod(rows, prod(places))
    needed, index = np.unique(channels, return_inverse=True)
    taps = kernel.weights(needed)
    depth = kernel.inputs // kernel.group
    first = channels // (kernel.outputs // kernel.group) * depth
    at = np.unravel_index(place, places)
    out = np.zeros((len(rows), kernel.inputs, *sizes))
    for tap in np.ndindex(*kernel.taps):
        where = [
            axis.start + axis.step * number + axis.stride * along
            for axis, number, along in zip(kernel.axes, tap, at)
        ]
        inside = np.all([(w >= 0) & (w < size) for w, size in zip(where, sizes)], axis=0)
        read = first[inside, np.newaxis] + np.arange(depth)
        target = (np.flatnonzero(inside)[:, np.newaxis], read)
        spatial = tuple(w[inside, np.newaxis] for w in where)
        out[(*target, *spatial)] += taps[(index[inside], slice(None), *tap)]
    return out.reshape(len(rows), -1)

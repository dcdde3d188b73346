"""Pooling and SPP: a window's maximum, mean, or (STOCHASTIC) weighted mean."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Dict, List, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.geometry import Window, pooled, pooling_window, spp_windows
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes, Unsupported

LOWEST = -(2.0**128 - 2.0**104)  # -FLT_MAX, what Caffe starts a maximum from


def slide(
    function: np.ufunc,
    start: float,
    x: np.ndarray,
    axis: int,
    span: Tuple[int, int, int],
    size: int,
) -> np.ndarray:
    """Slide a window of ``span`` (kernel, stride, pad) along one axis of ``x``, ``size`` times.

    y[o] = function over x[o stride - pad + k], k < kernel, as far as it is inside x; ``start``
    where nothing is. Sums and maxima over a box are one slide per axis.
    """
    kernel, stride, pad = span
    length = x.shape[axis]
    lines = x.reshape(prod(x.shape[:axis]), length, -1)
    y = np.full((lines.shape[0], size, lines.shape[2]), start)
    if size < kernel:
        for index in range(size):
            begin = index * stride - pad
            patch = lines[:, max(begin, 0) : max(begin + kernel, 0)]
            if patch.shape[1]:
                y[:, index] = function.reduce(patch, axis=1)
    else:
        for offset in range(kernel):
            to, source = _overlap(offset - pad, stride, length, size)
            function(y[:, to], lines[:, source], out=y[:, to])
    return y.reshape(*x.shape[:axis], size, *x.shape[axis + 1 :])


def _overlap(shift: int, stride: int, length: int, size: int) -> Tuple[slice, slice]:
    """The outputs o < size with 0 <= o stride + shift < length, and the inputs that they read."""
    first = max(0, -(shift // stride))
    last = max(first, min(size, (length - 1 - shift) // stride + 1))
    begin = first * stride + shift
    return slice(first, last), slice(begin, begin + (last - first) * stride, stride)


def pool(
    x: np.ndarray, function: np.ufunc, start: float, window: Window, size: Shape
) -> np.ndarray:
    """Reduce each window with ``function``, by axis: x (N, C, spatial) -> y (N, C, size)."""
    for axis in range(len(size)):
        span = (window.kernel[axis], window.stride[axis], window.pad[axis])
        x = slide(function, start, x, axis + 2, span, size[axis])
    return x


def average(x: np.ndarray, window: Window, size: Shape) -> np.ndarray:
    """The sum of each window over its area inside the padded input (pooling_layer.cpp)."""
    y = pool(x, np.add, 0.0, window, size)
    y /= reduce(np.multiply.outer, _extents(x, window, size))
    return y


def _extents(x: np.ndarray, window: Window, size: Shape) -> List[np.ndarray]:
    """On each axis, how much of each window lies inside the padded input."""
    extents = []
    for length, kernel, stride, pad, pad_end, windows in zip(
        x.shape[2:], window.kernel, window.stride, window.pad, window.pad_end, size
    ):
        begin = np.arange(windows) * stride - pad
        extents.append(np.minimum(begin + kernel, length + pad_end) - begin)
    return extents


def maximum_and_mask(x: np.ndarray, window: Window, size: Shape) -> List[np.ndarray]:
    """The maximum and, as y * W + x, where the first one is; -1 where the window is empty."""
    best = np.full((*x.shape[:2], *size), LOWEST)
    mask = np.full(best.shape, -1.0)
    places = np.arange(prod(x.shape[2:]), dtype=np.float64).reshape(x.shape[2:])
    for offset in np.ndindex(*window.kernel):
        (rows, of_rows), (columns, of_columns) = (
            _overlap(k - p, s, length, n)
            for k, p, s, length, n in zip(offset, window.pad, window.stride, x.shape[2:], size)
        )
        values = x[:, :, of_rows, of_columns]
        maximum = best[:, :, rows, columns]
        larger = values > maximum
        np.copyto(maximum, values, where=larger)
        np.copyto(mask[:, :, rows, columns], places[of_rows, of_columns], where=larger)
    return [best, mask]


def _stochastic(x: np.ndarray, window: Window, size: Shape) -> np.ndarray:
    """The expected value, sum of x^2 / sum of x, or 0 (pooling_layer.cu; Caffe's CPU has none)."""
    total = pool(x, np.add, 0.0, window, size)
    squares = pool(x * x, np.add, 0.0, window, size)
    return np.where(total > 0, squares / total, 0.0)


def _pooling(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    param, (x,), size = layer.param.pooling_param, bottoms, tops[0][2:]
    window = pooling_window(layer, x.shape[2:])
    if len(size) > 2:
        _check_volume(layer, x, window, tops)
    if param.pool == param.AVE:
        return [average(x, window, size)]
    if param.pool == param.STOCHASTIC:
        return [_stochastic(x, window, size)]
    if len(tops) > 1:
        return maximum_and_mask(x, window, size)
    return [pool(x, np.maximum, LOWEST, window, size)]


def _check_volume(layer: LayerSpec, x: np.ndarray, window: Window, tops: TopShapes) -> None:
    """Over three axes only a GPU pools (ECO's cudnn_pooling_layer.cu): what is certain of it."""
    if len(tops) > 1:
        raise Unsupported(layer, "where the maximum lies, over 3 axes")
    if layer.param.pooling_param.pool == layer.param.pooling_param.MAX:
        return
    inside = _extents(x, window, tops[0][2:])
    if any((extent < size).any() for extent, size in zip(inside, window.kernel)):
        raise Unsupported(layer, "the mean of windows over 3 axes that stick out of the input")


def _spp(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Pool at each level of the pyramid; all levels flat, side by side (spp_layer.cpp)."""
    param, (x,) = layer.param.spp_param, bottoms
    if param.pool == param.STOCHASTIC:
        raise Unsupported(layer, "STOCHASTIC pooling of a pyramid")
    levels = []
    for window in spp_windows(layer, x.shape[2:]):
        size = pooled(layer, window, x.shape[2:])
        if param.pool == param.AVE:
            y = average(x, window, size)
        else:
            y = pool(x, np.maximum, LOWEST, window, size)
        levels.append(y.reshape(len(x), -1))
    return [np.concatenate(levels, axis=1).reshape(tops[0])]


FUNCTIONS: Dict[str, Function] = {"Pooling": _pooling, "SPP": _spp}

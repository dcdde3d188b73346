"""Convolution, Deconvolution and InnerProduct: as few passes over memory as a case allows.

A 1x1 kernel is a matrix product. A depthwise convolution is a sum of shifted products, a column of
taps at a time. One with few outputs is the products of all taps at once, then shifted sums. Else
windows are made columns, and these are multiplied. Taps that only read padding are left out.

All of these are sums of products as the definition has them, so zeros give an exact 0. Winograd's
tiles need fewer products, but have 1e-17 of either sign there: with a square root or a steep
Sigmoid behind it a right merge would be refused.

Memory: the columns (the "im2col" of base_conv_layer.cpp) are the kernel's volume times as large as
the input, so they are made for a block of windows at a time: several images if they are small,
some rows of one image if it is large.
"""

from __future__ import annotations

from math import gcd, prod
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.geometry import Window, canonical, convolution_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes

Box = Tuple[Tuple[int, int], ...]  # (start, stop) per axis

_EVERY = (slice(None), slice(None))
BLOCK = 1 << 19  # the values that one block of columns may have: 4 MB, which malloc keeps
CACHED = 1 << 15  # the values of a block that is gone through many times: 256 kB


def convolve(x: np.ndarray, weights: np.ndarray, window: Window, size: Shape) -> np.ndarray:
    """Convolve x (N, C, spatial) with weights (M, C / group, kernel) to y (N, M, size).

    y[n, m, o] = sum of w[m, c, k] x[n, c, o stride - pad + k dilation] over k and m's group of c
    """
    num, channels = x.shape[:2]
    weights, window = _within_reach(weights, window, x.shape[2:], size)
    outputs, depth = weights.shape[0], prod(weights.shape[1:])
    group = channels // weights.shape[1] if channels else 1
    if _is_pointwise(window):
        x = x[_EVERY + tuple(slice(0, (n - 1) * s + 1, s) for n, s in zip(size, window.stride))]
        matrix = weights.reshape(group, outputs // group, depth)
        product = _product(matrix, x.reshape(num, group, depth, prod(size)))
        return product.reshape(num, outputs, *size)
    if group == channels == outputs:
        return _depthwise(x, weights, window, size)
    if 2 * outputs <= channels and _has_reverse(window):
        return _by_taps(x, weights, window, group)
    matrix = weights.reshape(group, outputs // group, depth)
    y: np.ndarray = np.empty((num, outputs, *size))
    for box in _blocks((num, *size), BLOCK // max(group * depth, outputs)):
        part = y[_within(box)]
        windows = _windows(x, window, box)
        columns = windows.reshape(len(part), group, depth, prod(part.shape[2:]))
        part[...] = _product(matrix, columns).reshape(part.shape)
    return y


def _within_reach(
    weights: np.ndarray, window: Window, lengths: Shape, size: Shape
) -> Tuple[np.ndarray, Window]:
    """The same without taps at the ends that read only padding, as most do of an input of 1x1.

    So an inf in such a tap makes no NaN of the padding's 0, as it does in Caffe's product.
    """
    if not all(window.dilation):  # all taps read the same place
        return weights, window
    taps, pad, pad_end = [], [], []
    for kernel, s, p, end, d, length, n in zip(*window, lengths, size):
        first = max(0, min(kernel - 1, -(((n - 1) * s - p) // d)))
        stop = max(first + 1, min(kernel, (length - 1 + p) // d + 1))
        taps.append(slice(first, stop))
        pad.append(p - first * d)
        pad_end.append(end - (kernel - stop) * d)
    kept = weights[_EVERY + tuple(taps)]
    if kept.shape == weights.shape:
        return weights, window
    return kept, window._replace(kernel=kept.shape[2:], pad=tuple(pad), pad_end=tuple(pad_end))


def _product(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``matrix`` (G, M / G, depth) times columns (N, G, depth, size): (N, G, M / G, size).

    Where each image has one column, all of them are one product.
    """
    if columns.shape[-1] != 1:
        product: np.ndarray = np.matmul(matrix, columns)
        return product
    rows: np.ndarray = np.matmul(columns[..., 0].swapaxes(0, 1), matrix.swapaxes(1, 2))
    return rows.swapaxes(0, 1)[..., None]


def _by_taps(x: np.ndarray, weights: np.ndarray, window: Window, group: int) -> np.ndarray:
    """Convolve as the deconvolution that it is where the stride is 1: its taps are in reverse.

    That goes through a column of outputs for each tap instead of one of channels.
    """
    outputs, depth, *kernel = weights.shape
    taps = np.flip(weights, tuple(range(2, weights.ndim))).reshape(group, -1, depth, *kernel)
    taps = taps.swapaxes(1, 2).reshape(group * depth, outputs // group, *kernel)
    pad, pad_end = (
        tuple(extent - 1 - size for extent, size in zip(window.extent, pads))
        for pads in (window.pad, window.pad_end)
    )
    return deconvolve(x, taps, window._replace(pad=pad, pad_end=pad_end), group)


def _depthwise(x: np.ndarray, weights: np.ndarray, window: Window, size: Shape) -> np.ndarray:
    """Convolve x (N, C, spatial) with weights (C, 1, kernel): each channel by itself.

    The padded input is cut into phases, the places that are a stride apart. In its phase the input
    of a tap for all outputs, of all channels, is one run of values, those at the ends of rows being
    of no use.
    """
    if prod(size) == 1:  # one window is one product: phases would be longer than that
        columns = _windows(x, window, ((0, len(x)), *[(0, 1)] * len(size)))
        rows = columns.reshape(*x.shape[:2], -1)
        product: np.ndarray = np.einsum("nck,ck->nc", rows, weights.reshape(len(weights), -1))
        return product.reshape(*x.shape[:2], *size)
    lengths = tuple(n + (e - 1) // s for n, e, s in zip(size, window.extent, window.stride))
    y: np.ndarray = np.empty((*x.shape[:2], *size))
    for box in _blocks(x.shape[:2], max(1, CACHED // prod(lengths))):
        block = tuple(slice(*span) for span in box)
        part = y[block]
        sums = _tap_sums(x[block], weights[block[1], 0], window, lengths)
        total = next(sums)
        for more in sums:
            total += more
        rows = total.reshape(*part.shape[:2], *lengths)
        part[...] = rows[_EVERY + tuple(slice(0, n) for n in size)]
    return y


def _tap_sums(
    x: np.ndarray, taps: np.ndarray, window: Window, lengths: Shape
) -> Iterator[np.ndarray]:
    """Parts (N, C, product of lengths) of a depthwise convolution of x with ``taps`` (C, kernel).

    Each is of the taps of one phase that are alike but for their place on the first axis: their
    runs begin at equal distances, so that one pass over memory has the sum.
    """
    phases = _phases(x, window, lengths)
    rows = [prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
    shape, width = (*x.shape[:2], prod(lengths)), phases.itemsize
    period = window.stride[0] // gcd(window.stride[0], window.dilation[0])
    distance = window.dilation[0] * period // window.stride[0] * rows[0]
    steps = (width * distance, width * shape[1] * shape[2], width * shape[2], width)
    for offset in np.ndindex(min(period, window.kernel[0]), *window.kernel[1:]):
        places = [k * d for k, d in zip(offset, window.dilation)]
        phase = tuple(p % s for p, s in zip(places, window.stride))
        begin = sum(p // s * row for p, s, row in zip(places, window.stride, rows))
        alike = taps[(slice(None), slice(offset[0], None, period), *offset[1:])]
        runs = np.ndarray((alike.shape[1], *shape), np.float64, phases[phase], width * begin, steps)
        yield np.einsum("kncl,ck->ncl", runs, alike)


def _phases(x: np.ndarray, window: Window, lengths: Shape) -> np.ndarray:
    """Cut x (N, C, spatial), padded, into phases (stride, N * C * product of lengths, and more).

    What is more are zeros, for the runs of taps that end behind the last row.
    """
    volume = prod(x.shape[:2]) * prod(lengths)
    more = sum(
        (e - 1) // s * prod(lengths[axis + 1 :])
        for axis, (e, s) in enumerate(zip(window.extent, window.stride))
    )
    phases = np.zeros((*window.stride, volume + more))
    for phase in np.ndindex(*window.stride):
        inside, sources = [], []
        for place, length, s, p, n in zip(phase, x.shape[2:], window.stride, window.pad, lengths):
            first = max(-((place - p) // s), 0)
            begin = first * s + place - p
            count = max(min(n - first, -((begin - length) // s)), 0)
            inside.append(slice(first, first + count))
            sources.append(slice(begin, begin + count * s, s))
        padded = phases[phase][:volume].reshape(*x.shape[:2], *lengths)
        padded[_EVERY + tuple(inside)] = x[_EVERY + tuple(sources)]
    return phases


def deconvolve(x: np.ndarray, weights: np.ndarray, window: Window, group: int) -> np.ndarray:
    """Deconvolve x (N, C, spatial) with weights (C, M / group, kernel) to y (N, M, spatial').

    The transpose of a convolution: each x[n, c, i] adds w[c, m, k] x[n, c, i] to
    y[n, m of c's group, i stride - pad + k dilation].
    """
    num, channels = x.shape[:2]
    kernel = weights.shape[2:]
    outputs = weights.shape[1] * group
    matrix = weights.reshape(group, channels // group, -1).swapaxes(1, 2)
    padded_size = [s * (n - 1) + e for n, s, e in zip(x.shape[2:], window.stride, window.extent)]
    y: np.ndarray = np.zeros((num, outputs, *padded_size))
    for box in _blocks((num, *x.shape[2:]), BLOCK // (outputs * prod(kernel))):
        part = x[_within(box)]
        spatial = part.shape[2:]
        columns = np.matmul(matrix, part.reshape(len(part), group, -1, prod(spatial)))
        columns = columns.reshape(len(part), outputs, *kernel, *spatial)
        for offset in np.ndindex(*kernel):
            places = [
                (start * s + k * d, (stop - 1) * s + k * d + 1, s)
                for (start, stop), k, s, d in zip(box[1:], offset, window.stride, window.dilation)
            ]
            target = y[_within((box[0], *places))]
            target += columns[_EVERY + offset]
    borders = zip(window.pad, window.pad_end, padded_size)
    return y[_EVERY + tuple(slice(begin, size - end) for begin, end, size in borders)]


def _is_pointwise(window: Window) -> bool:
    return {*window.kernel} <= {1} and not any((*window.pad, *window.pad_end))


def _has_reverse(window: Window) -> bool:
    """Whether a convolution is a deconvolution too: that pads by what is left of the extent."""
    borders = zip(window.pad, window.pad_end, window.extent)
    return {*window.stride} == {1} and all(max(pads) < extent for *pads, extent in borders)


def _blocks(shape: Shape, limit: int) -> Iterator[Box]:
    """Cut a grid of ``shape`` into boxes of at most ``limit`` points, in row-major order."""
    if not shape:
        yield ()
        return
    inner = prod(shape[1:])
    step = max(1, limit // max(inner, 1))
    for start in range(0, shape[0], step):
        for box in _blocks(shape[1:], limit if step == 1 else inner):
            yield ((start, min(start + step, shape[0])), *box)


def _within(box: Sequence[Tuple[int, ...]]) -> Tuple[slice, ...]:
    """The index of ``box``, whose first range is of images, in an array (N, C, spatial)."""
    images, *ranges = [slice(*span) for span in box]
    return (images, slice(None), *ranges)


def _windows(x: np.ndarray, window: Window, box: Box) -> np.ndarray:
    """The windows of ``box`` (images, then output ranges) as a view (n, C, kernel, sizes).

    Only the input under these windows is copied, and only if they reach into the padding.
    """
    input_box, patch_box, patch_size = [box[0]], [(0, box[0][1] - box[0][0])], []
    for (start, stop), length, s, p, e in zip(
        box[1:], x.shape[2:], window.stride, window.pad, window.extent
    ):
        begin, end = start * s - p, (stop - 1) * s - p + e
        low = min(max(begin, 0), length)
        high = max(min(end, length), low)
        input_box.append((low, high))
        patch_box.append((low - begin, high - begin))
        patch_size.append(end - begin)
    patch = x[_within(input_box)]
    if patch.shape[2:] != tuple(patch_size):
        padded = np.zeros((*patch.shape[:2], *patch_size))
        padded[_within(patch_box)] = patch
        patch = padded
    steps = patch.strides[2:]
    return as_strided(
        patch,
        (*patch.shape[:2], *window.kernel, *[stop - start for start, stop in box[1:]]),
        (
            *patch.strides[:2],
            *[step * d for step, d in zip(steps, window.dilation)],
            *[step * s for step, s in zip(steps, window.stride)],
        ),
        writeable=False,
    )


def _add_bias(y: np.ndarray, bias: Sequence[np.ndarray]) -> np.ndarray:
    """Add the bias (M), if there is one, to y (N, M, ...), which is nobody else's."""
    if bias:
        y += bias[0].reshape(-1, *[1] * (y.ndim - 2))
    return y


def _batched(layer: LayerSpec, bottom: np.ndarray) -> Tuple[np.ndarray, Window]:
    """``bottom`` as (N, C, spatial), with all axes before the channels in one, and its window."""
    axis = canonical(layer, layer.param.convolution_param.axis, bottom.ndim)
    window = convolution_window(layer, bottom.ndim - axis - 1)
    return bottom.reshape(prod(bottom.shape[:axis]), *bottom.shape[axis:]), window


def _convolution(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    results = []
    for bottom, top in zip(bottoms, tops):
        x, window = _batched(layer, bottom)
        y = convolve(x, blobs[0], window, top[len(top) - x.ndim + 2 :])
        results.append(_add_bias(y, blobs[1:]).reshape(top))
    return results


def _deconvolution(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    results = []
    for bottom, top in zip(bottoms, tops):
        x, window = _batched(layer, bottom)
        y = deconvolve(x, blobs[0], window, layer.param.convolution_param.group)
        results.append(_add_bias(y, blobs[1:]).reshape(top))
    return results


def _inner_product(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Compute y = x W^T + b, or x W + b if transpose, with x as (outer, K)."""
    weights = blobs[0] if layer.param.inner_product_param.transpose else blobs[0].T
    y = np.matmul(bottoms[0].reshape(-1, len(weights)), weights)
    return [_add_bias(y, blobs[1:]).reshape(tops[0])]


FUNCTIONS: Dict[str, Function] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "InnerProduct": _inner_product,
}

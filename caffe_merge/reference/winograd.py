"""Convolution by tiles: m outputs of a kernel's k taps cost n = m + k - 1 products, not m k.

Along an axis, for the m outputs y that n values x of the input make with the taps w,

    y = A^T ((G w) * (B^T x))

with A (n, m), G (n, k) and B (n, n) as Winograd has them: Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks" (arXiv:1509.09308). Over several axes each matrix is the Kronecker
product of theirs. Sums over channels come between, so they are n matrix products.

Rounding leaves about 1e-14 of a tile's largest value. So two windows with the same values need not
give quite the same: where it matters which is larger, this is not for use. Where one value is far
larger than the others, or is not finite, convolution.py computes.
"""

from __future__ import annotations

from functools import lru_cache, partial, reduce
from math import inf, prod
from typing import Dict, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.geometry import Window
from caffe_merge.reference import convolution
from caffe_merge.reference.layer import Function

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0)  # and infinity
_OUTPUTS = (2, 3, 4)  # along an axis: more cost more sums, and digits
_MOVED = 8  # products that take as long as a value that is copied
_WORTH = 0.75  # of the time that columns take
_BLOCK = 1 << 19  # values of a block's tiles: 4 MB
_FAR = 1e4  # times the mean of sizes

Transforms = Tuple[np.ndarray, np.ndarray, np.ndarray]


def convolve(x: np.ndarray, weights: np.ndarray, window: Window, size: Shape) -> np.ndarray:
    """Convolve as convolution.convolve does, by tiles where that is quicker."""
    weights, window = convolution.within_reach(weights, window, x.shape[2:], size)
    tile = _tile(x.shape, weights.shape, window, size)
    if tile is None or not (_is_level(x) and np.isfinite(weights.sum())):
        return convolution.convolve(x, weights, window, size)
    return _by_tiles(x, weights, window, size, tile)


def _by_tiles(
    x: np.ndarray, weights: np.ndarray, window: Window, size: Shape, tile: Shape
) -> np.ndarray:
    """Convolve x (N, C, spatial) with weights (M, C / group, kernel), ``tile`` outputs at once."""
    num, channels = x.shape[:2]
    outputs, depth = weights.shape[:2]
    group = channels // depth
    of_outputs, of_weights, of_input = _transforms(tile, window.kernel)
    points = len(of_input)
    matrix = of_weights @ weights.reshape(outputs * depth, -1).T
    matrix = matrix.reshape(points, group, outputs // group, depth)
    reads = tuple(m + k - 1 for m, k in zip(tile, window.kernel))
    tiles = window._replace(kernel=reads, stride=tile)
    counts = tuple(-(-n // m) for n, m in zip(size, tile))
    y: np.ndarray = np.empty((num, outputs, *size))
    for box in convolution.blocks((num, *counts), _BLOCK // (points * max(channels, outputs))):
        spans = [(start * m, min(stop * m, n)) for (start, stop), m, n in zip(box[1:], tile, size)]
        part = y[convolution.within((box[0], *spans))]
        columns = convolution.windows(x, tiles, box)
        blocks = columns.shape[2 + len(tile) :]
        columns = of_input @ columns.reshape(len(part), channels, points, prod(blocks))
        columns = columns.reshape(len(part), group, depth, points, -1).transpose(0, 3, 1, 2, 4)
        sums = of_outputs @ (matrix @ columns).reshape(len(part), points, -1)
        sums = sums.reshape(len(part), *tile, outputs, *blocks)
        part[...] = _side_by_side(sums, len(tile))[tuple(slice(0, n) for n in part.shape)]
    return y


def _side_by_side(sums: np.ndarray, axes: int) -> np.ndarray:
    """Put tiles (N, *tile, M, *blocks) in their places: (N, M, *(blocks * tile))."""
    tile, blocks = sums.shape[1 : 1 + axes], sums.shape[2 + axes :]
    order = [place for axis in range(axes) for place in (2 + axes + axis, 1 + axis)]
    placed = sums.transpose(0, 1 + axes, *order)
    return placed.reshape(*placed.shape[:2], *(n * m for n, m in zip(blocks, tile)))


@lru_cache(maxsize=None)
def _transforms(tile: Shape, kernel: Shape) -> Transforms:
    """A^T, G and B^T for tiles of several axes."""
    by_axis = [_of_axis(m, k) for m, k in zip(tile, kernel)]
    of_outputs, of_weights, of_input = (reduce(np.kron, matrices) for matrices in zip(*by_axis))
    return of_outputs, of_weights, of_input


def _of_axis(m: int, k: int) -> Transforms:
    """A^T (m, n), G (n, k) and B^T (n, n): of Toom and Cook's product of polynomials, transposed.

    That multiplies the values of two polynomials at n points, and finds the coefficients of their
    product from them by Lagrange's formula. Its denominators are part of G.
    """
    n = m + k - 1
    points = np.array(_POINTS[: n - 1])
    others = [np.delete(points, index) for index in range(n - 1)]
    numerators = np.zeros((n, n))
    for row, roots in zip(numerators, [*others, points]):
        row[: len(roots) + 1] = np.atleast_1d(np.poly(roots))[::-1]
    scale = [prod(point - roots) for point, roots in zip(points, others)]
    of_weights = _values(points, k)
    of_weights[:-1] /= np.array(scale)[:, None]
    return _values(points, m).T, of_weights, numerators


def _values(points: np.ndarray, count: int) -> np.ndarray:
    """x^j for the points and infinity, where only the last of ``count`` powers counts."""
    at_infinity = np.eye(count)[-1:]
    return np.concatenate([np.vander(points, count, increasing=True), at_infinity])


def _tile(x: Shape, weights: Shape, window: Window, size: Shape) -> Optional[Shape]:
    """How many outputs a tile has along each axis; None where tiles would not be quicker.

    What takes time are products, and values that are copied.
    """
    if {*window.stride} != {1} or {*window.dilation} != {1} or {*window.kernel} == {1}:
        return None
    num, channels = x[:2]
    outputs, depth, *kernel = weights
    taps, places = prod(kernel), num * prod(size)
    costs: Dict[Optional[Shape], float] = {
        None: _WORTH * taps * places * (outputs * depth + channels * _MOVED)
    }
    for most in _OUTPUTS:
        tile = tuple(most if k > 1 else 1 for k in kernel)
        reads = [m + k - 1 for m, k in zip(tile, kernel)]
        if max(reads) > len(_POINTS) + 1:
            break
        points, tiles = prod(reads), num * prod(-(-n // m) for n, m in zip(size, tile))
        costs[tile] = points * (
            outputs * depth * (tiles + taps + _MOVED)
            + channels * tiles * (points + 2 * _MOVED)
            + outputs * tiles * (prod(tile) + 2 * _MOVED)
        )
    return min(costs, key=lambda tile: costs[tile])


def _is_level(x: np.ndarray) -> bool:
    """Whether all values are finite, and none is far larger than the others."""
    if not x.size:
        return False
    sizes = np.abs(x)
    mean = float(sizes.mean())
    return mean < inf and float(sizes.max()) <= _FAR * mean


FUNCTIONS: Dict[str, Function] = {
    "Convolution": partial(convolution.convolution, convolve=convolve),
}

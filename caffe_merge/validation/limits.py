"""How far two nets may differ: 1e-5 of a blob's largest value, or what rounding explains.

A merge rounds new weights to float32, so no weight is nearer to what it should be than half a unit
in its last place. What the old net's own weights, all moved by that much with seeded signs, make of
a blob tells what such a rounding is worth there: its noise, the largest of several seeds where the
first nearly explains the error. Four times that may be passed, and never more than 1e-3.
"""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

from caffe_merge.validation.seeded import Seeded

SMALLEST, LARGEST = 1e-5, 1e-3
TIMES_NOISE = 4
CLEARLY = 2  # limits: both nets may be within theirs on either side of what is right
SEEDS = 4  # at most: near a tie, as of a Softmax, the noise of one of them says little
_TIMES_SEED = 8  # what one seed's noise may be more than another's
_LEAST_NORMAL = 2.0**-126  # of float32
_HALF_UNIT = 2.0**-24  # of float32's last place, of a value from 1 to 2
_PIECE = 1 << 15  # values that are moved at once: they stay in the processor's cache
_EXPONENT = np.uint64(0x7FF0000000000000)  # bits of a float64


def limit(least: float, noise: Optional[float]) -> float:
    """The largest error of a blob that passes, where its noise is known or not."""
    if noise is None or not np.isfinite(noise):
        return least
    return max(least, min(TIMES_NOISE * noise, LARGEST))


def may_explain(noise: float, error: float) -> bool:
    """Whether the noise of another seed may explain what that of one does not."""
    return error <= LARGEST and error <= _TIMES_SEED * TIMES_NOISE * noise


def nudged(layer: Any, blobs: List[np.ndarray], seed: int = 0) -> List[np.ndarray]:
    """Float64 ``blobs``, each value half a unit of float32's last place beside what it is."""
    draws = Seeded("nudged", layer.name, seed)
    return [_moved(blob, draws) for blob in blobs]


def _moved(blob: np.ndarray, draws: Seeded) -> np.ndarray:
    """Signs are drawn once, and each piece takes them from a place among them drawn by chance.

    To draw all that a large net needs would take long.
    """
    values = blob.reshape(-1)
    moved = np.empty(values.shape)
    pieces = min(_PIECE, values.size)
    signs = draws.signs((min(2 * _PIECE, values.size),), _HALF_UNIT)
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE]
        begin = draws.below(signs.size - pieces + 1)
        half = _powers(piece)
        half *= signs[begin : begin + piece.size]
        np.add(piece, half, out=moved[start : start + _PIECE])
    return moved.reshape(blob.shape)


def _powers(values: np.ndarray) -> np.ndarray:
    """The power of 2 that is not more than each of the float64 ``values`` is without its sign.

    Of zeros 0. Values that are less than a normal float32 are in the steps of the least of these.
    """
    powers: np.ndarray = (values.view(np.uint64) & _EXPONENT).view(np.float64)
    if powers.size and powers.min() < _LEAST_NORMAL:
        powers[(powers < _LEAST_NORMAL) & (values != 0)] = _LEAST_NORMAL
    return powers

"""How far two nets may differ: 1e-5 of a blob's largest value, or what rounding explains.

A merge rounds new weights to float32, so no weight is nearer to what it should be than half a unit
in its last place. What the old net's own weights, all moved by that much with seeded signs, make of
a blob tells what such a rounding is worth there: its noise, the largest of several seeds where the
first nearly explains the error. Four times that may be passed, and never more than 1e-3.
"""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

SMALLEST, LARGEST = 1e-5, 1e-3
TIMES_NOISE = 4
SEEDS = 4  # at most: near a tie, as of a Softmax, the noise of one of them says little
_TIMES_SEED = 8  # what one seed's noise may be more than another's
_HALF_OF_SMALLEST = 2.0**-150
_PIECE = 1 << 15  # values that are moved at once: they stay in the processor's cache
_EXPONENT, _SIGN = np.uint32(0x7F800000), np.uint32(0x80000000)  # bits of a float32


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
    name = layer.name.encode("utf-8", "backslashreplace")
    random = np.random.default_rng([*name, seed] if seed else [*name])
    return [_moved(blob, random) for blob in blobs]


def _moved(blob: np.ndarray, random: np.random.Generator) -> np.ndarray:
    values = blob.flatten()
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE]
        piece += _half_units(piece, random)
    return values.reshape(blob.shape)


def _half_units(blob: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of what float32's last place is worth in each value, of either sign: 2^(exponent - 24).

    Made of float32's bits, as a net has millions of weights. Zeros have none; values that are less
    than a normal float32 have the half of the smallest one.
    """
    units = blob.astype(np.float32).view(np.uint32)
    units &= _EXPONENT
    units |= random.integers(0, 1 << 32, blob.shape, np.uint32) & _SIGN
    half: np.ndarray = np.multiply(units.view(np.float32), 2.0**-24, dtype=np.float64)
    small = (half == 0) & (blob != 0)
    half[small] = np.copysign(_HALF_OF_SMALLEST, half[small])
    return half

"""Values drawn by chance from a seed. To import numpy.random, which has such, takes too long.

The bits are the standard library's, the same on every machine.
"""

from __future__ import annotations

import math
import random
from typing import Sequence, Union

import numpy as np

_PIECE = 1 << 18  # values that are made at once
_WORD = 32  # bits, for one value


class Seeded:
    """Draws from a seed, which is any words and numbers. Each draw gives other values."""

    def __init__(self, *words: Union[str, int]) -> None:
        self._random = random.Random(ascii(words))

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """Float32 values of ``shape``, of mean 0 and deviation 1.

        G. E. P. Box and M. E. Muller, A Note on the Generation of Random Normal Deviates, 1958.
        """
        values = np.empty(math.prod(shape), np.float32)
        for start in range(0, values.size, _PIECE):
            piece = values[start : start + _PIECE]
            half = (piece.size + 1) // 2
            # 24 bits: float32 holds no more.
            parts = (self._words((2, half)) >> 8).astype(np.float32)
            parts = (parts + np.float32(0.5)) * np.float32(2.0**-24)
            radius = np.sqrt(np.float32(-2) * np.log(parts[0]))
            angle = np.float32(2 * np.pi) * parts[1]
            piece[:half] = radius * np.cos(angle)
            piece[half:] = (radius * np.sin(angle))[: piece.size - half]
        return values.reshape(shape)

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Float64 values of ``shape`` between ``low`` and ``high``, none of them equal to these."""
        return low + (high - low) * (self._words(shape) + 0.5) / 2.0**_WORD

    def signs(self, shape: Sequence[int], size: float) -> np.ndarray:
        """Float64 values of ``shape``, each ``size`` or its negative."""
        count = math.prod(shape)
        words = self._words((-(-count // _WORD),))
        bits = np.unpackbits(words.astype("<u4").view(np.uint8))[:count]
        return np.where(bits, size, -size).reshape(shape)

    def below(self, end: int) -> int:
        """A whole number of at least 0 and less than ``end``."""
        return self._random.randrange(end)

    def _words(self, shape: Sequence[int]) -> np.ndarray:
        words = np.empty(math.prod(shape), np.uint32)
        for start in range(0, words.size, _PIECE):
            piece = words[start : start + _PIECE]
            bits = self._random.getrandbits(_WORD * piece.size)
            piece[:] = np.frombuffer(bits.to_bytes(_WORD // 8 * piece.size, "little"), "<u4")
        return words.reshape(shape)

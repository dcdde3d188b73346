"""Blobs: a shape, a storage type, and values made only when somebody asks for them.

A stored blob stays in its file, and is read anew for whoever asks. A rewritten one remembers its
source and what to do with it, in float64, and is rounded once, row block by row block, while it is
written; so memory stays near one block whatever the model's size.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Callable, Iterator, Optional, Union

import numpy as np

from caffe_merge.arrays import Array, ArrayLike, Float64, Indices, Shape, count
from caffe_merge.formats.weights.source import Span, Values

Rows = Union[slice, Indices]

FLOAT = np.dtype("<f4")
DOUBLE = np.dtype("<f8")
HALF = np.dtype("<f2")
BLOCK = 1 << 19  # values per block while writing: 2 MB of float32
LONG = 1 << 13  # values of a row, from which on to read a few takes less time than to read all

ALL = slice(None)


class Blob:
    """Values of ``shape``, written to a file as ``dtype`` (FLOAT, DOUBLE, or HALF if asked for).

    ``depth`` is how many blobs it is computed from, each from the one before.
    """

    MOST_BLOCKS = 1 << 30
    depth = 0

    def __init__(self, shape: Shape, dtype: np.dtype = FLOAT) -> None:
        self.shape = shape
        self.dtype = dtype

    def rows(self, selection: Rows = ALL) -> Array:
        """The values of some rows (along axis 0): as stored, or float64 where computed."""
        raise NotImplementedError

    def rounded(self, selection: Rows = ALL) -> Array:
        """The same values as they will be read back from a file."""
        values = self.rows(selection)
        if values.dtype == self.dtype:
            return values
        with np.errstate(over="ignore"):
            return values.astype(self.dtype)

    def largest(self, selection: Rows = ALL) -> Array:
        """The largest magnitude of each of some rows, rounded as they are."""
        return _largest(self.rounded(selection))

    def reshaped(self, shape: Shape) -> Blob:
        """The same values under another shape of the same count."""
        raise NotImplementedError

    def array(self) -> Array:
        """All values, as they will be read back from a file. Do not write to it."""
        return self.rounded().reshape(self.shape)

    def float64(self) -> Float64:
        """All values in double precision, unrounded. Do not write to it."""
        return np.asarray(self.rows().reshape(self.shape), np.float64)

    def spans(self) -> Iterator[slice]:
        """All rows, in blocks of bounded size."""
        length = self.shape[0] if self.shape else 1
        step = max(BLOCK // max(count(self.shape[1:]), 1), 1, -(-length // self.MOST_BLOCKS))
        return (slice(start, start + step) for start in range(0, length, step))

    def blocks(self) -> Iterator[Array]:
        """The rounded values, contiguous, in row blocks of bounded size."""
        for rows in self.spans() if count(self.shape) else ():
            yield np.ascontiguousarray(self.rounded(rows))

    def heads(self, number: int) -> Array:
        """The first ``number`` values of each row, or all there are, unrounded: (rows, values)."""
        parts = []
        for rows in self.spans():
            values = self.rows(rows)
            parts.append(values.reshape(len(values), -1)[:, :number].copy())  # the rest is let go
        return np.concatenate(parts)


def _largest(rows: Array) -> Array:
    flat = rows.reshape(len(rows), -1)
    magnitudes: Array = np.abs(np.maximum(flat.max(axis=1), -flat.min(axis=1)))  # no zero is -0
    return magnitudes


class Stored(Blob):
    """A blob of the file: ``values`` is flat, read-only, and read from it each time.

    ``legacy``: the shape was stored as num/channels/height/width, so it has four axes and 1s in
    front stand for axes that are not there. ``encoding`` names the fork's field that holds the
    values ("" is BVLC's own), ``diff`` counts the bytes of gradients beside them. Half precision
    is written as FLOAT unless ``keep_half``.
    """

    def __init__(
        self,
        shape: Shape,
        values: Values,
        legacy: bool = False,
        *,
        encoding: str = "",
        diff: int = 0,
        keep_half: bool = False,
    ) -> None:
        self.half = values.dtype.itemsize == 2
        written = HALF if self.half and keep_half else FLOAT
        super().__init__(shape, DOUBLE if values.dtype.itemsize == 8 else written)
        self._held = values
        self.legacy = legacy
        self.encoding = encoding
        self.diff = diff

    @property
    def as_is(self) -> bool:
        """Whether its bytes in the file are what is written."""
        return not self.diff and (not self.encoding or self.dtype == HALF)

    @property
    def values(self) -> Array:
        """All of them, flat."""
        return self._held[:]

    def rows(self, selection: Rows = ALL) -> Array:
        shape = self.shape if self.shape else (1,)
        if isinstance(self._held, Span):
            selected = _selected(self._held, shape, selection)
            if selected is not None:
                return selected
        view: Array = self.values.reshape(shape)[selection]
        return view

    def heads(self, number: int) -> Array:
        size = count(self.shape[1:])
        if not isinstance(self._held, Span) or size < LONG:
            return super().heads(number)
        starts = range(0, self.shape[0] * size, size)
        return np.stack([self._held[at : at + number] for at in starts])

    def blocks(self) -> Iterator[Array]:
        values = self._held if isinstance(self._held, Span) else self.values
        for start in range(0, len(values), BLOCK):
            yield np.ascontiguousarray(values[start : start + BLOCK], self.dtype)

    def reshaped(self, shape: Shape) -> Stored:
        """The same values under another shape of the same count."""
        other = copy(self)
        other.shape, other.legacy = shape, False
        return other


def _selected(held: Span, shape: Shape, selection: Rows) -> Optional[Array]:
    """Some rows of what is in a file, if all of it need not be read for them."""
    size = count(shape[1:])
    if isinstance(selection, slice):
        start, stop, step = selection.indices(shape[0])
        if step != 1:
            return None
        number = max(stop - start, 0)
        return held[start * size : (start + number) * size].reshape(number, *shape[1:])
    if selection.dtype == bool or selection.ndim != 1 or 2 * len(selection) > shape[0]:
        return None
    out = np.empty((len(selection), *shape[1:]), held.dtype)
    for number, row in enumerate((selection % shape[0]).tolist()):
        out[number] = held[row * size : (row + 1) * size].reshape(shape[1:])
    return out


class Dense(Blob):
    """A small blob held in memory in float64: a bias, the multipliers of a Scale."""

    def __init__(self, values: ArrayLike, dtype: np.dtype = FLOAT) -> None:
        self.values: Float64 = np.asarray(values, np.float64)
        super().__init__(self.values.shape, dtype)

    def rows(self, selection: Rows = ALL) -> Array:
        view: Array = self.values.reshape(self.shape if self.shape else (1,))[selection]
        return view

    def reshaped(self, shape: Shape) -> Dense:
        return Dense(self.values.reshape(shape), self.dtype)


class Filled(Blob):
    """What a filler makes: a float32 array that repeats itself and takes no room for it."""

    def __init__(self, values: Array) -> None:
        super().__init__(values.shape, FLOAT)
        self.values = values

    def rows(self, selection: Rows = ALL) -> Array:
        view: Array = self.values[selection] if self.shape else self.values.reshape(1)[selection]
        return view

    def reshaped(self, shape: Shape) -> Filled:
        return Filled(self.values.reshape(shape))


def _along_one_axis(first: Float64, second: Float64) -> bool:
    return np.broadcast(first, second).size <= max(first.size, second.size)


class Scaled(Blob):
    """``source * multiplier``, the multiplier float64 and broadcast over the source's shape.

    Scaling a scaled blob multiplies the multipliers, where that makes none as large as a matrix;
    there is one rounding, at the end.
    """

    def __init__(self, source: Blob, multiplier: Float64) -> None:
        super().__init__(source.shape, source.dtype)
        if isinstance(source, Scaled) and _along_one_axis(multiplier, source.multiplier):
            multiplier, source = multiplier * source.multiplier, source.source
        self.source: Blob = source
        self.depth = source.depth + 1
        self.multiplier: Float64 = multiplier

    def _factor(self, selection: Rows) -> Float64:
        return self.multiplier[selection] if self.multiplier.shape[0] > 1 else self.multiplier

    def rows(self, selection: Rows = ALL) -> Array:
        product: Array = self.source.rows(selection) * self._factor(selection)
        return product

    def heads(self, number: int) -> Array:
        size = min(number, count(self.shape[1:]))
        places = np.unravel_index(np.arange(size), self.shape[1:])
        index: Any = (ALL, *places)
        factors = np.broadcast_to(self.multiplier, self.shape)[index]
        return np.asarray(self.source.heads(number) * factors)

    def rounded(self, selection: Rows = ALL) -> Array:
        source = self.source.rows(selection)
        # A float64 operand makes the product float64; it is rounded once, into ``out``.
        out: Array = np.empty(source.shape, self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(source, self._factor(selection), out=out, casting="same_kind")
        return out

    def largest(self, selection: Rows = ALL) -> Array:
        factor = self._factor(selection)
        if factor.size > len(factor):
            return super().largest(selection)
        # One factor for all of a row: rounding keeps the order, so the largest stays the largest.
        with np.errstate(over="ignore", invalid="ignore"):
            largest = _largest(self.source.rows(selection)) * np.abs(factor.reshape(-1))
            return np.asarray(largest, self.dtype)


class Computed(Blob):
    """Rows that ``function`` computes in float64, anew whenever somebody asks for some.

    Kernels added or chained are made of whole layers; so they are made when they are written. As
    some rows of a chain need all of the first layer, that is in few blocks.
    """

    MOST_BLOCKS = 8

    def __init__(
        self,
        shape: Shape,
        function: Callable[[Rows], Float64],
        dtype: np.dtype = FLOAT,
        depth: int = 1,
    ) -> None:
        super().__init__(shape, dtype)
        self.function = function
        self.depth = depth

    def rows(self, selection: Rows = ALL) -> Array:
        with np.errstate(all="ignore"):  # what is not finite is found where it is proved or written
            return self.function(selection)


def same_values(first: Blob, second: Blob) -> bool:
    """Whether both are written as the same values under the same shape."""
    if first is second:
        return True
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return all(np.array_equal(first.rounded(r), second.rounded(r)) for r in first.spans())

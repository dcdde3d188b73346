"""What a blob holds for impulses, and how far that of two nets differs: pure functions on arrays.

A layer that is not linear may hide at one size what shows at another: a ReLU that is open only near
0 gives out nothing of large values. So what it reads is had for impulses of other sizes too, of
either sign, and for sums of them. No product is needed: up to there all is linear,

    y(a x + b z) = y(0) + a (y(x) - y(0)) + b (y(z) - y(0))
"""

from functools import lru_cache
from typing import NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.validation import impulses
from caffe_merge.validation.compare import HELD, largest_by_channel
from caffe_merge.validation.run import Version
from caffe_merge.validation.seeded import Seeded

_LEAST = 1e-4  # a channel whose values are less than this part of all is held against that
_LEAST_BEHIND = 1e-2  # the same behind what is not linear, where large values may cancel out
_ROUNDING = 1e-8  # what is less beside a value, of what float64 leaves, is not judged
_PART = 64  # of 1, which impulses have beside which a bias must be seen
_MOST_FOLLOWED = 8  # impulses of a layer that is not small that go through one more linear layer
_SIZES = 16  # halves of halves: what is open for a half of what one size gives is found
_EVERY = 6  # of them for each impulse, its neighbours taking the others
_TOGETHER = 1 << 17  # values of a small layer's combinations, of which it has
_FEWEST, _MOST = 512, 4096
_MOST_SCALED = 1 << 22  # values of responses to other sizes, in a blob


class Response(NamedTuple):
    """What a blob holds for each impulse and, last, for none: (impulses + 1, channels, ...).

    The impulses are values of the version ``source``, and ``taps`` says which. ``scaled`` is for
    some of them, of other sizes: (rows, channels, ...), the largest size first. It is None where
    all is linear from the source to here, and has no rows where it would take long. At a
    ``positive`` source nothing is ever negative.
    """

    source: Version
    taps: Tuple[int, int]
    values: np.ndarray
    scaled: Optional[np.ndarray] = None
    positive: bool = False

    def with_scaled(self) -> "Response":
        """The same, with ``scaled`` if all was linear so far."""
        if self.scaled is not None:
            return self
        values = self.fewer().values
        _, factors = _combinations(len(values) - 1, self._sums, self.positive)
        if len(factors) * values[0].size > _MOST_SCALED:
            return self.of_one_size()
        by_impulses = values[:-1] - values[-1:]
        scaled = factors @ by_impulses.reshape(len(by_impulses), -1)
        return self._replace(scaled=scaled.reshape(-1, *values.shape[1:]) + values[-1:])

    def of_one_size(self) -> "Response":
        """The same without impulses of other sizes, from here on."""
        return self._replace(scaled=self.values[:0])

    def rows(self) -> np.ndarray:
        """``values`` and ``scaled`` in one array: one pass through a layer for both."""
        return self.values if self.scaled is None else np.concatenate([self.values, self.scaled])

    def with_rows(self, rows: np.ndarray) -> "Response":
        """The same of another blob, which holds ``rows`` where this one does what `rows` says."""
        count = len(self.values)
        scaled = None if self.scaled is None else rows[count:]
        return self._replace(values=rows[:count], scaled=scaled)

    def fewer(self) -> "Response":
        """Some of the impulses, and none: products with all would take long, if they are many."""
        step = -(-(len(self.values) - 1) // _MOST_FOLLOWED)
        if self.taps[0] <= impulses.FEW or step < 2:
            return self
        return self._replace(values=np.concatenate([self.values[:-1:step], self.values[-1:]]))

    def of(self, channels: np.ndarray) -> "Response":
        """The response of some channels."""
        scaled = None if self.scaled is None else self.scaled[:, channels]
        return self._replace(values=self.values[:, channels], scaled=scaled)

    def size_starts(self) -> np.ndarray:
        """The first row of ``scaled`` for each size."""
        return _combinations(len(self.fewer().values) - 1, self._sums, self.positive)[0]

    @property
    def _sums(self) -> int:
        """How many sums of impulses there are: some where a value depends on few others."""
        if self.taps[0] > impulses.FEW:
            return 0
        return min(max(_FEWEST, _TOGETHER // max(self.taps[0] * self.taps[1], 1)), _MOST)


@lru_cache(maxsize=64)
def _combinations(count: int, sums: int, positive: bool) -> Tuple[np.ndarray, np.ndarray]:
    """What ``count`` impulses are multiplied by and added up: factors (rows, impulses).

    Each is there by itself, of either sign (but if ``positive``) and some sizes, and there are
    ``sums`` of several, drawn by chance. The first array says at which row each size begins.
    """
    every = min(_EVERY, count)
    single = [
        sign * 2.0**-size * np.eye(count)[impulse]
        for size in range(_SIZES)
        for impulse in range(count)
        for sign in ((1,) if positive else (1, -1))
        if (size + impulse) % every == 0
    ]
    draws = Seeded("combinations")
    several = draws.normal((sums, count)) * 2.0 ** -draws.uniform((sums, 1), 0, _SIZES - 1)
    several *= draws.uniform((sums, count)) < draws.uniform((sums, 1))
    factors = np.concatenate([single, np.abs(several) if positive else several])
    factors = factors[factors.any(axis=1)]
    sizes = np.rint(-np.log2(np.abs(factors).max(axis=1))).clip(0, _SIZES - 1)
    order = np.argsort(sizes, kind="stable")
    return np.searchsorted(sizes[order], np.arange(_SIZES)), factors[order]


def difference(was: Response, now: Response, scaled: bool = False) -> Optional[np.ndarray]:
    """Errors (kinds, channels) of two responses; None where they cannot be told.

    Each is relative to what the channel has: of what impulses add to the response to none, of that
    to none, and of the responses to impulses of each other size, in two ways. These are told where
    a net has them, or if ``scaled``; else they are 0.
    """
    if was.values.shape != now.values.shape or was.values.ndim < 2:
        return None
    if not np.isfinite(was.values).all():
        return None
    others = np.zeros((2, _SIZES, was.values.shape[1]))
    with np.errstate(all="ignore"):  # the new net's values need not be finite
        is_linear = was.scaled is None and now.scaled is None
        if scaled or not is_linear:
            _compare_scaled(was.with_scaled(), now.with_scaled(), others)
        least = _LEAST if is_linear else _LEAST_BEHIND
        return np.concatenate([_difference(was.values, now.values, least), *others])


def _difference(was: np.ndarray, now: np.ndarray, least: float) -> np.ndarray:
    """Errors (2, channels) by weights and by biases; a bias is little if less than ``least``."""
    by_weights, now_by_weights = (values[:-1] - values[-1:] for values in (was, now))
    size = _floored(largest_by_channel(by_weights), _LEAST)
    size = np.maximum(size, _ROUNDING * largest_by_channel(was))
    biases = _floored(largest_by_channel(was[-1:]), least)
    by_biases = np.maximum(biases, size / (impulses.SIZE * _PART))
    differences = now_by_weights - by_weights, now[-1:] - was[-1:]
    errors = np.stack([largest_by_channel(values) for values in differences])
    return _relative(errors, np.stack([size, by_biases]))


def _compare_scaled(was: Response, now: Response, errors: np.ndarray) -> None:
    """Put the ``errors`` (2, sizes, channels) in their place, where both have what is compared.

    They are relative to the largest value of a row, as those of a blob are, and to that of a
    channel for all rows of a size.
    """
    old, new = was.scaled, now.scaled
    if old is None or new is None or old.shape != new.shape or not len(old):
        return
    axes = tuple(range(2, old.ndim))
    size, error = (np.abs(values).max(axis=axes, initial=0.0) for values in (old, new - old))
    rows = np.maximum(size.max(axis=1, initial=0.0), _LEAST * size.max(initial=0.0))
    starts = was.size_starts()
    of_rows = np.maximum.reduceat(_relative(error, rows[:, None]), starts)
    largest = np.maximum(np.maximum.reduceat(size, starts), largest_by_channel(was.values[-1:]))
    floored = np.maximum(largest, _LEAST_BEHIND * largest.max(axis=1, keepdims=True))
    of_channels = _relative(np.maximum.reduceat(error, starts), floored)
    finite = np.isfinite(largest).all(axis=1)
    errors[:, finite] = np.stack([of_rows, of_channels])[:, finite]


def _relative(errors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    errors = np.where(np.isfinite(errors), errors, np.inf)
    errors = np.where(np.maximum(errors, sizes) < impulses.SIZE * HELD, 0.0, errors)
    relative = np.where(errors > 0, np.inf, 0.0)  # where everything is 0
    np.divide(errors, sizes, out=relative, where=sizes > 0)
    return relative


def _floored(sizes: np.ndarray, least: float) -> np.ndarray:
    floored: np.ndarray = np.maximum(sizes, least * sizes.max(initial=0.0))
    return floored

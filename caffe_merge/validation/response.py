"""What a blob holds for impulses, and how far that of two nets differs: pure functions on arrays.

A layer that is not linear may hide at one size what shows at another: a ReLU that is open only near
0 gives out nothing of large values. So what it reads is had for impulses of other sizes too, some
of them, of either sign. No product is needed: up to there all is linear, y(f x) = y(0) + f (y(x) -
y(0)).
"""

from functools import lru_cache
from typing import NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.validation import impulses
from caffe_merge.validation.compare import HELD
from caffe_merge.validation.run import Version

_LEAST = 1e-4  # a channel whose values are less than this part of all is held against that
_PART = 64  # of 1, which impulses have beside which a bias must be seen
_SMALL = 256  # values that one window of a layer reads: all impulses are followed, in all sizes
_MOST_FOLLOWED = 8  # impulses of a larger layer that go through one more linear layer
_SIZES = 16  # halves of halves: what is open for a half of what one size gives is found
_EVERY = 3  # of them for each impulse of a larger layer, its neighbours taking the others
_MOST_SCALED = 1 << 22  # values of responses to other sizes, in a blob


class Response(NamedTuple):
    """What a blob holds for each impulse and, last, for none: (impulses + 1, channels, ...).

    The impulses are values of the version ``source``, and ``taps`` says which. ``scaled`` is for
    some of them, of other sizes: (rows, channels, ...), the largest size first. It is None where
    all is linear from the source to here, and has no rows where it would take long.
    """

    source: Version
    taps: Tuple[int, int]
    values: np.ndarray
    scaled: Optional[np.ndarray] = None

    def with_scaled(self) -> "Response":
        """The same, with ``scaled`` if all was linear so far."""
        if self.scaled is not None:
            return self
        values = self.fewer().values
        _, chosen, factors = _grid(len(values) - 1, self._is_small)
        if len(chosen) * values[0].size > _MOST_SCALED:
            return self._replace(scaled=values[:0])
        by_impulse = (values[:-1] - values[-1:])[chosen]
        by_impulse *= factors.reshape(-1, *[1] * (values.ndim - 1))
        by_impulse += values[-1:]
        return self._replace(scaled=by_impulse)

    def fewer(self) -> "Response":
        """Some of the impulses, and none: products with all would take long, if they are many."""
        step = -(-(len(self.values) - 1) // _MOST_FOLLOWED)
        if self._is_small or step < 2:
            return self
        return self._replace(values=np.concatenate([self.values[:-1:step], self.values[-1:]]))

    def size_starts(self) -> np.ndarray:
        """The first row of ``scaled`` for each size."""
        return _grid(len(self.fewer().values) - 1, self._is_small)[0]

    @property
    def _is_small(self) -> bool:
        return self.taps[0] * self.taps[1] <= _SMALL


@lru_cache(maxsize=64)
def _grid(count: int, dense: bool) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of other sizes: where each size begins; the impulse and the factor of each row.

    Of ``count`` impulses all have all sizes if ``dense``, else each has some.
    """
    every = 1 if dense else min(_EVERY, count)
    pairs = [
        (size, impulse, sign)
        for size in range(_SIZES)
        for impulse in range(count)
        for sign in (1, -1)
        if (size + impulse) % every == 0
    ]
    sizes, chosen, signs = (np.array(column) for column in zip(*pairs))
    return np.searchsorted(sizes, np.arange(_SIZES)), chosen, signs * 2.0**-sizes


def difference(was: Response, now: Response, scaled: bool = False) -> Optional[np.ndarray]:
    """Errors (kinds, channels) of two responses; None where they cannot be told.

    Each is relative to what the channel has: of what impulses add to the response to none, of that
    to none, and of the responses to impulses of each other size. These are told where a net has
    them, or if ``scaled``; else they are 0.
    """
    if was.values.shape != now.values.shape or was.values.ndim < 2:
        return None
    if not np.isfinite(was.values).all():
        return None
    others = np.zeros((_SIZES, was.values.shape[1]))
    with np.errstate(all="ignore"):  # the new net's values need not be finite
        if scaled or was.scaled is not None or now.scaled is not None:
            _compare_scaled(was.with_scaled(), now.with_scaled(), others)
        return np.concatenate([_difference(was.values, now.values), others])


def _difference(was: np.ndarray, now: np.ndarray) -> np.ndarray:
    by_weights = was[:-1] - was[-1:]
    size = _floored(_largest(by_weights))
    by_biases = np.maximum(_floored(_largest(was[-1:])), size / (impulses.SIZE * _PART))
    errors = np.stack([_largest(now[:-1] - now[-1:] - by_weights), _largest(now[-1:] - was[-1:])])
    return _relative(errors, np.stack([size, by_biases]))


def _compare_scaled(was: Response, now: Response, errors: np.ndarray) -> None:
    """Put the ``errors`` (sizes, channels) in their place, where both have what is compared."""
    old, new = was.scaled, now.scaled
    if old is None or new is None or old.shape != new.shape or not len(old):
        return
    axes, starts = tuple(range(2, old.ndim)), was.size_starts()
    largest, error = (
        np.maximum.reduceat(np.abs(values).max(axis=axes, initial=0.0), starts)
        for values in (old, new - old)
    )
    largest = np.maximum(largest, _largest(was.values[-1:]))
    finite = np.isfinite(largest).all(axis=1)
    floored = np.maximum(largest, _LEAST * largest.max(axis=1, keepdims=True))
    errors[finite] = _relative(error, floored)[finite]


def _relative(errors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    errors = np.where(np.isfinite(errors), errors, np.inf)
    errors = np.where(np.maximum(errors, sizes) < impulses.SIZE * HELD, 0.0, errors)
    relative = np.where(errors > 0, np.inf, 0.0)  # where everything is 0
    np.divide(errors, sizes, out=relative, where=sizes > 0)
    return relative


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest absolute value of each channel."""
    largest: np.ndarray = np.abs(values).max(axis=(0, *range(2, values.ndim)), initial=0.0)
    return largest


def _floored(sizes: np.ndarray) -> np.ndarray:
    floored: np.ndarray = np.maximum(sizes, _LEAST * sizes.max(initial=0.0))
    return floored

"""What a blob holds for impulses, and how far that of two nets differs: pure functions on arrays.

A layer that is not linear may hide at one size what shows at another: a ReLU that is open only near
0 gives out nothing of large values. So what it reads is had for impulses of other sizes too, some
of them, of either sign. No product is needed: up to there all is linear, y(f x) = y(0) + f (y(x) -
y(0)).
"""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.validation import impulses
from caffe_merge.validation.run import Version

_LEAST = 1e-4  # a channel whose values are less than this part of all is held against that
_PART = 64  # of 1, which impulses have beside which a bias must be seen
_MOST_FOLLOWED = 8  # impulses whose responses go through one more linear layer
# Each lets in a window of values that is an eighth as wide as that of the one before it.
_FACTORS = np.array([sign * 8.0**-power for power in range(6) for sign in (1, -1)])
_MOST_SCALED = 1 << 22  # values of responses to other sizes, in a blob


class Response(NamedTuple):
    """What a blob holds for each impulse and, last, for none: (impulses + 1, channels, ...).

    The impulses are values of the version ``source``, and ``taps`` says which. ``scaled`` is for
    some of them, of other sizes: (sizes * impulses, channels, ...). It is None where all is linear
    from the source to here, and has no rows where it would take long.
    """

    source: Version
    taps: Tuple[int, int]
    values: np.ndarray
    scaled: Optional[np.ndarray] = None

    def with_scaled(self) -> "Response":
        """The same, with ``scaled`` if all was linear so far."""
        return self if self.scaled is not None else self._replace(scaled=_scaled(self.values))

    def fewer(self) -> "Response":
        """Some of the impulses, and none: products with all would take long."""
        return self._replace(values=_fewer(self.values))


def _fewer(values: np.ndarray) -> np.ndarray:
    step = -(-(len(values) - 1) // _MOST_FOLLOWED)
    return np.concatenate([values[:-1:step], values[-1:]])


def _scaled(values: np.ndarray) -> np.ndarray:
    some = _fewer(values)
    if len(_FACTORS) * some.size > _MOST_SCALED:
        return values[:0]
    factors = _FACTORS.reshape(-1, *[1] * values.ndim)
    scaled: np.ndarray = some[-1:] + factors * (some[:-1] - some[-1:])
    return scaled.reshape(-1, *values.shape[1:])


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
    others = np.zeros((len(_FACTORS) // 2, was.values.shape[1]))
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
    rows = len(old) // len(errors)
    for number in range(len(errors)):
        of_size = slice(number * rows, (number + 1) * rows)
        if np.isfinite(old[of_size]).all():
            size = np.maximum(_largest(old[of_size]), _largest(was.values[-1:]))
            errors[number] = _relative(_largest(new[of_size] - old[of_size]), _floored(size))


def _relative(errors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    errors = np.where(np.isfinite(errors), errors, np.inf)
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

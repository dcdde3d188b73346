"""One blob of two nets, compared: pure functions on arrays."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.notes import Reason
from caffe_merge.wording import quoted

# Kinds of what is wrong with a blob beyond its error.
SHAPE = "shape"  # it has another shape
NOT_FINITE_BEFORE = "not finite before"  # in the old net itself: no fault of the merge
NOT_FINITE = "not finite"  # in the new net alone
NO_LONGER_ZERO = "no longer zero"  # there is nothing that an error could be relative to
RESPONSE = "response"  # what the layers make of impulses differs

# The smallest value that is compared: float32 holds smaller ones with few digits, or as 0.
HELD = 1e-35
_CONSTANT = 1e-6
_SATURATED = 1e-6
_ROUNDING = 1e-13  # of a sum in float64, relative to the largest one of a blob
_NEARLY = 1e-2  # of a channel
_PIECE = 1 << 15  # values that are compared at once: they stay in the processor's cache


@dataclass(frozen=True)
class BlobResult:
    """One blob of both nets. Errors are relative to ``largest``, the old blob's absolute value.

    ``cosine`` and ``argmax_agreement`` (the share of positions whose largest channel is the same)
    are of outputs, and None where they mean nothing. ``problem``, of one of the kinds above, is
    what fails the blob whatever its error, and ``remark`` why a small error proves little: the blob
    is constant or saturated; each is None where there is nothing of that sort. ``limit`` is
    the largest error that passes, ``noise`` the error that rounding the old net's weights makes,
    None where it was not needed. ``reader`` names the layer that reads the blob as it is here,
    where its name holds something else in the end.
    """

    name: str
    shape: Tuple[int, ...]
    max_error: float
    rms_error: float
    cosine: Optional[float] = None
    argmax_agreement: Optional[float] = None
    remark: Optional[str] = None
    problem: Optional[Reason] = None
    limit: float = 0.0
    noise: Optional[float] = None
    reader: str = ""
    largest: float = 0.0

    @property
    def label(self) -> str:
        """The blob as it is called in a sentence."""
        name = quoted(self.name)
        return f"{name} (as {quoted(self.reader)} reads it)" if self.reader else name

    @property
    def agrees(self) -> bool:
        """Whether the error is within the limit; one that is not a number is not."""
        return self.problem is None and self.max_error <= self.limit


class _Sums(NamedTuple):
    """Sums over two arrays, made in one pass; ``low`` and ``high`` are of the old one."""

    low: float
    high: float
    error: float
    error_square: float


def compare(name: str, before: np.ndarray, after: np.ndarray, output: bool = False) -> BlobResult:
    """Compare one blob; neither array is changed. ``output`` adds what only outputs have."""
    shape = tuple(before.shape)

    def broken(problem: str, kind: str) -> BlobResult:
        return BlobResult(name, shape, math.inf, math.inf, problem=Reason(problem, kind))

    if before.shape != after.shape:
        return broken(f"its shape was {shape} and is {tuple(after.shape)}", SHAPE)
    if not before.size:
        return BlobResult(name, shape, 0.0, 0.0, remark="empty")
    sums = _sums(before, after)
    if not all(map(math.isfinite, sums)):
        if not np.isfinite(before).all():
            return broken("it was not finite before the merge", NOT_FINITE_BEFORE)
        if not np.isfinite(after).all():
            return broken("it is not finite after the merge", NOT_FINITE)
    largest = max(sums.high, -sums.low) + 0.0  # not -0.0
    if 0 < max(largest, sums.error) < HELD:
        return BlobResult(
            name, shape, 0.0, 0.0, remark="all zero but for float32's smallest values"
        )
    if not largest and sums.error:
        return broken("it was all zero before the merge, and is not after", NO_LONGER_ZERO)
    if largest and not 1e-100 < largest < 1e100:  # the squares are not within range
        sums = _sums(before.astype(np.float64) / largest, after.astype(np.float64) / largest)
    unit = max(sums.high, -sums.low) or 1.0
    return BlobResult(
        name,
        shape,
        max_error=sums.error / unit,
        rms_error=math.sqrt(sums.error_square / before.size) / unit,
        cosine=_cosine(before, after, largest) if output else None,
        argmax_agreement=_argmax_agreement(before, after) if output else None,
        remark=_remark(before, largest, sums),
        largest=largest,
    )


def of_channels(before: np.ndarray, after: np.ndarray) -> float:
    """The largest error of a channel, axis 1, relative to the channel's own largest value.

    Channels that are 0 but for float64's rounding are left out.
    """
    if before.shape != after.shape or before.ndim < 2 or not before.size:
        return math.inf
    with np.errstate(all="ignore"):
        error, largest = largest_by_channel(after - before), largest_by_channel(before)
        if not np.isfinite([error, largest]).all():
            return math.inf
        some = np.maximum(error, largest) > _ROUNDING * largest.max()
        return float((error[some] / largest[some]).max(initial=0.0))


def is_thinned(before: np.ndarray, after: np.ndarray, limit: float) -> bool:
    """Whether ``after`` has the values of ``before`` that lie at equal distances, and no others.

    Both are (N, C, spatial). They are taken for the same up to `nearly`: what is a little wrong is
    still to be compared.
    """
    if before.ndim != after.ndim or before.shape[:2] != after.shape[:2] or not after.size:
        return False
    steps = [-(-old // new) for old, new in zip(before.shape, after.shape)]
    thin = before[tuple(slice(None, None, step) for step in steps)]
    if thin.shape != after.shape:
        return False
    allowed = nearly(thin, limit)
    is_same = distance_by_channel(thin, after) <= allowed
    return bool(0 < allowed.max() < math.inf and is_same.all())


def nearly(values: np.ndarray, limit: float) -> np.ndarray:
    """By how much each channel may be off and is taken for the same.

    That is ``limit``, relative to the largest value of all, or a hundredth of its own.
    """
    sizes = largest_by_channel(values)
    allowed: np.ndarray = np.maximum(limit * sizes.max(initial=0.0), _NEARLY * sizes)
    return allowed


def distance_by_channel(first: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The largest difference of each channel (axis 1)."""
    with np.errstate(all="ignore"):
        return largest_by_channel(first - other)


def largest_by_channel(values: np.ndarray) -> np.ndarray:
    """The largest absolute value of each channel (axis 1)."""
    largest: np.ndarray = np.abs(values).max(axis=(0, *range(2, values.ndim)), initial=0.0)
    return largest


def _sums(before: np.ndarray, after: np.ndarray) -> _Sums:
    old, new = before.reshape(-1), after.reshape(-1)
    low, high, error, square = math.inf, -math.inf, 0.0, 0.0
    difference = np.empty(min(_PIECE, old.size))
    with np.errstate(all="ignore"):
        for start in range(0, old.size, _PIECE):
            was, now = old[start : start + _PIECE], new[start : start + _PIECE]
            far = np.subtract(now, was, out=difference[: was.size], dtype=np.float64)
            # NaN stays NaN: Python's own min and max would lose it.
            low = float(np.minimum(low, was.min()))
            high = float(np.maximum(high, was.max()))
            error = float(np.maximum(error, np.maximum(far.max(), -far.min()))) + 0.0
            square += float(np.dot(far, far))
    return _Sums(low, high, error, square)


def _cosine(before: np.ndarray, after: np.ndarray, largest: float) -> Optional[float]:
    if not largest:
        return None
    old, new = (side.astype(np.float64).reshape(-1) / largest for side in (before, after))
    squares = float(np.dot(old, old)) * float(np.dot(new, new))
    return float(np.dot(old, new)) / math.sqrt(squares) if squares else None


def _remark(blob: np.ndarray, largest: float, sums: _Sums) -> Optional[str]:
    """Why ``blob`` shows little; None if it shows what it can."""
    if not largest:
        return "all zero"
    if blob.size == 1:
        return None
    if sums.high - sums.low <= _CONSTANT * max(sums.high, -sums.low):
        return "constant"
    if blob.ndim > 2 and blob[0, 0].size > 1:
        rows = blob.reshape(blob.shape[0] * blob.shape[1], -1)
        if _flat(rows[:1], largest) and _flat(rows, largest):
            return "constant in every channel"
    if abs(largest - 1) > _SATURATED:
        return None
    saturated = (np.abs(blob) <= _SATURATED) | (np.abs(blob - 1) <= _SATURATED)
    return "saturated at 0 and 1" if saturated.all() else None


def _flat(rows: np.ndarray, largest: float) -> bool:
    return bool((np.ptp(rows, axis=1) <= _CONSTANT * largest).all())


def _argmax_agreement(before: np.ndarray, after: np.ndarray) -> Optional[float]:
    if before.ndim < 2 or before.shape[1] < 2:
        return None
    return float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))

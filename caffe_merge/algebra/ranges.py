"""Ranges of weights, and what rounding to 8 bits does to them: float64 arrays; no layers, no files.

A symmetric quantiser of 8 bits with the step d holds w as d * q, q a whole number from -127 to 127,
and the step is the largest magnitude divided by 127: of all weights (one scale per tensor) or of
those that make one output channel (one scale per channel). Krishnamoorthi 2018, "Quantizing deep
convolutional networks for efficient inference", compares both.
"""

import sys
from typing import NamedTuple, Optional

import numpy as np

from caffe_merge.arrays import Array, Float64

LEVELS = 127  # steps on each side of 0, of a symmetric number of 8 bits
_LARGEST = sys.float_info.max
SMALLEST_NORMAL = 2.0**-126  # of float32: many chips take what is below for 0


class Spread(NamedTuple):
    """How far the ranges of channels are apart; None where no channel is alive.

    ``to_median`` and ``to_smallest`` are the largest range divided by the median and by the
    smallest of the channels that are alive. ``bits_lost`` is the mean, over the same channels, of
    log2(largest / range), the bits that one scale for all leaves unused; ``most_bits_lost`` is that
    of the worst.
    """

    to_median: Optional[float]
    to_smallest: Optional[float]
    bits_lost: Optional[float]
    most_bits_lost: Optional[float]


def to_median(ranges: Float64) -> Optional[float]:
    """The largest of ``ranges``, those of a layer's channels (C), divided by the median.

    As in a Spread: of the channels that are alive, None where none is.
    """
    ranges = ranges[ranges > 0]
    return _ratio(ranges, _median(ranges)) if len(ranges) else None


def spread(ranges: Float64) -> Spread:
    """The Spread of ``ranges``, the largest magnitudes (C) of a layer's channels."""
    ranges = ranges[ranges > 0]
    if not len(ranges):
        return Spread(None, None, None, None)
    lost = np.log2(ranges.max()) - np.log2(ranges)
    ratios = _ratio(ranges, _median(ranges)), _ratio(ranges, ranges.min())
    return Spread(*ratios, float(lost.mean()), float(lost.max()))


def _ratio(ranges: Float64, divisor: np.float64) -> float:
    """The largest of ``ranges`` divided by ``divisor``; at most what double precision holds."""
    return min(float(ranges.max()) / float(divisor), _LARGEST)


def _median(values: Float64) -> np.float64:
    """The median of ``values``; numpy's own imports its masked arrays first, for 50 ms."""
    half, is_odd = divmod(len(values), 2)
    middle: np.float64 = np.sort(values)[half - 1 + is_odd : half + 1].mean()
    return middle


def squared_errors(values: Array, step: Float64) -> Float64:
    """The squared error of each of ``values`` when rounded to whole numbers of ``step``s.

    ``step`` is broadcast over the values; where it is 0 nothing is rounded.
    """
    exact = np.asarray(values, np.float64)
    whole = np.divide(exact, step, out=np.zeros(exact.shape), where=step > 0)
    np.rint(whole, out=whole)
    whole *= step
    whole -= exact
    errors: Float64 = np.square(whole, out=whole)
    return errors


def decibels(signal: float, noise: float) -> Optional[float]:
    """10 log10(signal / noise); None where there is no signal, or no noise."""
    if not signal > 0 or not noise > 0:
        return None
    return float(10 * (np.log10(signal) - np.log10(noise)))

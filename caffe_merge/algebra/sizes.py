"""The size of a blob as a function of another one's: floors of linear maps, one after the other.

A window of stride s gives out floor((x + c) / s) places of x, a Deconvolution s x + c. Such maps in
a row are one where that is exact, so that two ways to the same size become equal.

No blob that Caffe runs a net on is empty, so each size is 1 at least, and a map below that is 1: so
it is with C's division, by which a kernel larger than its input has one place (conv_layer.cpp).
"""

from math import gcd
from typing import NamedTuple, Tuple


class Floor(NamedTuple):
    """x -> floor((factor x + shift) / divisor)."""

    factor: int
    shift: int
    divisor: int

    def __call__(self, size: int) -> int:
        return (self.factor * size + self.shift) // self.divisor


class Size(NamedTuple):
    """x -> max(what ``steps`` make of x, one after the other; ``least``), for x of 1 and more.

    ``least`` is what it makes of 1. Factors are 0 or more, so that it never falls.
    """

    steps: Tuple[Floor, ...] = ()
    least: int = 1

    def __call__(self, size: int) -> int:
        for step in self.steps:
            size = step(size)
        return max(size, self.least)


def then(size: Size, step: Floor) -> Size:
    """``size`` and then ``step``, in the fewest maps: step(max(x, y)) = max(step(x), step(y))."""
    return Size(_joined(size.steps, step), max(step(size.least), 1))


def _joined(steps: Tuple[Floor, ...], step: Floor) -> Tuple[Floor, ...]:
    """floor((floor(a / s) + c) / t) = floor((a + c s) / (s t)) for whole numbers.

    A factor that divides is taken out of a fraction likewise.
    """
    if steps:
        before = steps[-1]
        if step.factor == 1:
            shift = before.shift + step.shift * before.divisor
            return _joined(steps[:-1], Floor(before.factor, shift, before.divisor * step.divisor))
        if before.divisor == 1:
            shift = step.factor * before.shift + step.shift
            return _joined(steps[:-1], Floor(step.factor * before.factor, shift, step.divisor))
    common = gcd(step.factor, step.divisor)
    step = Floor(step.factor // common, step.shift // common, step.divisor // common)
    return steps if step == (1, 0, 1) else (*steps, step)

"""The size of a blob as a function of another one's: floors of linear maps, one after the other.

A window of stride s gives out floor((x + c) / s) places of x, a Deconvolution s x + c. Such maps in
a row are one where that is exact, so that two ways to the same size become equal.
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


Size = Tuple[Floor, ...]  # the first is done first


def then(size: Size, step: Floor) -> Size:
    """``size`` and then ``step``, in the fewest maps.

    floor((floor(a / s) + c) / t) = floor((a + c s) / (s t)) for whole numbers; a factor that
    divides is taken out of a fraction likewise.
    """
    if size:
        before = size[-1]
        if step.factor == 1:
            shift = before.shift + step.shift * before.divisor
            return then(size[:-1], Floor(before.factor, shift, before.divisor * step.divisor))
        if before.divisor == 1:
            shift = step.factor * before.shift + step.shift
            return then(size[:-1], Floor(step.factor * before.factor, shift, step.divisor))
    common = gcd(step.factor, step.divisor)
    step = Floor(step.factor // common, step.shift // common, step.divisor // common)
    return size if step == (1, 0, 1) else (*size, step)

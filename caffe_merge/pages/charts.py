"""Numbers as shapes: bars before and after, and the errors along the net on a log scale."""

import math
from typing import Any, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from caffe_merge.pages.facts import Makers, is_beyond

_FLOOR, _CEILING = -17, 2  # powers of ten: no error is shown smaller, or larger
_MOST_TICKS = 8


class Bar(NamedTuple):
    """A number before and after: as written, as per cent of the larger, and the change.

    ``way`` is ``less``, ``more`` or "".
    """

    title: str
    before: str
    after: str
    before_width: float
    after_width: float
    change: str
    way: str
    note: str = ""


def bar(title: str, before: float, after: float, unit: str = "", note: str = "") -> Bar:
    """The bar of two numbers, bytes where ``unit`` is ``bytes``."""
    written = as_bytes if unit == "bytes" else short
    most = max(before, after) or 1
    change = 100 * (after - before) / before if before else 0.0
    return Bar(
        title,
        written(before),
        written(after),
        round(100 * before / most, 2),
        round(100 * after / most, 2),
        f"{change:+.1f} %".replace("-", "\N{MINUS SIGN}") if round(change, 1) else "the same",
        ("less" if change < 0 else "more") if round(change, 1) else "",
        note,
    )


_TIMES = "\N{MULTIPLICATION SIGN}"


def error_bar(name: str, error: Optional[float], limit: float) -> Bar:
    """The worst error, of blob ``name``, beside the limit: the lengths are on a log scale."""
    lengths = [_power(value) - _FLOOR for value in (limit, error)]
    most = max(*lengths, 1e-9)
    return Bar(
        "worst error",
        f"{limit:.2g}",
        "none" if error == 0 else "no number" if error is None else f"{error:.2g}",
        round(100 * lengths[0] / most, 2),
        round(100 * lengths[1] / most, 2),
        "beyond the limit"
        if error is None
        else f"{error / limit:.2g} \N{MULTIPLICATION SIGN} limit",
        "beyond" if error is None or error > limit else "less",
        f"in {name!r}",
    )


def short(number: float) -> str:
    """``5,944`` or, of large numbers, ``1.08 G``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 1000 * size else f"{number:.3g}"
    return f"{number:,.0f}"


def as_bytes(number: float) -> str:
    """``61 kB``, ``23.9 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 1000 * size else f"{number:.3g} B"
    return f"{number:.0f} B"


class Point(NamedTuple):
    """The error of one blob: its place in per cent from the left and from the top, and words."""

    x: float
    y: float
    number: Optional[int]
    blob: str
    error: str
    beyond: bool


class Tick(NamedTuple):
    """A line of the scale."""

    y: float
    label: str


class Plot(NamedTuple):
    """Errors along the net. ``limit`` is the path of the limits, in per cent of the plot."""

    points: List[Point]
    ticks: List[Tick]
    limit: str


def errors(validation: Optional[Mapping[str, Any]], makers: Makers) -> Optional[Plot]:
    """The errors of the blobs that were compared, in the order of the net; None if there are none.

    An error of 0 stands on the lowest line, one that is no number on the highest.
    """
    blobs: Sequence[Mapping[str, Any]] = validation["blobs"] if validation else ()
    if not blobs:
        return None
    scale = Scale(value for blob in blobs for value in (blob["max_error"], blob["limit"]))
    width = 100 / len(blobs)
    points = [
        Point(
            round((at + 0.5) * width, 3),
            scale.height(blob["max_error"]),
            makers.of(blob["name"], blob["reader"]),
            blob["name"] + (f" (as {blob['reader']} reads it)" if blob["reader"] else ""),
            blob["problem"] or f"{blob['max_error']:.2e}, limit {blob['limit']:.2e}",
            is_beyond(blob),
        )
        for at, blob in enumerate(blobs)
    ]
    limit = "".join(
        f"{'L' if at else 'M'}{round(at * width, 3)} {scale.height(blob['limit'])}"
        f"H{round((at + 1) * width, 3)}"
        for at, blob in enumerate(blobs)
    )
    return Plot(points, [*scale.ticks, Tick(100.0, "0")], limit)


class Scale:
    """A log scale on which ``values`` have a place: 0 the lowest, what is no number the highest."""

    def __init__(self, values: Iterable[Optional[float]]) -> None:
        powers = [_power(value) for value in values if value != 0] or [0.0]
        self._low, self._high = math.floor(min(powers)) - 1, math.ceil(max(powers) + 0.2)

    def height(self, value: Optional[float]) -> float:
        """The place of ``value`` in per cent from the top."""
        if value == 0:
            return 100.0
        share = (self._high - _power(value)) / (self._high - self._low)
        return round(min(100 * share, 100.0), 3)

    @property
    def ticks(self) -> List[Tick]:
        """The powers of ten, or some of them."""
        step = max(1, math.ceil((self._high - self._low) / _MOST_TICKS))
        powers = range(self._high, self._low, -step)
        return [Tick(self.height(10.0**power), _ten(power)) for power in powers]


def _power(value: Optional[float]) -> float:
    if value is None or value > 10.0**_CEILING:
        return _CEILING
    return max(math.log10(value), _FLOOR) if value > 0 else _FLOOR


def _ten(power: int) -> str:
    return f"1e{power}" if power < -2 else f"{10.0**power:g}"

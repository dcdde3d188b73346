"""The part of a page about 8 bits: the channels of each layer on a log scale, and a table.

It is made of the ``ranges`` of a report; docs/int8.md says what each of their entries is.
"""

from statistics import median
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from caffe_merge.layers.ranges import TOO_WIDE
from caffe_merge.pages.charts import Scale, Tick
from caffe_merge.wording import counted

Row = Mapping[str, Any]  # an entry of ``layers``
_BAR = 0.36  # of the room of a layer, for each of its two bars


class Span(NamedTuple):
    """The channels of a layer: a bar from the smallest to the largest, a mark at the median.

    ``x`` and ``width`` are in per cent of the plot, ``top``, ``middle`` and ``bottom`` from above.
    """

    number: Optional[int]
    when: str
    x: float
    width: float
    top: float
    middle: float
    bottom: float
    text: str


class Section(NamedTuple):
    """What is printed; ``rows`` has for each layer its name, number and cells, the worst first."""

    spans: List[Span]
    ticks: List[Tick]
    rows: List[Dict[str, Any]]
    left_out: List[Tuple[str, str]]
    summary: str


def section(
    tables: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, int]
) -> Optional[Section]:
    """The section of the tables of a net, by ``before`` and ``after``; None if it has no weights.

    ``numbers`` has the layers of the net in order.
    """
    rows = {when: {row["layer"]: row for row in table["layers"]} for when, table in tables.items()}
    names = [name for name in numbers if any(name in by_name for by_name in rows.values())]
    if not names:
        return None
    *_, last = rows.values()
    scale = Scale(
        value for by_name in rows.values() for row in by_name.values() for value in row["ranges"]
    )
    spans = [
        span
        for at, name in enumerate(names)
        for span in _spans(name, rows, (at, len(names)), scale, numbers[name])
    ]
    worst = sorted(names, key=lambda name: -_to_median(last.get(name)))
    *_, table = tables.values()
    left_out = [(entry["layer"], entry["reason"]) for entry in table["left_out"]]
    cells = [_cells(name, rows, numbers[name]) for name in worst]
    return Section(spans, scale.ticks, cells, left_out, _summary(list(last.values())))


def _to_median(row: Optional[Row]) -> float:
    return (row and row["to_median"]) or 0.0


def _summary(rows: Sequence[Row]) -> str:
    wide = sum(_to_median(row) > TOO_WIDE for row in rows)
    if not wide:
        return f"No layer's largest channel is more than {TOO_WIDE} times its median one."
    return (
        f"{counted(wide, 'layer')} with a largest channel of more than {TOO_WIDE} times the median "
        "one: quantise per channel, if your tool chain can."
    )


def _spans(
    name: str,
    rows: Mapping[str, Mapping[str, Row]],
    place: Tuple[int, int],
    scale: Scale,
    number: int,
) -> Iterator[Span]:
    """The bars of a layer, the first of ``place[1]`` in a row at ``place[0]``."""
    at, count = place
    for side, (when, row_of) in enumerate(rows.items()):
        alive = [value for value in row_of[name]["ranges"] if value] if name in row_of else []
        if not alive:
            continue
        low, middle, high = min(alive), median(alive), max(alive)
        left = at + 0.5 + _BAR * (side - len(rows) / 2)
        text = f"{name}, {when}: channels from {low:.3g} to {high:.3g}, median {middle:.3g}"
        heights = (scale.height(high), scale.height(middle), scale.height(low))
        x, width = 100 * left / count, 100 * _BAR / count
        yield Span(number, when, round(x, 3), round(width, 3), *heights, text)


def _cells(name: str, rows: Mapping[str, Mapping[str, Row]], number: int) -> Dict[str, Any]:
    both = [by_name[name] for by_name in rows.values() if name in by_name]
    last = both[-1]
    return {
        "number": number,
        "name": name,
        "channels": last["channels"],
        "largest": _change(both, "largest", "{:.3g}"),
        "to_median": _change(both, "to_median", "{:.3g}"),
        "wide": _to_median(last) > TOO_WIDE,
        "bits": _change(both, "bits_lost", "{:.1f}"),
        "tensor": _change(both, "snr_per_tensor", "{:.1f}"),
        "channel": _change(both, "snr_per_channel", "{:.1f}"),
        "dead": last["dead"] + last["subnormal"],
    }


def _change(both: Sequence[Row], entry: str, form: str) -> Tuple[str, float]:
    """The entry before and after as text, once if it is the same, and the last one to sort by."""
    texts = [form.format(row[entry]) for row in both if row[entry] is not None]
    value = both[-1][entry]
    arrow = " \N{RIGHTWARDS ARROW} "
    return arrow.join(dict.fromkeys(texts)), -1.0 if value is None else float(value)

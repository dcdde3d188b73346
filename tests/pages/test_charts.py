"""Bars, and the plot of errors."""

import re
from typing import Any, List, Optional

import pytest

from caffe_merge.pages import charts
from caffe_merge.pages.facts import Makers


def blob(error: Optional[float], limit: float = 1e-5, problem: str = "") -> dict:
    return {
        "name": "b",
        "reader": "",
        "max_error": error,
        "limit": limit,
        "problem": problem,
    }


def plot(*blobs: dict) -> charts.Plot:
    chart = charts.errors({"blobs": list(blobs)}, Makers([]))
    assert chart is not None
    return chart


def test_a_bar() -> None:
    bar = charts.bar("layers", 200, 150)
    assert (bar.before, bar.after, bar.before_width, bar.after_width) == ("200", "150", 100, 75)
    assert (bar.change, bar.way) == ("\N{MINUS SIGN}25.0 %", "less")
    more = charts.bar("files", 1_000_000, 1_500_000, "bytes")
    assert (more.before, more.after, more.before_width) == ("1 MB", "1.5 MB", 66.67)
    assert (more.change, more.way) == ("+50.0 %", "more")
    same = charts.bar("x", 10_000, 10_001)
    assert (same.change, same.way) == ("the same", "")
    assert charts.bar("x", 0, 0).after_width == 0


@pytest.mark.parametrize(
    ("error", "way", "words"),
    [
        (3e-7, "less", "3e-07"),
        (1e-3, "beyond", "0.001"),
        (0.0, "less", "none"),
        (None, "beyond", "no number"),
    ],
)
def test_the_bar_of_the_worst_error(error: Optional[float], way: str, words: str) -> None:
    bar = charts.error_bar("blob", error, 1e-5)
    assert (bar.way, bar.after, bar.note) == (way, words, "in 'blob'")
    longer = "after" if way == "beyond" else "before"
    assert getattr(bar, f"{longer}_width") == 100


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (5_944, "5,944"), (999_999, "999,999"), (1_079_940_096, "1.08 G"), (3e15, "3e+15")],
)
def test_short_numbers(number: float, text: str) -> None:
    assert charts.short(number) == text


def test_errors_on_a_log_scale() -> None:
    chart = plot(blob(1e-7), blob(1e-6), blob(0.0), blob(1e-4))
    heights = [point.y for point in chart.points]
    assert heights[2] == 100, "nothing stands on the lowest line"
    assert heights[0] - heights[1] == pytest.approx((heights[1] - heights[3]) / 2)
    assert [point.beyond for point in chart.points] == [False, False, False, True]
    limit = float(re.match(r"M0(?:\.0)? ([\d.]+)H", chart.limit).group(1))
    assert heights[3] < limit < heights[1]
    assert chart.ticks[-1].label == "0"
    assert all(0 <= tick.y <= 100 for tick in chart.ticks)


def test_an_error_that_is_no_number_is_the_highest() -> None:
    chart = plot(blob(None, problem="it is not finite after the merge"), blob(1e-7))
    assert chart.points[0].y < chart.points[1].y
    assert chart.points[0].beyond
    assert chart.points[0].error == "it is not finite after the merge"


@pytest.mark.parametrize("blobs", [[], [blob(0.0)], [blob(1e300)], [blob(1e-300, 1e-300)]])
def test_any_error_has_a_place(blobs: List[Any]) -> None:
    chart = charts.errors({"blobs": blobs}, Makers([]))
    assert (chart is None) == (not blobs)
    for point in chart.points if chart else ():
        assert 0 <= point.y <= 100
    assert charts.errors(None, Makers([])) is None

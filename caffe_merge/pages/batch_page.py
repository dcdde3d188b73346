"""The index page of a batch: all pairs in a table, what failed first, and what they come to."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, Mapping, Tuple
from urllib.parse import quote

from caffe_merge.pages import charts, rendering
from caffe_merge.wording import counted

FIGURES = (
    ("layers", "layers", ""),
    ("multiply-adds", "multiply_adds", ""),
    ("parameters", "parameters", ""),
    ("files", "bytes", "bytes"),
)
_STATUSES = {"none": "not validated"}
Pair = Mapping[str, Any]


def write(path: str, report: Mapping[str, Any], links: Mapping[str, str]) -> None:
    """Write the index of a batch from its report (its JSON).

    ``links`` has the path of a pair's page, from the folder of the index, by the pair's name.
    Raises UsageError without Jinja2, FileError as writing does.
    """
    rendering.write(path, "batch.html", "A batch of merges", content(report, links))


def content(report: Mapping[str, Any], links: Mapping[str, str]) -> Dict[str, Any]:
    """All that the template prints, by the names that it has there."""
    totals, pairs = report["totals"], report["pairs"]
    rows = [_row(pair, links) for pair in pairs]
    failed = [row for row in rows if row["failed"]]
    return {
        "verdict": _verdict(totals),
        "bars": [
            charts.bar(title, totals[name][0], totals[name][1], unit)
            for title, name, unit in FIGURES
            if name in totals
        ],
        "failures": failed,
        "rows": [*failed, *(row for row in rows if not row["failed"])],
        "statuses": list(dict.fromkeys(row["status"] for row in rows)),
    }


def _verdict(totals: Mapping[str, Any]) -> Dict[str, Any]:
    failed, pairs = totals["failed"], totals["pairs"]
    of_all = f"{pairs - failed} of {counted(pairs, 'pair')} in place"
    return {
        "status": "failed" if failed else "passed",
        "sign": "\N{MULTIPLICATION X}" if failed else "\N{CHECK MARK}",
        "title": f"{failed} failed, {of_all}" if failed else of_all,
        "lines": list(_lines(totals)),
    }


def _lines(totals: Mapping[str, Any]) -> Iterator[str]:
    parts = [f"{totals[name]} {name}" for name in ("merged", "unchanged") if totals[name]]
    yield ", ".join([*parts, f"{totals['seconds']:.1f} s of work"]) + "."


def _row(pair: Pair, links: Mapping[str, str]) -> Dict[str, Any]:
    validation = pair["validation"] or {}
    failed = pair["status"] == "failed"
    status = validation.get("status") or pair["status"]
    if failed:
        status = "failed" if status not in ("failed", "inconclusive") else status
    worst = validation.get("worst")
    link = links.get(pair["name"])
    return {
        "name": pair["name"],
        # Quoted, it can be nothing but a path: a colon is none of a scheme.
        "link": link and quote(os.fsencode(link.replace(os.sep, "/"))),
        "failed": failed,
        "status": _STATUSES.get(status, status),
        "kind": pair["kind"],
        "mark": status if status in ("passed", "failed", "inconclusive") else "",
        "details": [text for text in (pair["reason"], pair["advice"]) if text],
        "figures": [_figure(pair, name, unit) for _, name, unit in FIGURES],
        "worst": "" if worst is None else f"{worst:.1e}",
        "worst_value": "" if worst is None else worst,
        "seconds": f"{pair['seconds']:.2f}",
        "unchanged": pair["status"] == "unchanged",
    }


def _figure(pair: Pair, name: str, unit: str) -> Tuple[str, float]:
    """The figure before and after, and one to sort by."""
    values: List[Any] = pair.get(name) or [None, None]
    if None in values:
        return "", -1.0
    written = charts.as_bytes if unit else charts.short
    return " \N{RIGHTWARDS ARROW} ".join(dict.fromkeys(map(written, values))), float(values[0])

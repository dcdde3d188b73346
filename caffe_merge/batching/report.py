"""All that a batch did as a file: JSON (docs/batch.md describes it), a table in CSV, or a page."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from caffe_merge import __version__
from caffe_merge.batching.batch import Plan
from caffe_merge.batching.outcome import FIGURES, MERGED, UNCHANGED, VALIDATION, Result
from caffe_merge.batching.sources import JOURNAL
from caffe_merge.errors import UsageError
from caffe_merge.files.outputs import (
    check_ending,
    check_folders,
    check_outputs,
    check_report_free,
)
from caffe_merge.files.replacement import Replacement
from caffe_merge.pages import rendering

SCHEMA = "caffe_merge.batch/1"
COLUMNS = (
    "name", "model", "weights", "output_model", "output_weights", "status", "kind", "reason",
    "advice", "engine", "verdict", "worst", "accuracy_before", "accuracy_after", "seconds",
    *(f"{name}_{when}" for name in FIGURES for when in ("before", "after")), "target",
)  # fmt: skip
ENDINGS = (*rendering.ENDINGS, ".json", ".csv")
_HEAD = 256  # bytes of a report, which begins with its schema or its columns


def check(path: str, planned: Plan, output_dir: str) -> None:
    """Refuse, before anything is done, a report that could not be written or would harm a file.

    It may be in ``output_dir``, which need not be there yet.
    """
    if rendering.is_page_name(path):
        rendering.require()
    real = os.path.realpath(path)
    if real == os.path.realpath(os.path.join(output_dir, JOURNAL)):
        raise UsageError(f"{path}: the report would overwrite the journal of the batch")
    for job in planned.jobs:
        if real in map(os.path.realpath, (*job.inputs, *job.outputs)):
            raise UsageError(f"{path}: the report would overwrite a file of the pair {job.name}")
    check_outputs((), (path,))
    check_ending(path, ENDINGS, "a report")
    check_report_free(path, is_report)
    if os.path.realpath(os.path.dirname(path) or ".") != os.path.realpath(output_dir):
        check_folders((path,))


def is_report(path: str) -> bool:
    """Whether the file at ``path`` is a report of a batch: it is no work of a user."""
    if rendering.is_page_name(path):
        return rendering.is_page(path)
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
    except OSError:
        return False
    return SCHEMA.encode() in head or head.startswith(",".join(COLUMNS[:6]).encode())


def totals(results: Sequence[Result]) -> Dict[str, Any]:
    """What all pairs come to; figures are summed over those of which both numbers are known."""
    sums: Dict[str, List[int]] = {}
    for result in results:
        for name, (before, after) in (result.outcome.figures or {}).items():
            if result.ok and before is not None and after is not None:
                total = sums.setdefault(name, [0, 0])
                total[0] += before
                total[1] += after
    statuses = [result.outcome.status for result in results]
    return {
        "pairs": len(results),
        "merged": statuses.count(MERGED),
        "unchanged": statuses.count(UNCHANGED),
        "failed": sum(not result.ok for result in results),
        "seconds": sum(result.outcome.seconds for result in results),
        **sums,
    }


def write(path: str, results: Sequence[Result], name_of: Callable[[str], str] = str) -> None:
    """Write the report, as CSV or a page if its name says so, whole or not at all.

    Options in it are called by ``name_of`` of their names in the library.
    """
    if rendering.is_page_name(path):
        from caffe_merge.pages import batch_page

        batch_page.write(path, _data(results, name_of), _links(path, results))
        return
    as_text = _csv if path.lower().endswith(".csv") else to_json
    text = as_text(results, name_of)
    with Replacement(path) as place:
        place.handles[0].write(text.encode("utf-8", "backslashreplace"))
        place.commit()


def pages(path: Optional[str]) -> Optional[str]:
    """The folder beside a report that has a page of each pair; None if the report is no page."""
    if path is None or not rendering.is_page_name(path):
        return None
    return os.path.splitext(path)[0] + "_pages"


def _links(path: str, results: Sequence[Result]) -> Dict[str, str]:
    """The page of each pair that has one, by its name, as it is called from the one at ``path``.

    A pair that failed before it was compared has none, or one of an earlier run.
    """
    folder = pages(path) or ""
    out = {}
    for result in results:
        page = os.path.join(folder, result.name + ".html")
        if (result.ok or result.outcome.kind == VALIDATION) and os.path.isfile(page):
            out[result.name] = os.path.relpath(page, os.path.dirname(path) or ".")
    return out


def _data(results: Sequence[Result], name_of: Callable[[str], str]) -> Dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "totals": totals(results),
        "pairs": [result.to_json(name_of) for result in results],
    }


def to_json(results: Sequence[Result], name_of: Callable[[str], str] = str) -> str:
    """The report as JSON, options in it called by ``name_of``."""
    return json.dumps(_data(results, name_of), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(results: Sequence[Result], name_of: Callable[[str], str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_row(result, name_of) for result in results)
    return out.getvalue()


def _row(result: Result, name_of: Callable[[str], str]) -> Dict[str, Any]:
    entry = result.to_json(name_of)
    validation = entry["validation"] or {}
    row = {**entry, "engine": validation.get("engine"), "worst": validation.get("worst")}
    row["verdict"] = validation.get("status")
    row["accuracy_before"], row["accuracy_after"] = validation.get("accuracy") or (None, None)
    return {**row, **dict(_flat(result.outcome.figures or {}))}


def _flat(figures: Dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, (before, after) in figures.items():
        yield f"{name}_before", before
        yield f"{name}_after", after

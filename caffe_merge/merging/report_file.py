"""The report of a merge as a file, JSON or a page: where it may be written, and how."""

from __future__ import annotations

import json
from typing import Callable, Sequence

from caffe_merge.errors import spelled_in
from caffe_merge.files.outputs import (
    check_ending,
    check_folders,
    check_outputs,
    check_report_free,
)
from caffe_merge.files.replacement import Replacement
from caffe_merge.merging.report import SCHEMA, Report
from caffe_merge.pages import rendering

ENDINGS = (*rendering.ENDINGS, ".json")
_HEAD = 64  # bytes of a report, which begins with its schema


def check(path: str, inputs: Sequence[str], outputs: Sequence[str] = ()) -> None:
    """Refuse, before anything is done, a report that could not be written or would harm a file.

    What may be in its place already is left to `check_free`.
    """
    if rendering.is_page_name(path):
        rendering.require()
    check_outputs(inputs, (*outputs, path))
    check_ending(path, ENDINGS, "a report")
    check_folders((path,))  # it is written last: that must not fail when the pair is in place


def check_free(path: str) -> None:
    """Refuse a report in the place of what is no earlier report."""
    check_report_free(path, _is_report)


def _is_report(path: str) -> bool:
    """Whether the file at ``path`` is a report of ours, of any version: it is no work of a user."""
    if rendering.is_page_name(path):
        return rendering.is_page(path)
    kind = SCHEMA.split("/")[0] + "/"
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
            if kind.encode() not in head:
                return False
            report = json.loads(head + handle.read())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and str(report.get("schema", "")).startswith(kind)


def write(report: Report, path: str, name_of: Callable[[str], str] = str) -> None:
    """Write the report as JSON or, if its name says so, as a page; whole or not at all.

    Options in it are called by ``name_of``.
    """
    if report.nets is not None:
        from caffe_merge.pages import merge_page

        merge_page.write(path, report.to_json(), report.nets, name_of)
        return
    entries = spelled_in(report.to_json(), name_of)
    data = json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False)
    with Replacement(path) as place:
        place.handles[0].write(data.encode("utf-8", "backslashreplace") + b"\n")
        place.commit()

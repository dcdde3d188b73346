"""What a merge makes of whole nets: their size, their forward pass in real Caffe, what stays.

The table is Markdown, for docs/benchmarks.md.
"""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from benchmarks.building import Pair
from benchmarks.measure import merge_command, run

CAFFE_FORWARD = str(Path(__file__).with_name("caffe_forward.py"))
HEAD = (
    *("net", "layers", "parameters", "multiply-adds", "median, ms", "least, ms"),
    *("faster", "worst error", "stay", "merge"),
)


def forward(pairs: Mapping[str, Pair], folder: Path, caffe: str, times: int) -> None:
    """Merge each pair, run it and the merged one in real Caffe; print a table, and the refusals."""
    rows: List[Sequence[str]] = [HEAD]
    refusals: List[str] = []
    for name, pair in pairs.items():
        path = folder / "report.json"
        merge = run([*merge_command(pair, folder), "--report", str(path)])
        report = json.loads(path.read_text())
        row = _row(report, _ran(caffe, pair, folder, times))
        rows.append((name, *row, f"{merge.seconds:.2f} s"))
        refusals += [f"  {name}: {reason}" for reason in _refused(report)]
    print("forward pass in pycaffe, before -> after")
    print(*_table(rows), sep="\n")
    print("refused")
    print(*refusals, sep="\n")


def _ran(caffe: str, pair: Pair, folder: Path, times: int) -> Dict[str, Any]:
    merged = [folder / "merged.prototxt", folder / "merged.caffemodel"]
    command = [caffe, CAFFE_FORWARD, *map(str, (*pair, *merged)), str(times)]
    quiet = {**os.environ, "GLOG_minloglevel": "3"}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=quiet).stdout
    return dict(json.loads(out))


def _row(report: Dict[str, Any], ran: Dict[str, Any]) -> Sequence[str]:
    before, after = report["before"], report["after"]
    stay = Counter(fate["type"] for fate in report["fates"] if fate["fate"] != "gone")
    return (
        f"{before['layers']} -> {after['layers']}",
        _millions(before["parameters"], after["parameters"]),
        _millions(before["multiply_adds"], after["multiply_adds"]),
        "{:.1f} -> {:.1f}".format(*ran["median"]),
        "{:.1f} -> {:.1f}".format(*ran["least"]),
        f"{ran['ratio']:.2f} x",
        f"{ran['error']:.1e}",
        ", ".join(f"{count} {kind}" for kind, count in stay.items()) or "nothing",
    )


def _millions(before: int, after: int) -> str:
    return f"{before / 1e6:.1f} M -> {after / 1e6:.1f} M"


def _refused(report: Dict[str, Any]) -> Iterator[str]:
    """Each reason without the names in it, and how many layers a pass gave it for."""
    counts = Counter(
        (one["rewrite"], one["type"], re.sub(r"'[^']*'", "'...'", one["reason"]))
        for one in report["refusals"]
    )
    for (rewrite, kind, reason), count in counts.most_common():
        yield f"{rewrite}, {count} {kind}: {reason}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        if not number:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"

"""What a merge makes of whole nets: their size, their forward pass in real Caffe, what stays.

The table is Markdown, for docs/benchmarks.md. Each net runs as it was, merged without the passes of
``LATER``, and merged. Times are processor time, of one thread.
"""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from benchmarks.building import Pair
from benchmarks.measure import merge_command, merged, run

CAFFE_FORWARD = str(Path(__file__).with_name("caffe_forward.py"))
HEAD = (
    *("net", "layers", "parameters", "multiply-adds", "median, ms", "least, ms"),
    *("faster", "by the later passes", "worst error", "stay", "merge"),
)
# Those that move the work or leave some of it out; the others fold and merge layers.
LATER = ("raise-stride", "pool-first", "drop-dead-channels", "drop-rectifier", "merge-groups")


def forward(pairs: Mapping[str, Pair], folder: Path, caffe: str, times: int) -> None:
    """Merge each pair, run it and the merged ones in real Caffe; print a table, and refusals."""
    rows: List[Sequence[str]] = [HEAD]
    refusals: List[str] = []
    path, apart = folder / "report.json", folder / "earlier"
    apart.mkdir(exist_ok=True)
    skip = [word for name in LATER for word in ("--skip", name)]
    for name, pair in pairs.items():
        run([*merge_command(pair, apart), *skip, "--report", str(path)])
        earlier = json.loads(path.read_text())["after"]
        merge = run([*merge_command(pair, folder), "--report", str(path)])
        report = json.loads(path.read_text())
        ran = _ran(caffe, [pair, merged(apart), merged(folder)], times)
        rows.append((name, *_row(report, earlier, ran), f"{merge.processor:.2f} s"))
        print("|", " | ".join(rows[-1]), "|", flush=True)
        refusals += [f"  {name}: {reason}" for reason in _refused(report)]
    print("forward pass in pycaffe, before -> without the later passes -> after")
    print(*_table(rows), sep="\n")
    print("refused")
    print(*refusals, sep="\n")


def _ran(caffe: str, pairs: Sequence[Pair], times: int) -> Dict[str, Any]:
    files = [str(path) for pair in pairs for path in pair]
    command = [caffe, CAFFE_FORWARD, str(times), *files]
    environment = {**os.environ, "GLOG_minloglevel": "3", "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    return dict(json.loads(out))


def _row(report: Dict[str, Any], earlier: Dict[str, Any], ran: Dict[str, Any]) -> Sequence[str]:
    before, after = report["before"], report["after"]
    adds = [size["multiply_adds"] for size in (before, earlier, after)]
    stay = Counter(fate["type"] for fate in report["fates"] if fate["fate"] != "gone")
    faster, by_later, _ = ran["ratio"]
    return (
        f"{before['layers']} -> {after['layers']}",
        _millions(before["parameters"], after["parameters"]),
        f"{_millions(*adds)} ({100 * (adds[-1] / adds[0] - 1):+.1f} %)",
        "{:.1f} -> {:.1f} -> {:.1f}".format(*ran["median"]),
        "{:.1f} -> {:.1f} -> {:.1f}".format(*ran["least"]),
        f"{faster:.2f} x",
        f"{by_later:.2f} x",
        f"{max(ran['error']):.1e}",
        ", ".join(f"{count} {kind}" for kind, count in stay.items()) or "nothing",
    )


def _millions(*numbers: int) -> str:
    return " -> ".join(f"{number / 1e6:.1f} M" for number in numbers)


def _refused(report: Dict[str, Any]) -> Iterator[str]:
    """Each reason without the names in it, and how many layers a pass gave it for."""
    counts = Counter(
        (refusal["rewrite"], refusal["type"], re.sub(r"'[^']*'", "'...'", refusal["reason"]))
        for refusal in report["refusals"]
    )
    for (rewrite, kind, reason), count in counts.most_common():
        yield f"{rewrite}, {count} {kind}: {reason}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        if not number:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"

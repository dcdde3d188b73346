"""Records what a fixed set of commands does, and names every difference later.

Usage: python tools/golden.py record DIR     before a refactoring
       python tools/golden.py compare DIR    after each step of it; 1 if anything differs

Of each command: the exit status, stdout, stderr, the report, and every file that is there when it
is done, each by its sha256; prototxts and the report as text too. Times, places in the code and
the names of temporary folders are left out, so that code may move. The seeded weights that record
makes stay in DIR: compare reads the same bytes, whatever happened to the code that makes them.

--shared FOLDER  has the folders cases, corpus and forms (default: shared beside the checkout);
                 what is not there is left out
--only PATTERN   only the commands whose id fits, as 'cases/*' or '*/plan'
--jobs N         commands at a time (2)

A command that ran into its time limit is recorded as that and nothing else. tools/golden_runs.py
has the inputs and the table of options.
"""

import argparse
import difflib
import fnmatch
import hashlib
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import golden_runs
from golden_runs import ROOT, Files, Run

MEMORY = 4 << 30  # bytes of address space for each command
LONGEST = 400_000  # bytes of a prototxt that is recorded as text
DIFF_LINES = 24  # of each difference that is shown
MERGE_BN = "from caffe_merge.__main__ import merge_bn; merge_bn()"

Record = Dict[str, Any]

# What differs from run to run or from place to place, and what stands for it.
_TRACEBACK = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(?:[\w.]+\.)?(?=\w+)", re.MULTILINE
)
_CHANGING = (
    (_TRACEBACK, "Traceback: "),
    (re.compile(r"\S+\.py:\d+:"), "<code>:"),
    (re.compile(r"\b\d+(?:\.\d+)?(?:e[-+]?\d+)? (m?s|min)\b"), r"<time> \1"),
    (re.compile(r"\btmp[a-z0-9_]{8}\b"), "<random>"),
)


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    options = parser.parse_args()
    folder, shared = options.folder.resolve(), options.shared.resolve()
    for name in ("cases", "corpus", "forms"):
        if not (shared / name).is_dir():
            print(f"left out: {shared / name} is not there")
    if options.action == "record":
        folder.mkdir(parents=True, exist_ok=True)
        large = golden_runs.fill(shared, folder / "weights")
        print(f"only inspected, their weights are too large: {', '.join(large) or 'none'}")
    every = golden_runs.runs(shared, folder / "weights")
    chosen = [run for run in every if fnmatch.fnmatchcase(run.id, options.only)]
    start = time.monotonic()
    action = record if options.action == "record" else compare
    with ThreadPoolExecutor(options.jobs) as pool:
        status = action(folder, options.only, chosen, pool.map(outcome, chosen))
    print(f"{len(chosen)} commands in {time.monotonic() - start:.0f} s")
    return status


def record(folder: Path, pattern: str, runs: List[Run], outcomes: Iterator[Record]) -> int:
    """Write one file for each run, and remove those of runs that are no more."""
    old = dict(recorded(folder, pattern))
    for run, result in zip(runs, outcomes):
        old.pop(run.id, None)
        path = _path(folder, run.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    for name in old:
        _path(folder, name).unlink()
    (folder / "environment.json").write_text(json.dumps(environment(), indent=1))
    return 0


def compare(folder: Path, pattern: str, runs: List[Run], outcomes: Iterator[Record]) -> int:
    """Print every difference from what is recorded; 1 if there is one."""
    before = dict(recorded(folder, pattern))
    if not before:
        sys.exit(f"{folder} has no record of {pattern}")
    then, now = json.loads((folder / "environment.json").read_text()), environment()
    if then != now:
        print(f"recorded with {then}, compared with {now}")
    differing = 0
    for run, result in zip(runs, outcomes):
        old = before.pop(run.id, None)
        if old is None:
            print(f"not recorded: {run.id}")
        elif old != result:
            differing += 1
            print("\n".join(differences(run.id, old, result)), flush=True)
    for name in before:
        print(f"recorded, but not run: {name}")
    print(f"{differing} differ, {len(before)} were not run")
    return int(bool(differing or before))


def differences(name: str, old: Record, new: Record) -> Iterator[str]:
    """Lines that say which parts of a run differ, and how."""
    parts = dict.fromkeys([*old, *new])
    for part in (part for part in parts if old.get(part) != new.get(part)):
        yield f"== {name}: {part}"
        was, now = (_lines(side.get(part)) for side in (old, new))
        diff = list(difflib.unified_diff(was, now, "recorded", "now", lineterm="", n=1))[2:]
        yield from (line[:300] for line in diff[:DIFF_LINES])
        if len(diff) > DIFF_LINES:
            yield f"... {len(diff) - DIFF_LINES} more lines"


def _lines(value: object) -> List[str]:
    if isinstance(value, dict):
        return [f"{name}: {text}" for name, text in value.items()]
    return [] if value is None else str(value).splitlines()


def recorded(folder: Path, pattern: str) -> Iterator[Tuple[str, Record]]:
    """What is recorded of the runs that ``pattern`` fits, by id."""
    root = folder / "runs"
    for path in sorted(root.rglob("*.json")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if fnmatch.fnmatchcase(name, pattern):
            yield name, json.loads(path.read_text(encoding="utf-8"))


def _path(folder: Path, name: str) -> Path:
    return folder / "runs" / f"{name}.json"


def environment() -> Dict[str, str]:
    """What the bytes of a result may depend on beside the code."""
    packages = {name: metadata.version(name) for name in ("numpy", "protobuf")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


def outcome(run: Run) -> Record:
    """Run a command in a new folder; all that it did."""
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        top = Path(name).resolve()
        folder = top / "work"
        _place(run.files, folder)
        status, streams = _execute(run, folder)
        if status == "timeout":  # how far it came differs each time
            return {"command": " ".join(run.words), "status": status}
        texts = {stream: _stable(text, top) for stream, text in streams.items()}
        report = folder / "report.json"
        if report.exists():
            texts["report"] = _stable(_without_times(report.read_text(encoding="utf-8")), top)
        hashes = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file = _stable(path.relative_to(folder).as_posix(), top)
            if path != report:
                hashes[file] = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.suffix == ".prototxt" and file not in run.files and _short(path):
                texts[file] = path.read_bytes().decode(errors="backslashreplace")
        written = {file: hashes.get(file) for file in ("out.prototxt", "out.caffemodel")}
        return {
            "command": " ".join(run.words),
            "status": status,
            **texts,
            "files": {**hashes, **written},
        }


def _place(files: Files, folder: Path) -> None:
    """Write copies of ``files`` to ``folder``: no command can harm what it reads."""
    (folder / "tmp").mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def _execute(run: Run, folder: Path) -> Tuple[str, Dict[str, str]]:
    """The exit status, or "timeout"; and what was printed."""
    words = ["-m", "caffe_merge", *run.words]
    if run.words[:1] == ["merge_bn"]:
        words = ["-c", MERGE_BN, *run.words[1:]]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=_variables(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    if hasattr(resource, "prlimit"):  # Linux
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        streams = process.communicate(timeout=run.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it, and the workers that it started
        process.communicate()
        return "timeout", {}
    texts = (stream.decode(errors="backslashreplace") for stream in streams)
    return str(process.returncode), dict(zip(("stdout", "stderr"), texts))


def _variables(folder: Path) -> Dict[str, str]:
    """The environment of a command: nothing of the user's that it could depend on."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
        "OPENBLAS_NUM_THREADS": "1",  # the last bits of a sum depend on how it is shared out
        "OMP_NUM_THREADS": "1",
    }


def _stable(text: str, folder: Path) -> str:
    """``text`` without what differs from run to run and from checkout to checkout."""
    for path, mark in ((folder, "<tmp>"), (ROOT, "<checkout>")):
        text = text.replace(str(path), mark)
    for pattern, mark in _CHANGING:
        text = pattern.sub(mark, text)
    return text


def _without_times(report: str) -> str:
    """A report without its times; as it is where it is no JSON."""
    try:
        tree = json.loads(report)
    except ValueError:
        return report
    return json.dumps(_dropped(tree), indent=1)


def _dropped(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _dropped(value) for key, value in tree.items() if key != "seconds"}
    return [_dropped(value) for value in tree] if isinstance(tree, list) else tree


def _short(path: Path) -> bool:
    return path.stat().st_size <= LONGEST


if __name__ == "__main__":
    sys.exit(main())

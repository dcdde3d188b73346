"""Holds the table of targets against the readers: what check says is so, what merge makes runs.

Usage: python tools/test_targets.py FORMS RESULTS.json READER=PYTHON ...

FORMS is a folder of small pairs, each with NAME.npz: its inputs by name and, as `out:NAME`, what
real Caffe gives out. READER is a target that tools/target_reader.py can run, PYTHON the interpreter
of an environment that has it. Of every pair: the reader runs it, `check` is asked, `merge` makes it
anew for the target, and the reader runs that. The pair agrees within 1e-4 of an output's largest
value (1e-2 where the reader computes in half precision), or is wrong, or is refused. It is an error
where check finds nothing and the pair does not agree, where check finds something and the pair
agrees, and likewise of the merged pair; what is only demanded counts for neither.
RESULTS.json gets what was found, by reader; docs/targets.md is made from it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

import caffe_merge
from caffe_merge.passes.targets.check import check
from caffe_merge.passes.targets.table import DEMANDED, find

LIMIT = 1e-4
HALF_LIMIT = {"rknn": 1e-2}  # its simulator computes in half precision, as the chip does
READER = Path(__file__).with_name("target_reader.py")
OUT = "out:"
AGREES, WRONG, REFUSED = "agrees", "wrong", "refused"


def main() -> int:
    """Run all; the number of contradictions, at most 1, as the exit status."""
    forms, results_file = Path(sys.argv[1]), Path(sys.argv[2])
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    faults: List[str] = []
    for argument in sys.argv[3:]:
        reader, _, python = argument.partition("=")
        results[reader] = _run_all(reader, python, forms, faults)
        results_file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print("\n".join(faults) or "check and merge say what is so")
    return int(bool(faults))


def _run_all(reader: str, python: str, forms: Path, faults: List[str]) -> Dict[str, Any]:
    rows: Dict[str, Any] = {}
    version = ""
    for prototxt in sorted(forms.glob("*.prototxt")):
        with tempfile.TemporaryDirectory() as folder:
            row, ran = _run_form(reader, python, prototxt, Path(folder))
        version = ran or version
        rows[prototxt.stem] = row
        for stage in ("before", "after"):
            outcome, reasons = row[stage]["outcome"], row[stage]["told"]
            if (outcome == AGREES) == bool(reasons):
                faults.append(f"{reader}: {prototxt.stem} {stage}: {outcome}, check: {reasons}")
        print(reader, prototxt.stem, row, flush=True)
    return {"version": version, "forms": rows}


def _run_form(reader: str, python: str, model: Path, folder: Path) -> Tuple[Dict[str, Any], str]:
    weights, arrays = model.with_suffix(".caffemodel"), dict(np.load(model.with_suffix(".npz")))
    target_pair = folder / "made.prototxt", folder / "made.caffemodel"
    caffe_merge.convert(model, weights, *target_pair, target=reader, validate="none")
    row: Dict[str, Any] = {}
    version = ""
    same = all(
        new.read_bytes() == old.read_bytes() for new, old in zip(target_pair, (model, weights))
    )
    for stage, pair in (("before", (model, weights)), ("after", target_pair)):
        if stage == "after" and same:
            row[stage] = row["before"]
            continue
        net = caffe_merge.load(str(pair[0]), str(pair[1]))
        problems = check(net, net.graph({}), find(reader))
        reasons = sorted({problem.why for problem in problems if problem.effect != DEMANDED})
        outcome, error, ran = _run(reader, python, pair, arrays, folder)
        version = ran or version
        row[stage] = {"outcome": outcome, "error": error, "told": reasons}
    return row, version


def _run(
    reader: str, python: str, pair: Tuple[Path, Path], arrays: Dict[str, Any], folder: Path
) -> Tuple[str, float, str]:
    """What becomes of ``pair`` in a reader, the largest error of its outputs, and its version."""
    inputs = {name: array for name, array in arrays.items() if not name.startswith(OUT)}
    source, target = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(source, **inputs)
    target.unlink() if target.exists() else None
    command = [python, str(READER), reader, *map(str, pair), str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, cwd=str(folder))
    except subprocess.TimeoutExpired:
        return REFUSED, 0.0, ""
    if done.returncode or not target.exists():
        return REFUSED, 0.0, ""
    outputs = dict(np.load(target))
    version = str(outputs.pop("version"))
    errors = [
        min((_error(array, expected) for array in outputs.values()), default=np.inf)
        for name, expected in arrays.items()
        if name.startswith(OUT)
    ]
    worst = max(errors)
    return (
        (AGREES if worst <= HALF_LIMIT.get(reader, LIMIT) else WRONG),
        float(f"{min(worst, 9e9):.1e}"),
        version,
    )


def _error(actual: Any, expected: Any) -> float:
    """The largest difference, in units of the largest value; infinite for another size."""
    if actual.size != expected.size:
        return float("inf")
    difference = np.abs(actual.ravel() - expected.ravel()).max()
    return float(difference / max(np.abs(expected).max(), 1e-30))


if __name__ == "__main__":
    sys.exit(main())

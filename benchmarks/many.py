"""Many small pairs: a batch beside a shell loop, what validation adds to a merge, and pairing."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np

from caffe_merge.weights.formats import open_index

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
BATCH = [sys.executable, "-m", "caffe_merge", "batch"]
LOOPED = 20  # pairs of the shell loop


class Spent(NamedTuple):
    """Wall time and processor time, in seconds, and the largest resident set, in MB."""

    seconds: float
    processor: float
    resident: float


def spent(command: List[str], **how: Any) -> Spent:
    """Run ``command``, all of its processes counted."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Spent(seconds, user + system, after.ru_maxrss / 1024)


def write_pairs(folder: Path, number: int) -> Path:
    """``number`` folders with the digits net, each with weights of its own."""
    text, weights = (DIGITS / name for name in ("deploy.prototxt", "digits.caffemodel"))
    data = weights.read_bytes()
    first = open_index(str(weights)).layers[1].blobs[0].array()
    at = data.index(np.asarray(first, np.float32).tobytes())
    random = np.random.Generator(np.random.PCG64(3))
    for n in range(number):
        pair = folder / f"{n // 100:03d}" / f"m{n}"
        if (pair / weights.name).exists():
            continue
        pair.mkdir(parents=True, exist_ok=True)
        changed = (first * random.uniform(0.9, 1.1, first.shape)).astype(np.float32).tobytes()
        (pair / weights.name).write_bytes(data[:at] + changed + data[at + len(changed) :])
        lines = text.read_text().replace('"drop4"', f'"drop4_{n}"')
        (pair / text.name).write_text(lines)
    return folder


def batch(source: Path, out: Path, *given: str) -> Spent:
    """One batch, into a folder that is not there yet."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    return spent([*BATCH, str(source), "--output-dir", str(out), "-q", *given])


def loop(source: Path, out: Path, engine: str) -> Spent:
    """A shell loop over merge_bn.py, of the first pairs."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    program = Path(sys.executable).with_name("merge_bn.py")
    script = (
        f'for p in $(ls -d "$0"/*/* | head -{LOOPED}); do "{program}" -q --validate {engine} '
        '--model "$p/deploy.prototxt" --weights "$p/digits.caffemodel" '
        '--output-model "$1/x.prototxt" --output-weights "$1/x.caffemodel" --force || exit 1; done'
    )
    return spent(["sh", "-c", script, str(source), str(out)])


def many(folder: Path, number: int) -> None:
    """Print all that can be said of many pairs."""
    source, out = write_pairs(folder / f"digits{number}", number), folder / "batch_out"
    few = write_pairs(folder / "digits100", 100)
    for engine in ("none", "reference"):
        all_of_them = source if engine == "none" else few
        count = number if engine == "none" else 100
        whole, looped = batch(all_of_them, out, "--validate", engine), loop(few, out / "l", engine)
        each, of_loop = whole.seconds / count, looped.seconds / LOOPED
        print(f"{count} digits pairs, --validate {engine}")
        print(
            f"  batch       {1 / each:6.1f} pairs/s, {whole.processor / count:.3f} s of processor"
        )
        print(f"  shell loop  {1 / of_loop:6.1f} pairs/s")
        print(f"  ratio       {of_loop / each:6.1f} x faster, {whole.resident:.0f} MB resident")
    start = time.perf_counter()
    spent([*BATCH, str(source), "--output-dir", str(out), "--plan"])
    print(f"  pairing     {number / (time.perf_counter() - start):6.0f} pairs/s")

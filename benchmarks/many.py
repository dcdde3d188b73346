"""Many small pairs: a batch beside a shell loop, what validation adds to a merge, and pairing.

Alone: ``python -m benchmarks.many [--folder F] [--pairs N] [--texts N]``.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import numpy as np

from caffe_merge.formats.weights.formats import open_index

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
BATCH = [sys.executable, "-m", "caffe_merge", "batch"]
LOOPED = 20  # pairs of the shell loop
PAIRS, TEXTS = 1000, 10_000


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
    """``number`` folders with the digits net, each with a text and weights of its own."""
    weights = DIGITS / "digits.caffemodel"
    data = weights.read_bytes()
    first = open_index(str(weights)).layers[1].blobs[0].array()
    at = data.index(np.asarray(first, np.float32).tobytes())
    random = np.random.Generator(np.random.PCG64(3))
    for pair in folders(folder, number):
        changed = (first * random.uniform(0.9, 1.1, first.shape)).astype(np.float32).tobytes()
        (pair / weights.name).write_bytes(data[:at] + changed + data[at + len(changed) :])
    return folder


def write_texts(folder: Path, number: int) -> Path:
    """The same, but all have the weights of examples/: what pairing takes does not depend on it."""
    weights = folder / "digits.caffemodel.copy"
    for pair in folders(folder, number):
        if not weights.exists():
            shutil.copy(str(DIGITS / "digits.caffemodel"), str(weights))
        os.link(str(weights), str(pair / "digits.caffemodel"))
    return folder


def folders(folder: Path, number: int) -> Iterator[Path]:
    """A folder for each of ``number`` pairs, with its text; those that are there are left out."""
    text = (DIGITS / "deploy.prototxt").read_text()
    for n in range(number):
        pair = folder / f"{n // 100:03d}" / f"m{n}"
        if (pair / "digits.caffemodel").exists():
            continue
        pair.mkdir(parents=True, exist_ok=True)
        (pair / "deploy.prototxt").write_text(text.replace('"drop4"', f'"drop4_{n}"'))
        yield pair


def batch(source: Path, out: Path, *flags: str) -> Spent:
    """One batch, into a folder that is not there yet."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    return spent([*BATCH, str(source), "--output-dir", str(out), "-q", *flags])


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


def many(folder: Path, number: int, texts: int = TEXTS) -> None:
    """Print all that can be said of ``number`` pairs, and how long ``texts`` others are paired."""
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
    to_pair = str(write_texts(folder / f"texts{texts}", texts))
    paired = spent([*BATCH, to_pair, "--output-dir", str(out), "--plan"])
    each = paired.processor / texts * 1000
    print(
        f"{texts} texts with weights paired in {paired.seconds:.1f} s, {each:.1f} ms of processor"
    )


def main() -> None:
    """Measure many small pairs alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/bench"), help="for the pairs")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"to be merged ({PAIRS})")
    parser.add_argument("--texts", type=int, default=TEXTS, help=f"to be paired ({TEXTS})")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    many(options.folder, options.pairs, options.texts)


if __name__ == "__main__":
    main()

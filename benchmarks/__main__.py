"""All measurements, as ratios within one run: ``python -m benchmarks [--folder F] [--times N]``.

Pairs are made in the folder (about 3.6 GB with --large) and kept there for the next run. What needs
real Caffe (CAFFE_MERGE_CAFFE_PYTHON, or ``make bench``) or a downloaded open_nsfw is left out, and
that is said, where it is not at hand.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Optional

from benchmarks import nets, open_nsfw
from benchmarks.building import Pair, write_pair
from benchmarks.forward import forward
from benchmarks.many import many
from benchmarks.measure import Run, alternate, merge_command, merged

RESAVE = str(Path(__file__).with_name("caffe_resave.py"))


def against_cp(pair: Pair, folder: Path, times: int) -> None:
    """Merging against copying the same two files."""
    to = [folder / "copy.prototxt", folder / "copy.caffemodel"]
    copy = ["sh", "-c", 'cp "$0" "$2" && cp "$1" "$3"', *map(str, [*pair, *to])]
    outputs = [*to, *merged(folder)]
    merge, cp = alternate([merge_command(pair, folder), copy], times, outputs)
    bound = 3 * cp.seconds + 0.5
    print(f"{pair[1].name}, {_megabytes(pair)} MB")
    print(f"  cp            {cp.seconds:6.2f} s")
    print(f"  merge         {merge.seconds:6.2f} s   bound cp x 3 + 0.5 s = {bound:.2f} s")
    print(f"  anonymous     {merge.anonymous:6.0f} MB  bound 150 MB")


def against_caffe(pair: Pair, folder: Path, times: int, caffe: str) -> None:
    """Merging against what every script on pycaffe does at least: load, and save."""
    to = folder / "resaved.caffemodel"
    resave = [caffe, RESAVE, *map(str, pair), str(to)]
    merge, old = alternate([merge_command(pair, folder), resave], times, [to, *merged(folder)])
    print(f"{pair[1].name}, {_megabytes(pair)} MB, start-up included")
    print(f"  pycaffe load + save  {_row(old)}")
    print(f"  merge                {_row(merge)}")
    ratio, memory = old.seconds / merge.seconds, old.anonymous / merge.anonymous
    least = old.least / merge.least
    print(
        f"  ratio                {ratio:6.2f} x faster, {least:.2f} x by the fastest runs, "
        f"1/{memory:.0f} of the anonymous memory"
    )


def _row(run: Run) -> str:
    return (
        f"{run.seconds:6.2f} s (least {run.least:.2f})  {run.processor:6.2f} s of processor time  "
        f"{run.anonymous:6.0f} MB anonymous  {run.resident:6.0f} MB resident"
    )


def _megabytes(pair: Pair) -> int:
    return os.path.getsize(pair[1]) // 1_000_000


def forward_passes(folder: Path, nsfw: Optional[Pair], caffe: Optional[str], times: int) -> None:
    """Whole nets in real Caffe, if it is there."""
    whole = {name: write_pair(folder, name, build) for name, build in nets.FORWARD.items()}
    if nsfw is not None:
        whole["open_nsfw"] = nsfw
    if caffe is not None:
        forward(whole, folder, caffe, times)


def main() -> None:
    """Everything that can be measured here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/bench"), help="for the pairs")
    parser.add_argument("--times", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--large", action="store_true", help="pairs of 1 GB and over 2 GB too")
    parser.add_argument("--pairs", type=int, default=1000, help="small pairs of the batch (1000)")
    parser.add_argument("--forward", action="store_true", help="the forward passes of nets alone")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    caffe: Optional[str] = os.environ.get("CAFFE_MERGE_CAFFE_PYTHON") or None
    if caffe is None:
        print("no real Caffe (CAFFE_MERGE_CAFFE_PYTHON): what needs it is left out")
    nsfw = open_nsfw.fetch(folder)
    if nsfw is None:
        print("open_nsfw could not be downloaded: what needs it is left out")

    if options.forward:
        forward_passes(folder, nsfw, caffe, 3 * options.times)
        return
    many(folder, options.pairs)
    pairs = [write_pair(folder, "resnet152", nets.resnet152)]
    for repeat in (5, 10) if options.large else ():
        build = partial(nets.resnet152, repeat=repeat)
        pairs.append(write_pair(folder, f"resnet152x{repeat}", build))
    for pair in pairs:
        against_cp(pair, folder, options.times)
    if caffe is not None:
        for pair in filter(None, [nsfw, pairs[0]]):
            against_caffe(pair, folder, options.times, caffe)
    forward_passes(folder, nsfw, caffe, 3 * options.times)


if __name__ == "__main__":
    sys.exit(main())

"""What validation costs: ``python -m benchmarks.validation [--folder F] [--before CHECKOUT]``.

The default command, validation and all, beside a script on pycaffe that folds and checks nothing;
and, with a checkout of an earlier commit (its descriptor set compiled), what validation costs
beside what it cost there. All is processor time, of all processes, start-up included: other work
on the machine bears less on it than on the clock.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from benchmarks import nets, open_nsfw
from benchmarks.building import Pair, write_pair
from benchmarks.measure import merge_command, merged, run

FOLD = str(Path(__file__).with_name("caffe_fold.py"))
QUIET = {"GLOG_minloglevel": "2"}  # which saves Caffe the time of its log
BEFORE = {
    "mobilenet_v1": nets.mobilenet_v1,
    "densenet121": nets.densenet,
    "inception_v3": nets.inception_v3,
}


def processor(commands: Dict[str, List[str]], times: int, **environment: Dict[str, str]) -> "Spent":
    """Processor seconds of each command, run in turn; ``environment`` by the command's name."""
    spent: Spent = {name: [] for name in commands}
    for turn in range(times + 1):  # the first one is to warm up
        for name, command in commands.items():
            more = environment.get(name, {})
            seconds = run(command, watched=False, environment=more).processor
            spent[name] += [seconds] if turn else []
    return spent


Spent = Dict[str, List[float]]


def validated(pair: Pair, folder: Path, validate: str, *more: str) -> List[str]:
    """The command that merges ``pair``, judged by ``validate``, from any checkout on the path."""
    _program, flag, _none, *flags = merge_command(pair, folder)
    return [sys.executable, "-m", "caffe_merge", "merge", *flags, flag, validate, *more]


def against_fold(name: str, pair: Pair, folder: Path, times: int, caffe: str) -> None:
    """The default command beside the script; that folds by a text that is made for it before."""
    fold_only = validated(pair, folder, "none", "--only", "fold-affine")
    subprocess.run(fold_only, check=True)
    deploy = merged(folder)[0].rename(folder / "folded.prototxt")
    script = [caffe, FOLD, *map(str, (*pair, deploy, folder / "folded.caffemodel"))]
    commands = {"merge": validated(pair, folder, "reference"), "script": script}
    spent = processor(commands, times, script=QUIET)
    print(f"{name}: {_row(spent)}, ratio {_ratio(spent['merge'], spent['script']):.2f}")


def against_before(name: str, pair: Pair, folder: Path, times: int, checkout: str) -> None:
    """What validation adds to a merge, here and in the checkout."""
    commands = {}
    for side in ("now", "before"):
        commands[side] = validated(pair, folder, "reference")
        commands[f"{side}, without"] = validated(pair, folder, "none")
    here = str(Path(__file__).resolve().parent.parent)
    paths = {side: {"PYTHONPATH": here if side[:3] == "now" else checkout} for side in commands}
    spent = processor(commands, times, **paths)
    now, before = (
        [full - none for full, none in zip(spent[side], spent[f"{side}, without"])]
        for side in ("now", "before")
    )
    print(f"{name}: {_row({'now': now, 'before': before})}, ratio {_ratio(now, before):.2f}")


def _row(spent: Spent) -> str:
    return ", ".join(
        f"{name} {statistics.median(seconds):.2f} s (least {min(seconds):.2f})"
        for name, seconds in spent.items()
    )


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(some) / statistics.median(others)


def main() -> None:
    """Both measurements, as far as they can be made here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/bench"), help="for the pairs")
    parser.add_argument("--times", type=int, default=7, help="counted runs of each command")
    parser.add_argument("--before", help="a checkout of an earlier commit")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    before = os.path.abspath(options.before) if options.before else ""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # python -m would find this package first, whatever the path
    caffe: Optional[str] = os.environ.get("CAFFE_MERGE_CAFFE_PYTHON") or None
    if caffe is None:
        print("no real Caffe (CAFFE_MERGE_CAFFE_PYTHON): the script on it is left out")
    else:
        pairs = {
            "open_nsfw": open_nsfw.fetch(folder),
            "resnet50": write_pair(folder, "resnet50", nets.resnet50),
        }
        for name, pair in pairs.items():
            if pair is not None:
                against_fold(name, pair, folder, options.times, caffe)
    for name, build in BEFORE.items() if before else ():
        pair = write_pair(folder, name, build)
        against_before(name, pair, folder, options.times, before)


if __name__ == "__main__":
    main()

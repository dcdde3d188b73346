"""SIGKILL at any moment, and two runs at once: never a prototxt beside weights of another pair."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from caffe_merge.command import cli
from caffe_merge.files.replacement import Replacement
from tests.nets import write_pair
from tests.test_bad_input import BLOBS, TEXT

MERGE = ["merge", "--validate", "none", "-q"]
OUTPUTS = ("net_merged.prototxt", "net_merged.caffemodel")
# Runs the command line, but dies in front of its n-th system call that changes a folder or file.
SCRIPT = """
import os, signal, sys
from caffe_merge.command import cli
left = int(sys.argv.pop(1))
def dying(real):
    def call(*args, **flags):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **flags)
    return call
for name in ("mkdir", "rmdir", "open", "fdopen", "fsync", "replace", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
sys.exit(cli.main(ours=True))
"""
Pair = Tuple[bytes, bytes]


def inputs(folder: Path, which: int) -> List[str]:
    """Flags for one of two nets, that merge to pairs which differ in text and weights."""
    text = TEXT.replace('name: "bad"', f'name: "net {which}"')
    blobs = {name: [array + which for array in arrays] for name, arrays in BLOBS.items()}
    model, weights = write_pair(folder, text, blobs, f"in{which}")
    out = [folder / name for name in OUTPUTS]
    pairs = zip(
        ("--model", "--weights", "--output-model", "--output-weights"), (model, weights, *out)
    )
    return [*MERGE, *(str(word) for pair in pairs for word in pair)]


def contents(folder: Path) -> Tuple[Any, Any]:
    """The contents of the two outputs, None where one is not there."""
    paths = [folder / name for name in OUTPUTS]
    first, two = (path.read_bytes() if path.exists() else None for path in paths)
    return first, two


def others(folder: Path) -> List[str]:
    """What lies beside inputs and outputs."""
    return [n for n in sorted(os.listdir(folder)) if not n.startswith("in") and n not in OUTPUTS]


@pytest.fixture
def merged(tmp_path: Path) -> Dict[int, Pair]:
    """The pairs that the two nets merge to; none of them is there."""
    pairs: Dict[int, Pair] = {}
    for which in (0, 1):
        assert cli.main([*inputs(tmp_path, which), "--force"]) == 0
        pairs[which] = contents(tmp_path)
    assert pairs[0][0] != pairs[1][0]
    assert pairs[0][1] != pairs[1][1]
    assert others(tmp_path) == []
    clear(tmp_path)
    return pairs


def clear(folder: Path) -> None:
    """Remove the outputs and what was left beside them."""
    for name in (*OUTPUTS, *others(folder)):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        elif os.path.lexists(folder / name):
            os.unlink(folder / name)


def judge(folder: Path, merged: Dict[int, Pair], was_there: bool) -> None:
    """After a run for net 1 was killed: what is there is a pair, and the next run succeeds."""
    left = contents(folder)
    if left[0] is not None:
        assert left in (merged.values() if was_there else [merged[1]])
    # Without --force it puts right what is there, and then that is a whole pair or nothing.
    if cli.main(inputs(folder, 1)) != 0:
        assert contents(folder) in (merged.values() if was_there else [merged[1]])
        assert others(folder) == []
        assert cli.main([*inputs(folder, 1), "--force"]) == 0
    assert contents(folder) == merged[1]
    assert others(folder) == []


@pytest.mark.parametrize("was_there", [False, True])
def test_killed_in_front_of_every_system_call(
    was_there: bool, tmp_path: Path, merged: Dict[int, Pair]
) -> None:
    at = 0
    while True:
        at += 1
        clear(tmp_path)
        if was_there:
            assert cli.main(inputs(tmp_path, 0)) == 0
        run = [sys.executable, "-c", SCRIPT, str(at), *inputs(tmp_path, 1), "--force"]
        status = subprocess.run(run).returncode
        if status == 0:
            break
        assert status == -signal.SIGKILL
        judge(tmp_path, merged, was_there)
    assert at > (12 if was_there else 8)  # it did die in the middle


def test_killed_at_random_moments(tmp_path: Path, merged: Dict[int, Pair]) -> None:
    run = [sys.executable, "-m", "caffe_merge", *inputs(tmp_path, 1), "--force"]
    start = time.perf_counter()
    assert subprocess.run(run).returncode == 0
    lasts = time.perf_counter() - start
    for moment in np.random.default_rng(0).uniform(0.4, 1.05, 6):
        clear(tmp_path)
        assert cli.main(inputs(tmp_path, 0)) == 0
        child = subprocess.Popen(run)
        time.sleep(moment * lasts)
        child.kill()
        child.wait()
        judge(tmp_path, merged, was_there=True)


def test_two_runs_at_once(tmp_path: Path, merged: Dict[int, Pair]) -> None:
    for _ in range(3):
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "caffe_merge", *inputs(tmp_path, which), "--force"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for which in (0, 1, 0, 1)
        ]
        results = [(child.communicate()[1], child.returncode) for child in children]
        assert 0 in [status for _, status in results]
        for line, status in results:
            if status:
                assert status == 2
                assert line.endswith("another run is writing this output\n")
                assert line.count("\n") == 1
        assert contents(tmp_path) in merged.values()
        assert others(tmp_path) == []


def test_a_run_that_is_writing_keeps_others_out(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = inputs(tmp_path, 0)
    paths = [str(tmp_path / name) for name in OUTPUTS]
    for path in paths:
        with Replacement(path):
            assert cli.main(flags) == 2
        line = f"caffe-merge: error: {path}: another run is writing this output\n"
        assert capsys.readouterr().err == line
        assert contents(tmp_path) == (None, None)
        assert others(tmp_path) == []
    assert cli.main(flags) == 0


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("SIGTERM", "signal.SIG_DFL"),
        ("SIGINT", "signal.default_int_handler"),
        ("SIGHUP", "signal.SIG_DFL"),
    ],
)
def test_a_signal_leaves_nothing_behind(name: str, action: str, tmp_path: Path) -> None:
    flags = inputs(tmp_path, 1)
    before = sorted(tmp_path.iterdir())
    for call in ("fsync", "mkdir"):
        script = f"""
import os, signal, sys
signal.signal(signal.{name}, {action})  # whoever runs the tests may ignore it, as nohup does
from caffe_merge.command import cli
real = os.{call}
def interrupted(*args):
    os.{call} = real
    os.kill(os.getpid(), signal.{name})
    return real(*args)
os.{call} = interrupted
sys.exit(cli.main(ours=True))
"""
        command = [sys.executable, "-c", script, *flags]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (130, "caffe-merge: error: interrupted\n")
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
def test_a_command_under_nohup_goes_on(tmp_path: Path) -> None:
    script = "import os, signal, sys\nfrom caffe_merge.command import cli\n"
    script += "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    script += "real, os.mkdir = os.mkdir, lambda *a: (os.kill(os.getpid(), 1), real(*a))\n"
    script += "sys.exit(cli.main(ours=True))"
    command = [sys.executable, "-c", script, *inputs(tmp_path, 1)]
    assert subprocess.run(command, timeout=60).returncode == 0
    assert None not in contents(tmp_path)

"""SIGKILL at any moment, and two runs at once: never a prototxt beside weights of another pair."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from caffe_merge import files
from caffe_merge.command import cli
from caffe_merge.errors import FileError
from caffe_merge.files import Replacement
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
for name in ("open", "fdopen", "fsync", "replace", "unlink"):
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


def found(folder: Path) -> Tuple[Any, Any]:
    """The contents of the two outputs, None where one is not there."""
    paths = [folder / name for name in OUTPUTS]
    one, two = (path.read_bytes() if path.exists() else None for path in paths)
    return one, two


def others(folder: Path) -> List[str]:
    """What lies beside inputs and outputs."""
    return [n for n in sorted(os.listdir(folder)) if not n.startswith("in") and n not in OUTPUTS]


@pytest.fixture
def merged(tmp_path: Path) -> Dict[int, Pair]:
    """The pairs that the two nets merge to; none of them is there."""
    pairs: Dict[int, Pair] = {}
    for which in (0, 1):
        assert cli.main([*inputs(tmp_path, which), "--force"]) == 0
        pairs[which] = found(tmp_path)
    assert pairs[0][0] != pairs[1][0]
    assert pairs[0][1] != pairs[1][1]
    assert others(tmp_path) == []
    clear(tmp_path)
    return pairs


def clear(folder: Path) -> None:
    """Remove the outputs and what was left beside them."""
    for name in (*OUTPUTS, *others(folder)):
        if os.path.lexists(folder / name):
            os.unlink(folder / name)


def judge(folder: Path, merged: Dict[int, Pair], was_there: bool) -> None:
    """After a run for net 1 was killed: what is there is a pair, and the next run succeeds."""
    left = found(folder)
    if left[0] is not None:
        assert left in (merged.values() if was_there else [merged[1]])
    # --force only where the pair that is there is a whole one.
    force = ["--force"] if left[0] is not None else []
    assert cli.main([*inputs(folder, 1), *force]) == 0
    assert found(folder) == merged[1]
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
        assert found(tmp_path) in merged.values()
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
        assert found(tmp_path) == (None, None)
        assert others(tmp_path) == []
    assert cli.main(flags) == 0


def write(folder: Path, *contents: bytes) -> None:
    """Put a and b in place with these contents."""
    with Replacement(str(folder / "a"), str(folder / "b")) as pair:
        for handle, content in zip(pair.handles, contents):
            handle.write(content)
        pair.commit()


def contents(folder: Path) -> Dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_its_owner_renamed_meanwhile_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our opening of a .part and our lock on it, another run may put it in place."""
    fcntl = pytest.importorskip("fcntl")
    real, renamed = fcntl.flock, []

    def flock(handle: Any, how: int) -> None:
        if not renamed:
            renamed.append(os.replace(tmp_path / ".a.part", tmp_path / "a"))
            (tmp_path / "a").write_bytes(b"theirs")
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Replacement(str(tmp_path / "a")) as pair:
        pair.handles[0].write(b"ours")
        pair.flush()
        assert contents(tmp_path) == {"a": b"theirs", ".a.part": b"ours"}
    assert contents(tmp_path) == {"a": b"theirs"}


def test_left_overs_are_written_over_and_cleaned_up(tmp_path: Path) -> None:
    for name in (".a.part", ".b.part", ".a.old", ".b.old"):
        (tmp_path / name).write_bytes(b"a longer text of long ago")
    write(tmp_path, b"1", b"2")
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}
    write(tmp_path, b"3", b"4")
    assert contents(tmp_path) == {"a": b"3", "b": b"4"}


def test_without_commit_nothing_changes(tmp_path: Path) -> None:
    write(tmp_path, b"1", b"2")
    with Replacement(str(tmp_path / "a"), str(tmp_path / "c")) as pair:
        pair.handles[0].write(b"x")
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}
    with pytest.raises(KeyboardInterrupt), Replacement(str(tmp_path / "a")) as pair:
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_without_locks_files_are_closed_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no fcntl and renames no open file."""
    monkeypatch.setattr(files, "fcntl", None)
    real, handles = os.replace, []

    def replace(source: str, target: str) -> None:
        assert all(handle.closed for handle in handles)
        if fail and source.endswith(".b.part"):
            raise OSError(5, "no")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for fail in (False, True):
        try:
            with Replacement(str(tmp_path / "a"), str(tmp_path / "b")) as pair:
                handles = pair.handles
                pair.handles[0].write(b"no" if fail else b"1")
                pair.commit()
        except FileError:
            assert fail
        assert contents(tmp_path) == {"a": b"1", "b": b""}


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    script = "import os, signal, sys\nfrom caffe_merge.command import cli\n"
    script += (
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGTERM)\nsys.exit(cli.main(ours=True))"
    )
    flags = inputs(tmp_path, 1)
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", script, *flags]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "caffe-merge: error: interrupted\n")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_written_is_stored_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: List[Tuple[int, int]] = []
    monkeypatch.setattr(files, "_STORED_AT_ONCE", 100)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, at, size, advice: told.append((at, size)), raising=False
    )
    pieces = [bytes([number]) * 20_000 for number in range(3)]
    write(tmp_path, pieces[0], b"small")
    with Replacement(str(tmp_path / "c")) as one:
        for piece in pieces:
            one.handles[0].write(piece)
        one.commit()
    assert told == [(0, 20_000), (0, 20_000), (20_000, 20_000), (40_000, 20_000)]
    assert contents(tmp_path) == {"a": pieces[0], "b": b"small", "c": b"".join(pieces)}

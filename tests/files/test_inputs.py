"""Inputs that are no files, and files that change while they are read."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

from caffe_merge import load, save
from caffe_merge.command import cli
from caffe_merge.errors import FileError
from caffe_merge.files.identity import Unchanged
from caffe_merge.formats.weights import formats
from caffe_merge.merging import convert, planning
from tests.nets import write_pair
from tests.test_bad_input import BLOBS, TEXT

Pair = Tuple[Path, Path]
CAFFE_MERGE = [sys.executable, "-m", "caffe_merge"]
COMMANDS = {
    "merge": ["--model", "--weights", "--proto", "--mean", "--input"],
    "plan": ["--model", "--weights", "--proto", "--mean"],
    "validate": ["--model", "--weights", "--output-model", "--mean", "--input"],
    "inspect": ["--model", "--weights", "--proto"],
}


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_pair(tmp_path, TEXT, BLOBS)


def _flags(pair: Pair) -> List[str]:
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize(("command", "flag"), [(c, f) for c in COMMANDS for f in COMMANDS[c]])
def test_pipes_are_refused_at_once(
    command: str, flag: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody writes to it: who opened it would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    named = f"x={pipe}" if flag in ("--mean", "--input") else str(pipe)
    outputs = ["--output-model", str(pair[0]), "--output-weights", str(pair[1])]
    more = outputs if command == "validate" else []
    before = sorted(tmp_path.iterdir())
    assert cli.main([command, *_flags(pair), *more, flag, named]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{pipe}: expected a file, found a pipe; save it as a file first" in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="no /dev/fd")
def test_what_the_shell_gives_in_a_files_place(pair: Pair, tmp_path: Path) -> None:
    """A process's output, and its stdin from a pipe and from a file, for either input."""
    before = sorted(tmp_path.iterdir())
    for script, kind in (
        ('exec 3< <(cat "$1"); "${@:3}" --model /dev/fd/3 --weights "$2"', "a pipe"),
        ('exec 3< <(cat "$2"); "${@:3}" --model "$1" --weights /dev/fd/3', "a pipe"),
        ('cat "$1" | "${@:3}" --model /dev/stdin --weights "$2"', "a pipe"),
        ('"${@:3}" --model /dev/stdin --weights "$2" < "$1"', "an open file of this process"),
        ('"${@:3}" --model /dev/null --weights "$2"', "a device or the like"),
    ):
        command = ["bash", "-c", script, "bash", *map(str, pair), *CAFFE_MERGE, "merge"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert f"expected a file, found {kind}; save it as a file first" in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def truncated(path: Path) -> None:
    """What another program may do to a file at any time."""
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def written(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.seek(-8, os.SEEK_END)
        handle.write(b"\0\0\0\0")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1000))


def grown(path: Path) -> None:
    with open(path, "ab") as handle:
        handle.write(b"\n")


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    os.replace(other, path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [truncated, emptied, written, grown, replaced, removed])
@pytest.mark.parametrize("moment", ["loaded", "merge", "write", "_judged"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_changes_meanwhile(
    change: Callable[[Path], None],
    moment: str,
    which: int,
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before and after any step: one line, and nothing is left."""
    module = planning if moment in ("loaded", "merge") else convert
    real = getattr(module, moment)

    def step(*args: Any, **flags: Any) -> Any:
        result = real(*args, **flags) if moment == "loaded" else None
        change(pair[which])
        return result if moment == "loaded" else real(*args, **flags)

    monkeypatch.setattr(module, moment, step)
    assert cli.main(["merge", *_flags(pair)]) == 2
    out, err = capsys.readouterr()
    line = f"{pair[which]}: the file changed while it was read; run the command anew"
    assert (out, err) == ("", f"caffe-merge: error: {line}\n")
    assert {path.name for path in tmp_path.iterdir()} <= {path.name for path in pair}


@pytest.mark.parametrize("change", [truncated, emptied, written, grown])
def test_weights_that_change_between_load_and_save(
    change: Callable[[Path], None], pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were not read yet are another net's."""
    monkeypatch.setattr(formats, "_LARGE", 0)
    net = load(str(pair[0]), str(pair[1]))
    change(pair[1])
    with pytest.raises(FileError, match="changed while it was read"):
        save(net, str(tmp_path / "p"), str(tmp_path / "w"))
    assert sorted(tmp_path.iterdir()) == sorted(pair)


def test_large_weights_cut_off_are_an_error_and_no_bus_error(tmp_path: Path) -> None:
    """They are many pages, so none that was mapped would still be there."""
    script = """
import os, sys
from caffe_merge.command import cli
from caffe_merge.merging import planning
real, path = planning.merge, sys.argv[-1]
def merge(*args, **flags):
    os.truncate(path, 5000)
    return real(*args, **flags)
planning.merge = merge
sys.exit(cli.main(ours=True))
"""
    blobs = dict(BLOBS, fc=[np.ones((4000, 256)), np.ones(4000)])
    pair = write_pair(tmp_path, TEXT.replace("num_output: 5", "num_output: 4000"), blobs)
    command = [sys.executable, "-c", script, "merge", *_flags(pair)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith(
        "caffemodel: the file changed while it was read; run the command anew\n"
    )
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == sorted(pair)


def test_unchanged_files_are_no_error(pair: Pair) -> None:
    with Unchanged(map(str, pair)) as inputs:
        pair[0].read_bytes()
        inputs.check()
    with pytest.raises(KeyError), Unchanged(map(str, pair)):
        raise KeyError

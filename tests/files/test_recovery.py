"""All of a run's files in place or none, whatever it is stopped by, and wherever."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from caffe_merge.errors import FileError
from caffe_merge.files import recovery
from caffe_merge.files.outputs import check_outputs
from caffe_merge.files.replacement import Replacement
from tests.files.support import (
    NEW,
    OLD,
    Files,
    contents,
    every_call,
    fill,
    stopped_at,
    visible,
    write,
)  # fmt: skip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("old", [{}, OLD, {"a": b"old a"}, {"b": b"old b"}])
def test_killed_at_every_call(old: Files, tmp_path: Path) -> None:
    """Never the one beside the other's old one, and the next run puts it right."""
    paths = [str(tmp_path / name) for name in NEW]
    states = set()
    for ended in every_call(
        signal.SIGKILL, lambda: write(tmp_path, NEW), lambda: fill(tmp_path, old)
    ):
        assert ended == -signal.SIGKILL
        actual = visible(tmp_path)
        if "b" in actual:  # which comes last
            assert actual in (old, NEW)
        with contextlib.suppress(Exception):
            check_outputs((), paths)
        assert contents(tmp_path) in (old, NEW)
        states.add("new" if contents(tmp_path) == NEW else "old")
    assert contents(tmp_path) == NEW
    assert states == {"old", "new"}


@pytest.mark.parametrize("shared", ["a", "b"])
def test_a_run_on_one_of_the_targets_puts_both_right(shared: str, tmp_path: Path) -> None:
    def killed() -> None:
        write(tmp_path, NEW)

    for _ in every_call(signal.SIGKILL, killed, lambda: fill(tmp_path, OLD)):
        recovery.put_right(str(tmp_path / shared))
        assert visible(tmp_path) in (OLD, NEW)
        write(tmp_path, NEW)
        assert contents(tmp_path) == NEW


def test_killed_while_it_puts_right(tmp_path: Path) -> None:
    """The one who puts right may be killed too, at every call."""

    def left_by_a_kill() -> None:
        fill(tmp_path, OLD)
        real = os.replace
        calls: List[Tuple[str, str]] = []

        def replace(source: str, target: str) -> None:
            calls.append((source, target))
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        def run() -> None:
            os.replace = replace  # type: ignore[assignment]
            write(tmp_path, NEW)

        assert stopped_at(0, signal.SIGKILL, run) == -signal.SIGKILL
        assert visible(tmp_path) == {"a": NEW["a"]}

    def put_right() -> None:
        recovery.put_right(str(tmp_path / "a"))

    for _ in every_call(signal.SIGKILL, put_right, left_by_a_kill):
        assert visible(tmp_path) in ({}, {"a": OLD["a"]}, {"a": NEW["a"]}, OLD)
        put_right()
        recovery.put_right(str(tmp_path / "b"))
        assert contents(tmp_path) == OLD
    assert contents(tmp_path) == OLD


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("old", [{}, OLD])
def test_interrupted_at_every_call(by: int, old: Files, tmp_path: Path) -> None:
    """Nothing is left over, and it is both or neither."""
    states = set()
    for ended in every_call(by, lambda: write(tmp_path, NEW), lambda: fill(tmp_path, old)):
        assert ended == 130
        assert contents(tmp_path) in (old, NEW)
        states.add("new" if contents(tmp_path) == NEW else "old")
    assert states == {"old", "new"}


def test_without_a_handler_a_signal_waits_too(tmp_path: Path) -> None:
    def run() -> None:
        for signal_number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, signal.SIG_DFL)
        write(tmp_path, NEW)

    for ended in every_call(signal.SIGTERM, run, lambda: fill(tmp_path, OLD)):
        assert ended == -signal.SIGTERM
        if "b" in visible(tmp_path):
            assert visible(tmp_path) in (OLD, NEW)
        recovery.put_right(str(tmp_path / "a"))
        recovery.put_right(str(tmp_path / "b"))
        assert contents(tmp_path) in (OLD, NEW)


@pytest.mark.parametrize("call", ["replace", "fsync", "unlink", "mkdir", "fchmod"])
def test_a_call_that_fails_leaves_both_or_neither(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)
    for number in range(1, 50):
        fill(tmp_path, OLD)
        count = [number]

        def failing(*args: Any, **flags: Any) -> Any:
            count[0] -= 1  # noqa: B023 - of this turn
            if not count[0]:  # noqa: B023
                raise OSError(28, "No space left on device")
            return real(*args, **flags)

        monkeypatch.setattr(os, call, failing)
        with contextlib.suppress(FileError):
            write(tmp_path, NEW)
        monkeypatch.setattr(os, call, real)
        assert visible(tmp_path) in (OLD, NEW)
        if count[0] > 0:
            return
    raise AssertionError("it never ended")


def test_a_record_that_is_not_whole(tmp_path: Path) -> None:
    """Whatever of it was written before the kill: nothing was renamed yet."""
    fill(tmp_path, OLD)
    run = Replacement(str(tmp_path / "a"), str(tmp_path / "b"))
    with run:
        run._rename = lambda: None  # type: ignore[method-assign]
        run._leave = lambda: None  # type: ignore[method-assign]
        run.commit()
        places, folders = run._places, [Path(place.path) for place in run._places]
        whole = [(folder / "record").read_bytes() for folder in folders]
        for opened in (*places, *run.handles):
            opened.close()  # type: ignore[attr-defined]
    assert visible(tmp_path) == OLD
    for length in range(0, len(whole[0]) + 1, 7):
        for folder, record in zip(folders, whole):
            folder.mkdir(exist_ok=True)
            (folder / "record").write_bytes(record[:length])
        if length > 100:
            (folders[0] / "new").write_bytes(b"half of it")
        write(tmp_path, {"a": b"1", "b": b"2"})
        assert contents(tmp_path) == {"a": b"1", "b": b"2"}

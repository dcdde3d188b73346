"""All of a run's files in place or none, whatever it is stopped by, and wherever."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from caffe_merge.errors import FileError
from caffe_merge.files import Replacement, check_outputs, recovery, workplace, writing
from caffe_merge.files.workplace import Workplace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
CALLS = ("open", "mkdir", "rmdir", "fsync", "replace", "unlink", "fchmod", "fchown", "lstat")
Files = Dict[str, bytes]
OLD: Files = {"a": b"old a", "b": b"old b"}
NEW: Files = {"a": b"the new a", "b": b"the new b"}


def write(folder: Path, content: Files) -> None:
    """Put files in place as a run does."""
    with Replacement(*(str(folder / name) for name in content)) as run:
        for handle, data in zip(run.handles, content.values()):
            handle.write(data)
        run.commit()


def contents(folder: Path) -> Files:
    """The files of a folder; what lies in a folder below counts as its name."""
    return {p.name: b"folder" if p.is_dir() else p.read_bytes() for p in folder.iterdir()}


def visible(folder: Path) -> Files:
    """The files of a folder that are no workplace."""
    return {name: data for name, data in contents(folder).items() if name in NEW}


def fill(folder: Path, content: Files) -> None:
    """Make the folder hold just these files."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in content.items():
        (folder / name).write_bytes(data)


def stopped_at(number: int, by: int, run: Callable[[], None]) -> Optional[int]:
    """Do ``run`` in a child that gets a signal in front of its call ``number``; how it ended.

    None if it ended by itself with success.
    """
    child = os.fork()
    if child == 0:
        status = 3
        try:
            _count_calls(number, by)
            run()
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        return -os.WTERMSIG(ended)
    return os.WEXITSTATUS(ended) or None


def _count_calls(number: int, by: int) -> None:
    left = [number]

    def counted(real: Any) -> Any:
        def call(*args: Any, **flags: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), by)
            return real(*args, **flags)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    Workplace._append = counted(Workplace._append)  # type: ignore[method-assign]
    workplace._locked = counted(workplace._locked)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, interrupted)


def every_call(by: int, run: Callable[[], None], before: Callable[[], None]) -> Iterator[int]:
    """Stop a run in front of each of its calls; yields how it ended, each time."""
    for number in range(1, 1000):
        before()
        ended = stopped_at(number, by, run)
        if ended is None:
            assert number > 20  # there was something to stop
            return
        yield ended


@pytest.mark.parametrize("old", [{}, OLD, {"a": b"old a"}, {"b": b"old b"}])
def test_killed_at_every_call(old: Files, tmp_path: Path) -> None:
    """Never the one beside the other's old one, and the next run puts it right."""
    paths = [str(tmp_path / name) for name in NEW]
    states = set()
    for ended in every_call(
        signal.SIGKILL, lambda: write(tmp_path, NEW), lambda: fill(tmp_path, old)
    ):
        assert ended == -signal.SIGKILL
        found = visible(tmp_path)
        if "b" in found:  # which comes last
            assert found in (old, NEW)
        with contextlib.suppress(Exception):
            check_outputs((), paths, True)
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
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
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
            opened.close()
    assert visible(tmp_path) == OLD
    for length in range(0, len(whole[0]) + 1, 7):
        for folder, record in zip(folders, whole):
            folder.mkdir(exist_ok=True)
            (folder / "record").write_bytes(record[:length])
        if length > 100:
            (folders[0] / "new").write_bytes(b"half of it")
        write(tmp_path, {"a": b"1", "b": b"2"})
        assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_files_of_others_under_our_names_are_left_alone(tmp_path: Path) -> None:
    """Links, folders and files that stand where a workplace would: the next name is taken."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    out = tmp_path / "out"
    out.mkdir()
    names = [Path(path) for path, _ in zip(workplace._paths(str(out / "a")), range(6))]
    names[0].symlink_to(mine)
    names[1].write_bytes(b"mine too")
    names[2].mkdir()
    (names[2] / "new").symlink_to(mine)
    names[3].mkdir()
    (names[3] / "record").symlink_to(mine)
    names[4].mkdir()
    (names[4] / "record").write_bytes(b"a record of something else\n")
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    (out / "a").write_bytes(b"0")
    write(out, {"a": b"1"})
    assert (out / "a").read_bytes() == b"1"
    (out / "a").unlink()
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before
    assert mine.read_bytes() == b"mine"
    assert names[1].read_bytes() == b"mine too"
    assert not names[5].exists()


def test_two_names_of_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace.zlib, "crc32", lambda data: data[-1])
    write(tmp_path, NEW)
    assert contents(tmp_path) == NEW


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    fill(tmp_path, OLD)

    def write_meanwhile(name: str) -> None:
        with Replacement(str(tmp_path / "a"), str(tmp_path / "c")) as run:
            (tmp_path / name).write_bytes(b"of another program")
            run.commit()

    for name in ("a", "c"):
        with pytest.raises(FileError, match=f"{name}: another program changed this file"):
            write_meanwhile(name)
        assert (tmp_path / name).read_bytes() == b"of another program"
        assert set(contents(tmp_path)) <= {"a", "b", "c"}


def test_what_a_killed_run_kept_never_replaces_a_file_that_came_since(tmp_path: Path) -> None:
    fill(tmp_path, OLD)

    def run() -> None:
        def killed(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        real = os.replace

        def replace(source: str, target: str) -> None:
            real(source, target)
            if target.endswith("old") and "b" in os.path.basename(source):
                killed()

        os.replace = replace  # type: ignore[assignment]
        write(tmp_path, NEW)

    assert stopped_at(0, signal.SIGKILL, run) == -signal.SIGKILL
    assert visible(tmp_path) == {"a": OLD["a"]}
    (tmp_path / "b").write_bytes(b"of another program")
    for _ in range(2):
        with pytest.raises(FileError, match="move one of the two away") as told:
            write(tmp_path, NEW)
        assert visible(tmp_path) == {"a": OLD["a"], "b": b"of another program"}
    kept = Path(str(told.value).split(" as ")[1].split(";")[0])
    assert kept.read_bytes() == OLD["b"]
    (tmp_path / "b").unlink()
    write(tmp_path, NEW)
    assert contents(tmp_path) == NEW


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_mode_and_owner_are_kept(mode: int, tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    (tmp_path / "a").chmod(mode)
    if os.geteuid() == 0:
        os.chown(tmp_path / "a", 1234, 4321)
    was = (tmp_path / "a").stat()
    write(tmp_path, NEW)
    now = (tmp_path / "a").stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)
    assert (tmp_path / "a").read_bytes() == NEW["a"]


def test_a_group_that_cannot_be_kept_gives_its_rights_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a file of another group")
    fill(tmp_path, OLD)
    (tmp_path / "a").chmod(0o664)
    os.chown(tmp_path / "a", -1, 4321)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    write(tmp_path, NEW)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path, NEW)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_the_longest_names(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    names = ["m" * longest, "n" * longest, "x"]
    for data in (b"1", b"2"):
        write(tmp_path, dict.fromkeys(names, data))
        assert contents(tmp_path) == dict.fromkeys(names, data)


def test_a_link_is_replaced_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "a").symlink_to("target")
    write(tmp_path, {"a": b"1"})
    assert contents(tmp_path) == {"a": b"1", "target": b"mine"}
    assert not (tmp_path / "a").is_symlink()


def test_without_commit_nothing_changes(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    with Replacement(str(tmp_path / "a"), str(tmp_path / "c")) as run:
        run.handles[0].write(b"x")
    assert contents(tmp_path) == OLD
    with pytest.raises(KeyboardInterrupt), Replacement(str(tmp_path / "a")):
        raise KeyboardInterrupt
    assert contents(tmp_path) == OLD


def test_without_locks_files_are_closed_before_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no fcntl and renames and removes no open file."""
    monkeypatch.setattr(workplace, "fcntl", None)
    monkeypatch.setattr(writing, "fcntl", None)
    fill(tmp_path, OLD)
    real, handles = os.replace, []

    def replace(source: str, target: str) -> None:
        assert all(handle.closed for handle in handles)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with Replacement(*(str(tmp_path / name) for name in NEW)) as run:
        handles = list(run.handles)
        for handle, data in zip(run.handles, NEW.values()):
            handle.write(data)
        run.commit()
    assert contents(tmp_path) == NEW


@pytest.mark.skipif(sys.platform == "win32", reason="of posix_fadvise")
def test_what_is_written_is_stored_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: List[Tuple[int, int]] = []
    monkeypatch.setattr(writing, "_STORED_AT_ONCE", 100)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, at, size, advice: told.append((at, size)), raising=False
    )
    pieces = [bytes([number]) * 20_000 for number in range(3)]
    write(tmp_path, {"a": pieces[0], "b": b"small"})
    with Replacement(str(tmp_path / "c")) as run:
        for piece in pieces:
            run.handles[0].write(piece)
        run.commit()
    assert told == [(0, 20_000), (0, 20_000), (20_000, 20_000), (40_000, 20_000)]
    assert contents(tmp_path) == {"a": pieces[0], "b": b"small", "c": b"".join(pieces)}

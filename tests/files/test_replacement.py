"""Whose names are taken and whose files are replaced; the mode, owner and names of outputs."""

import os
import signal
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from caffe_merge.errors import FileError
from caffe_merge.files import workplace, writing
from caffe_merge.files.replacement import Replacement
from tests.files.support import NEW, OLD, contents, fill, stopped_at, visible, write

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


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


def test_a_file_that_another_program_put_into_a_workplace(tmp_path: Path) -> None:
    """What a killed run left is put right all the same, and that file stays."""
    fill(tmp_path, OLD)
    ended = stopped_at(45, signal.SIGKILL, lambda: write(tmp_path, NEW))
    assert ended == -signal.SIGKILL
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    for folder in folders:
        (folder / ".DS_Store").write_bytes(b"")
    write(tmp_path, NEW)
    assert visible(tmp_path) == NEW
    assert [list(folder.iterdir()) for folder in folders] == [
        [folder / ".DS_Store"] for folder in folders
    ]


def test_two_names_of_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace.zlib, "crc32", lambda data: data[-1])  # type: ignore[attr-defined]
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
        with pytest.raises(FileError, match="move one of the two away") as message:
            write(tmp_path, NEW)
        assert visible(tmp_path) == {"a": OLD["a"], "b": b"of another program"}
    kept = Path(str(message.value).split(" as ")[1].split(";")[0])
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
    real = os.replace
    handles: List[Any] = []

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
    message: List[Tuple[int, int]] = []
    monkeypatch.setattr(writing, "_STORED_AT_ONCE", 100)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, at, size, advice: message.append((at, size)), raising=False
    )
    pieces = [bytes([number]) * 20_000 for number in range(3)]
    write(tmp_path, {"a": pieces[0], "b": b"small"})
    with Replacement(str(tmp_path / "c")) as run:
        for piece in pieces:
            run.handles[0].write(piece)
        run.commit()
    assert message == [(0, 20_000), (0, 20_000), (20_000, 20_000), (40_000, 20_000)]
    assert contents(tmp_path) == {"a": pieces[0], "b": b"small", "c": b"".join(pieces)}

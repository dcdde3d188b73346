"""Folders for a while: gone at the end, and by the next run where the process was killed."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from caffe_merge.files import temporary
from caffe_merge.files.temporary import temporary_folder

pytestmark = pytest.mark.skipif(temporary.fcntl is None, reason="not on this system")  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files of our own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(folder: Path) -> Path:
    """What a run leaves that is killed while it has a temporary folder."""
    child = os.fork()
    if child == 0:
        with temporary_folder() as temporary:
            Path(temporary, "big").write_bytes(b"big")
            Path(temporary, "sub").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = folder.glob("caffe_merge_*")
    return left


def test_it_is_there_as_long_as_the_with_lasts(folder: Path) -> None:
    with temporary_folder() as temporary:
        Path(temporary, "x").write_bytes(b"x")
        assert Path(temporary).parent == folder
        assert Path(temporary).stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(folder: Path) -> None:
    left = killed(folder)
    assert sorted(path.name for path in left.iterdir()) == [".owner", "big", "sub"]
    with temporary_folder() as temporary:
        assert list(folder.iterdir()) == [Path(temporary)]
    assert list(folder.iterdir()) == []


def test_that_of_a_live_run_stays(folder: Path) -> None:
    with temporary_folder() as first:
        Path(first, "x").write_bytes(b"x")
        with temporary_folder() as two:
            assert sorted(folder.iterdir()) == sorted([Path(first), Path(two)])
        assert Path(first, "x").read_bytes() == b"x"


def test_what_is_not_ours_stays(folder: Path) -> None:
    mine = folder / "mine"
    mine.mkdir()
    (mine / ".owner").write_bytes(b"")
    (folder / "caffe_merge_link").symlink_to(mine)
    (folder / "caffe_merge_file").write_bytes(b"a file")
    (folder / "caffe_merge_without_owner").mkdir()
    (folder / "caffe_merge_linked_owner").mkdir()
    (folder / "caffe_merge_linked_owner" / ".owner").symlink_to(mine / ".owner")
    before = sorted(folder.rglob("*"))
    with temporary_folder():
        pass
    assert sorted(folder.rglob("*")) == before

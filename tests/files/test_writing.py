"""Writing behind: in another thread, in order, whole, with errors raised here; room set aside."""

import errno
import io
import sys
import threading
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from caffe_merge.files import writing
from caffe_merge.files.writing import Behind, room


class Sink(io.BytesIO):
    """A file that notes who writes to it, and fails once it holds ``room`` bytes."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.room = room
        self.threads: List[threading.Thread] = []

    def write(self, data: Any) -> int:
        self.threads.append(threading.current_thread())
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes are many here."""
    monkeypatch.setattr(writing, "_HANDED_OVER", 100)


def test_pieces_of_all_sizes_arrive_in_order() -> None:
    pieces = [bytes([n % 251]) * (n * 37 % 160) for n in range(300)]
    array = np.arange(50, dtype="<f4")
    sink = Sink()
    with Behind(sink) as behind:
        for piece in pieces:
            behind.write(piece)
        behind.write(memoryview(b"view"))
        behind.write(array.data.cast("B"))
    assert sink.getvalue() == b"".join(pieces) + b"view" + array.tobytes()
    assert threading.current_thread() not in sink.threads


def test_nothing_at_all() -> None:
    sink = Sink()
    with Behind(sink):
        pass
    assert sink.getvalue() == b""


def test_what_fails_is_raised_by_a_later_write() -> None:
    written = 0

    def write() -> None:
        nonlocal written
        with Behind(Sink(room=500)) as behind:
            for written in range(100_000):  # noqa: B007 - it is counted
                behind.write(b"x" * 40)

    with pytest.raises(OSError, match="No space left"):
        write()
    assert 500 // 40 < written < 99_999


def test_what_fails_last_is_raised_at_the_end() -> None:
    with pytest.raises(OSError, match="No space left"), Behind(Sink(room=10)) as behind:
        behind.write(b"x" * 40)


def test_an_error_of_the_caller_comes_first() -> None:
    sink = Sink(room=10)

    def write() -> None:
        with Behind(sink) as behind:
            behind.write(b"x" * 40)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write()
    assert not any(thread.is_alive() for thread in sink.threads)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux")
def test_room_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []
    real = writing.fcntl.ioctl  # type: ignore[attr-defined]

    def noted(*arguments: Any) -> Any:
        try:
            return real(*arguments)
        except OSError as error:
            refused.append(error.errno)
            raise

    monkeypatch.setattr(writing.fcntl, "ioctl", noted)  # type: ignore[attr-defined]
    path = tmp_path / "it"
    with open(path, "w+b") as handle, room(handle, 16 << 20):
        if refused == [errno.EOPNOTSUPP]:
            pytest.skip("this file system cannot")
        assert path.stat().st_blocks * 512 >= 16 << 20
        assert path.stat().st_size == 0


@pytest.mark.parametrize("size", [0, 1, 16 << 20])
def test_room_that_was_set_aside_is_given_back(size: int, tmp_path: Path) -> None:
    """The file is as long as what was written, and takes no more of the disk."""
    path = tmp_path / "it"
    with open(path, "w+b") as handle, room(handle, size):
        handle.write(b"x" * 10_000)
        handle.flush()
        assert path.stat().st_size == 10_000
    actual = path.stat()
    assert actual.st_size == 10_000
    assert getattr(actual, "st_blocks", 0) * 512 < 1 << 20


def test_more_may_be_written_than_was_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_STORED_AT_ONCE", 1)
    with open(tmp_path / "it", "w+b") as handle, room(handle, 4096):
        handle.write(b"x" * 100_000)
    assert (tmp_path / "it").stat().st_size == 100_000


@pytest.mark.skipif(writing.fcntl is None, reason="not on this system")  # type: ignore[attr-defined]
def test_a_file_system_that_sets_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*arguments: Any) -> None:
        asked.append(arguments)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(writing.fcntl, "ioctl", refuse)  # type: ignore[attr-defined]
    with open(tmp_path / "it", "w+b") as handle, room(handle, 16 << 20):
        handle.write(b"x")
    assert len(asked) == 1
    assert (tmp_path / "it").read_bytes() == b"x"

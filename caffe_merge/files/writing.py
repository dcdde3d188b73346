"""Writing large files: stored early, from a second thread, into room that was set aside."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from queue import Queue
from threading import Thread
from typing import Any, BinaryIO, Iterator, List, Optional

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_STORED_AT_ONCE = 8 << 20  # bytes
# Linux's FS_IOC_RESVSP, which takes a struct space_resv and leaves the file's size as it is. Where
# ioctl's numbers are made in another way (MIPS, PowerPC) nothing has this one.
_RESERVE = 0x40305828
_HANDED_OVER = 1 << 20  # bytes
_AHEAD = 4  # so many times that may wait to be written


def created(path: str) -> BinaryIO:
    """A file of a name that nothing had, open for writing and reading."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return io.BufferedRandom(_StoredEarly(os.open(path, flags, 0o666), "r+"))


class _StoredEarly(io.FileIO):
    """A file that is stored while it is written, so that ``fsync`` has little to wait for."""

    _unstored = 0

    def write(self, data: Any) -> int:
        """Write as ``FileIO`` does, and now and then have what was written stored."""
        count = super().write(data)
        self._unstored += count
        if self._unstored >= _STORED_AT_ONCE and hasattr(os, "posix_fadvise"):
            # Linux starts to store what is said not to be needed; what is not stored yet stays.
            start = self.tell() - self._unstored
            os.posix_fadvise(self.fileno(), start, self._unstored, os.POSIX_FADV_DONTNEED)
            self._unstored = 0
        return count


@contextlib.contextmanager
def room(handle: BinaryIO, size: int) -> Iterator[None]:
    """Have the system set ``size`` bytes of disk aside for what is written to an empty file.

    It then need not look for room with each write. What was not needed is given back.
    """
    if fcntl is not None and size >= _STORED_AT_ONCE:
        # os.posix_fallocate would write the bytes where a file system cannot set them aside.
        request = struct.pack("hhqqiI4i", 0, os.SEEK_SET, 0, size, *[0] * 6)
        with contextlib.suppress(OSError):  # another system, or no room: that is seen later
            fcntl.ioctl(handle.fileno(), _RESERVE, request)
    yield
    handle.truncate()


class Behind:
    """Writes to a file in another thread, in order, so that what is next is made meanwhile.

    Pieces are handed over many at a time: to wake a thread takes as long as to write 100 kB. Data
    may not change after it was given to ``write``. What fails is raised by a later ``write``, or
    at the end of the ``with``.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._pieces: List[Any] = []
        self._size = 0
        self._error: Optional[BaseException] = None
        self._queue: Queue[Any] = Queue(_AHEAD)
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def write(self, data: Any) -> None:
        """Have ``data`` written."""
        if self._error is not None:
            raise self._error
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _HANDED_OVER:
            self._hand_over()

    def _hand_over(self) -> None:
        self._queue.put(self._pieces)
        self._pieces, self._size = [], 0

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._hand_over()
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        for pieces in iter(self._queue.get, None):
            if self._error is None:
                try:
                    for piece in pieces:
                        self._handle.write(piece)
                except BaseException as error:  # for the other thread to raise
                    self._error = error


def sync_folder(folder: str) -> None:
    """Make the renames durable, where the system lets a folder be synced."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)

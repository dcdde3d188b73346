"""Opening files that may be anything, and putting a pair of files in place both or neither."""

import contextlib
import io
import os
import struct
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any, BinaryIO, Iterator, List, Optional, Tuple, Type

from caffe_merge.errors import FileError, TextError, UsageError, WeightsError

try:
    import fcntl
except ImportError:  # not on Windows: two runs on one output are not told apart there
    fcntl = None  # type: ignore[assignment]

MAX_TEXT = 32 << 20
_SNIFFED = 512
_STORED_AT_ONCE = 8 << 20  # bytes
# Linux's FS_IOC_RESVSP, which takes a struct space_resv and leaves the file's size as it is. Where
# ioctl's numbers are made in another way (MIPS, PowerPC) nothing has this one.
_RESERVE = 0x40305828
_HANDED_OVER = 1 << 20  # bytes
_AHEAD = 4  # so many times that may wait to be written


def read_text(path: str) -> bytes:
    """The bytes of a prototxt; an error where the file is missing or plainly something else."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(_SNIFFED)
            _reject_text(path, head)
            data = head + handle.read(MAX_TEXT)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_TEXT:
        raise TextError(path, 1, 1, f"expected a prototxt of at most {MAX_TEXT >> 20} MB")
    return data


def check_inputs(prototxt: str, caffemodel: str) -> None:
    """Raise where an input is missing or plainly something else, by its first bytes."""
    try:
        with open(prototxt, "rb") as handle:
            _reject_text(prototxt, handle.read(_SNIFFED))
    except OSError as error:
        raise FileError(f"{prototxt}: {error.strerror or error}") from None
    reject_weights(caffemodel)


def _reject_text(path: str, head: bytes) -> None:
    kind = _foreign(head)
    if kind is None and (b"\0" in head or _control_share(head) > 0.05):
        kind = "binary data; is this the caffemodel?"
    if kind is not None:
        raise TextError(path, 1, 1, f"expected a prototxt, found {kind}")


def reject_weights(path: str) -> None:
    """Raise where the file at ``path`` is plainly not a caffemodel."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(_SNIFFED)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    kind = _foreign(head)
    if not head:
        kind = "an empty file"
    elif head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf")):
        kind = "an archive: unpack it first"
    elif kind is None and _control_share(head) == 0 and b"\n" in head:
        kind = "text; is this the prototxt?"
    if kind is not None:
        raise WeightsError(f"expected a caffemodel, found {kind}", path=path)


def _foreign(head: bytes) -> Optional[str]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: fetch the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: the download saved a page, not the file"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text: save it as UTF-8"
    return None


def _control_share(head: bytes) -> float:
    control = sum(1 for byte in head if byte < 32 and byte not in b"\t\n\v\f\r")
    return control / max(len(head), 1)


def default_output(path: str) -> str:
    """``x.prototxt`` -> ``x_merged.prototxt``, beside the input; all of the stem is kept."""
    stem, extension = os.path.splitext(path)
    if stem.endswith(".caffemodel"):  # x.caffemodel.h5
        stem, inner = os.path.splitext(stem)
        extension = inner + extension
    return f"{stem}_merged{extension}"


def check_outputs(inputs: Tuple[str, ...], outputs: Tuple[str, ...], force: bool) -> None:
    """Refuse an output that is an input, another output, no file, or exists (without ``force``).

    ``outputs`` are the prototxt, the caffemodel, and what else is written. A caffemodel that a run
    left when it was killed before its prototxt came may be replaced without ``force``.
    """
    for number, output in enumerate(outputs):
        for other in inputs:
            if _same_file(output, other):
                raise UsageError(f"{output}: the output would overwrite the input {other}")
        if any(_same_file(output, other) for other in outputs[:number]):
            raise UsageError(f"{output}: both outputs have this name")
        if os.path.isdir(output):
            raise UsageError(f"{output}: the output is a folder")
        if os.path.exists(output) and not os.path.isfile(output):  # root would replace /dev/null
            raise UsageError(f"{output}: the output is a device or the like, not a file")
        left_over = number == 1 and _interrupted(outputs[0])
        if os.path.lexists(output) and not (force or left_over):
            raise UsageError(f"{output}: exists already; --force replaces it")


def _interrupted(prototxt: str) -> bool:
    """Whether a run was killed before it put ``prototxt``, which comes last, in place."""
    return os.path.lexists(_hidden(prototxt, "part")) and not os.path.lexists(prototxt)


def _same_file(one: str, other: str) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


class Replacement:
    """New contents for several paths, which appear complete under their names: all or none.

    Each is written to ``.<name>.part`` beside its target. ``commit`` syncs and renames them in the
    order given, so the last one's presence promises the others. A target that is replaced is first
    moved to ``.<name>.old``, last one first; any failure moves it back. A process killed in
    between leaves files with such names and no last target, and the room that was set aside for
    them; the next run writes over them. A target that is a link is replaced, not what it names.
    """

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self.handles: List[BinaryIO] = []

    @property
    def parts(self) -> Tuple[str, ...]:
        """The paths that are being written."""
        return tuple(_hidden(target, "part") for target in self.targets)

    def __enter__(self) -> "Replacement":
        try:
            for target, part in zip(self.targets, self.parts):
                try:
                    self.handles.append(_open_locked(part))
                except BlockingIOError:
                    raise FileError(f"{target}: another run is writing this output") from None
                except OSError as error:
                    raise FileError(f"{target}: {error.strerror or error}") from None
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._discard()
        if isinstance(error, OSError) and not isinstance(error, FileError):
            where = error.filename or self.targets[0]
            raise FileError(f"{where}: {error.strerror or error}") from None

    def flush(self) -> None:
        """Make what was written visible to other processes."""
        for handle in self.handles:
            handle.flush()

    def commit(self) -> None:
        """Put every file in place."""
        for handle in self.handles:
            handle.flush()
            os.fsync(handle.fileno())
            if fcntl is None:  # Windows does not rename open files
                handle.close()
        saved: List[str] = []
        placed: List[str] = []
        try:
            for target in reversed(self.targets):
                if os.path.lexists(target):
                    os.replace(target, _hidden(target, "old"))
                    saved.append(target)
            for target, part in zip(self.targets, self.parts):
                os.replace(part, target)
                placed.append(target)
        except BaseException:
            for target in placed:
                os.unlink(target)
            for target in reversed(saved):
                os.replace(_hidden(target, "old"), target)
            raise
        for folder in {os.path.dirname(os.path.abspath(target)) for target in self.targets}:
            _sync_folder(folder)
        for target in self.targets:  # also what an interrupted run left
            with contextlib.suppress(OSError):
                os.unlink(_hidden(target, "old"))

    def _discard(self) -> None:
        for handle, part in zip(self.handles, self.parts):
            with contextlib.suppress(OSError):
                if os.path.lexists(part) and (handle.closed or _is_ours(handle, part)):
                    os.unlink(part)
            # On a full disk what is buffered cannot be written, nor need it be.
            with contextlib.suppress(OSError):
                handle.close()
        self.handles = []


def _hidden(target: str, suffix: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{suffix}")


def _is_ours(handle: BinaryIO, path: str) -> bool:
    here, there = os.fstat(handle.fileno()), os.stat(path)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


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
        wanted = struct.pack("hhqqiI4i", 0, os.SEEK_SET, 0, size, *[0] * 6)
        with contextlib.suppress(OSError):  # another system, or no room: that is seen later
            fcntl.ioctl(handle.fileno(), _RESERVE, wanted)
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

    def __enter__(self) -> "Behind":
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


def _open_locked(path: str) -> BinaryIO:
    """Open ``path`` for writing, empty; BlockingIOError where another live run has it open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        handle = io.BufferedRandom(_StoredEarly(descriptor, "r+"))
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_ours(handle, path):  # not renamed by its owner since it was opened
                handle.truncate(0)
                return handle
        except FileNotFoundError:
            pass
        except OSError:
            handle.close()
            raise
        handle.close()


def _sync_folder(folder: str) -> None:
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

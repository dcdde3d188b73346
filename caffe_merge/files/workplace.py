"""The hidden folder in which one output is made, and what a run that was killed left in it.

Beside a target ``x`` stands, while a run writes it, ``.caffe_merge.<hash of x>`` with three files:

    record  whose folder it is, and what is about to be renamed; locked while its run lives
    new     what is to be the target
    old     what was the target, until all of a run's files are in place

Nobody else can put a name into a folder that we made for ourselves. What stands there already and
is not such a folder of ours is left alone: the next name is taken. Each run tries the names in the
same order, so two runs on one output meet.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import zlib
from typing import Any, Dict, Iterator, List, Optional, Tuple

from caffe_merge.files.identity import Identity
from caffe_merge.files.places import absolute

try:
    import fcntl
except ImportError:  # not on Windows: two runs on one output are not told apart there
    fcntl = None  # type: ignore[assignment]

PREFIX = ".caffe_merge."
_MARK = b"caffe_merge makes a file in this folder, or was killed doing so: its next run cleans up\n"
_DONE = b"done\n"
_TRIES = 64
_LARGEST_RECORD = 1 << 20  # bytes
# Each target, in the order of renaming: the folder its new file is in, and that file's identity.
Renames = Dict[str, Tuple[str, Identity]]


class Workplace:
    """The folder of one target; this run holds it until ``leave`` or ``close``.

    ``renames`` is what the run that had it before was about to rename: None if nothing.
    """

    def __init__(self, path: str, target: str, record: io.FileIO) -> None:
        self.path = path
        self.target = target
        self._record = record
        self.renames, self.done = _parse(_contents(record))

    @property
    def new(self) -> str:
        """The path of the file that is to be the target."""
        return os.path.join(self.path, "new")

    @property
    def old(self) -> str:
        """The path of the file that was the target."""
        return os.path.join(self.path, "old")

    def begin(self) -> None:
        """Make the folder one without anything to put right."""
        name = _literal(os.path.basename(self.target))
        self._record.seek(0)
        self._record.truncate(0)
        self._append(_MARK + name + b"\n")
        self.renames, self.done = None, False

    def announce(self, renames: Renames) -> None:
        """Write down, for whoever comes after, what is about to be renamed, and store it."""
        plain = {path: (folder, tuple(identity)) for path, (folder, identity) in renames.items()}
        self._append(_literal(plain) + b"\n")
        os.fsync(self._record.fileno())
        self.renames = renames

    def finish(self) -> None:
        """Write down that all of the renames were made."""
        self._append(_DONE)

    def _append(self, data: bytes) -> None:
        if self._record.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Give the folder up as it is, for the next run to put right."""
        self._record.close()

    def leave(self) -> None:
        """Remove the folder, and give it up. A former file that still stands in it stays."""
        with contextlib.suppress(OSError):
            if os.path.lexists(self.new):
                os.unlink(self.new)
        with contextlib.suppress(OSError):
            if not os.path.lexists(self.old):
                if not has_locks():  # Windows removes no open file
                    self.close()
                os.unlink(os.path.join(self.path, "record"))
                os.rmdir(self.path)
        self.close()


def claim(target: str) -> Workplace:
    """Hold the workplace of ``target``, an absolute path, making it where there is none.

    Raises BlockingIOError where another run holds it, OSError where none can be made.
    """
    for path in _paths(target):
        is_new = False
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
                is_new = True
            try:
                place = _entered(path, target, is_new)
            except FileNotFoundError:  # its owner removed it just now
                continue
            if place is not None:
                return place
            break
    raise FileExistsError(errno.EEXIST, f"too many files called {PREFIX}... in its folder")


def left_over(target: str, path: Optional[str] = None) -> Optional[Workplace]:
    """Hold the workplace of ``target`` if there is one already: a killed run left it.

    Raises BlockingIOError where a live run holds it. ``path`` is the folder if that is known.
    """
    for folder in [path] if path is not None else _paths(target):
        if not os.path.lexists(folder):
            return None
        with contextlib.suppress(FileNotFoundError):
            place = _entered(folder, target, False)
            if place is not None:
                return place
    return None


def renames_of(path: str) -> Optional[Renames]:
    """What the record in the folder ``path`` says, whoever holds it."""
    try:
        with io.FileIO(os.path.join(path, "record")) as record:
            return _parse(_contents(record))[0]
    except OSError:
        return None


def has_locks() -> bool:
    """Whether runs can be told apart here; where not, open files cannot be renamed either."""
    return fcntl is not None


def is_inside(path: str) -> bool:
    """Whether ``path``, links followed, lies in somebody's workplace."""
    folder = os.path.dirname(os.path.realpath(absolute(path)))
    if not os.path.basename(folder).startswith(PREFIX):
        return False
    return os.path.isfile(os.path.join(folder, "record"))


def _paths(target: str) -> Iterator[str]:
    folder, name = os.path.split(target)
    for number in range(_TRIES):
        value = zlib.crc32(os.fsencode(name) + bytes([number]))
        yield os.path.join(folder, f"{PREFIX}{value:08x}")


def _entered(path: str, target: str, is_new: bool) -> Optional[Workplace]:
    """The folder at ``path`` with its lock, if it is one of ours for ``target``; else None."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return None
    # What another user left is not believed: it says which files are to be renamed.
    if not is_new and hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return None
    names = os.listdir(path)
    if names and "record" not in names:
        return None
    record = _opened(os.path.join(path, "record"))
    if record is None:
        return None
    place = None
    try:
        if _is_for(target, _contents(record)) and _locked(record, is_new):
            if not _is_at(record, os.path.join(path, "record")):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            # Read again: nobody else writes to it from now on.
            if _is_for(target, _contents(record)):
                place = Workplace(path, target, record)
        return place
    finally:
        if place is None:
            record.close()


def _opened(path: str) -> Optional[io.FileIO]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        record = io.FileIO(os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600), "r+")
    except FileNotFoundError:
        raise
    except OSError:  # a link, a folder
        return None
    if stat.S_ISREG(os.fstat(record.fileno()).st_mode):
        return record
    record.close()
    return None


def _contents(record: io.FileIO) -> bytes:
    record.seek(0)
    return record.read(_LARGEST_RECORD) or b""


def _is_for(target: str, contents: bytes) -> bool:
    """Whether a record is ours and of ``target``; it may not be written yet."""
    if not contents.startswith(_MARK):
        return _MARK.startswith(contents)
    name, end, _ = contents[len(_MARK) :].partition(b"\n")
    return not end or name == _literal(os.path.basename(target))


def _literal(value: object) -> bytes:
    """``value`` as Python writes it, on one line of ASCII: json would have to be imported first."""
    return ascii(value).encode()


def _parse(contents: bytes) -> Tuple[Optional[Renames], bool]:
    """What a record says is about to be renamed, and whether it was done."""
    lines: List[bytes] = contents.splitlines(keepends=True)
    if len(lines) < 3 or not lines[2].endswith(b"\n"):
        return None, False  # it is stored whole before the first rename
    import ast  # for those who put something right

    try:
        message: Any = ast.literal_eval(lines[2].decode("ascii"))
        renames = {
            str(path): (str(folder), Identity(*map(int, identity)))
            for path, (folder, identity) in message.items()
        }
    except (ValueError, TypeError, AttributeError, SyntaxError, MemoryError, RecursionError):
        return None, False
    return renames, lines[3:] == [_DONE]


def _locked(record: io.FileIO, is_new: bool) -> bool:
    """Whether we have the lock; BlockingIOError where a live run has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # no locks here: what we did not make may be in use
        return is_new
    return True


def _is_at(record: io.FileIO, path: str) -> bool:
    held, at_path = os.fstat(record.fileno()), os.lstat(path)
    return (held.st_dev, held.st_ino) == (at_path.st_dev, at_path.st_ino)

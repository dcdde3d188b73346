"""Whether two paths are one file, and whether a file is still what it was."""

import os
from types import TracebackType
from typing import Dict, Iterable, NamedTuple, Optional, Type

from caffe_merge.errors import FileError
from caffe_merge.files.places import absolute, check_file

CHANGED = "the file changed while it was read; run the command anew"


class Identity(NamedTuple):
    """What tells a file from any other, and from itself once it was changed.

    Not its device: that may have another number after a restart, when a record of it is read.
    """

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """That of the file with this status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


def at(path: str) -> Optional[Identity]:
    """What is at ``path``, a link itself and not what it names; None if nothing is."""
    try:
        return Identity.of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def same_file(first: str, second: str) -> bool:
    """Whether both paths are one file, whatever links lead to it, or would be once they exist."""
    try:
        if os.path.samefile(first, second):
            return True
    except OSError:
        pass
    first, second = absolute(first), absolute(second)
    folders = [os.path.dirname(path) for path in (first, second)]
    if os.path.basename(first) != os.path.basename(second):
        return os.path.realpath(first) == os.path.realpath(second)
    try:
        return os.path.samefile(*folders)
    except OSError:
        return folders[0] == folders[1]


class Unchanged:
    """Checks that files are the same at the end of a ``with`` as at its start.

    Where a file changed, an error inside the block is replaced by the one that says so: it may only
    come from reading two halves of different files.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._seen: Dict[str, Identity] = {}
        for path in paths:
            check_file(path)
            try:
                self._seen[path] = Identity.of(os.stat(path))
            except OSError as error:
                raise FileError(str(error.strerror or error), path=path) from None

    def check(self) -> None:
        """Raise FileError where a file is not the same any more."""
        for path, seen in self._seen.items():
            try:
                same = Identity.of(os.stat(path)) == seen
            except OSError:
                same = False
            if not same:
                raise FileError(CHANGED, path=path)

    def __enter__(self) -> "Unchanged":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if isinstance(error, Exception):
            self.check()

"""What kind of thing a path names: a file, or a device, a pipe, an open file of a process."""

from __future__ import annotations

import os
import stat
from typing import Iterator, Tuple

from caffe_merge.errors import FileError

_OF_THE_SYSTEM = ("/dev", "/proc", "/sys")
_OF_USERS = ("/dev/shm",)
_MOST_LINKS = 40


def absolute(path: str) -> str:
    """``path`` from the root of the file system. Raises FileError where it starts from nowhere."""
    try:
        return os.path.abspath(path)
    except OSError:
        message = "the folder that this was started in is gone: give a path that begins with /"
        raise FileError(message, path=path) from None


def check_file(path: str) -> None:
    """Raise FileError unless ``path`` names a file that can be read as often as need be.

    A pipe gives its bytes once, and /dev/stdin is another file in each process.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise FileError(str(getattr(error, "strerror", None) or error), path=path) from None
    if stat.S_ISDIR(mode):
        raise FileError("Is a directory", path=path)
    if stat.S_ISREG(mode) and not is_of_the_system(path):
        return
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or the like"
    if stat.S_ISREG(mode):
        kind = "an open file of this process"
    raise FileError(f"expected a file, found {kind}; save it as a file first", path=path)


def is_of_the_system(path: str) -> bool:
    """Whether ``path`` is a name among the devices or the open files of processes, or leads there.

    What it names may be an ordinary file: /dev/stdout is a link, and the file is another program's.
    """
    for hop in _hops(path):
        folder = os.path.realpath(os.path.dirname(hop))
        if _is_below(folder, _OF_THE_SYSTEM) and not _is_below(folder, _OF_USERS):
            return True
    return False


def _hops(path: str) -> Iterator[str]:
    """The path, and each path that a link at the one before names."""
    path = absolute(path)
    for _ in range(_MOST_LINKS):
        yield path
        try:
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return


def _is_below(folder: str, roots: Tuple[str, ...]) -> bool:
    return any(folder == root or folder.startswith(root + "/") for root in roots)

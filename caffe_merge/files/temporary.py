"""Folders for what is needed for a while; those of killed runs are removed by later ones."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterator

try:
    import fcntl
except ImportError:  # not on Windows: nobody can tell there whose a folder is
    fcntl = None  # type: ignore[assignment]

PREFIX = "caffe_merge_"
_OWNER = ".owner"  # locked as long as its process lives


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """An empty folder among the system's temporary files, there as long as the ``with`` lasts."""
    import shutil  # with much behind them
    import tempfile

    sweep(tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix=PREFIX)
    try:
        with _owned(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _owned(folder: str) -> Iterator[None]:
    path = os.path.join(folder, _OWNER)
    with open(path + ".new", "xb") as handle:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(path + ".new", path)  # under its name it is locked from the first
        yield


def sweep(parent: str) -> None:
    """Remove the folders in ``parent`` whose processes were killed."""
    if fcntl is None:
        return
    try:
        with os.scandir(parent) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for path in names:
        with contextlib.suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: str) -> None:
    import shutil

    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    with open(os.path.join(path, _OWNER), "rb", opener=_not_through_links) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

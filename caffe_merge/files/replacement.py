"""Putting files in place, all or none, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import stat
from types import TracebackType
from typing import BinaryIO, List, Optional, Tuple, Type

from caffe_merge.errors import FileError
from caffe_merge.files import recovery, workplace
from caffe_merge.files.identity import Identity, at
from caffe_merge.files.signals import held_back
from caffe_merge.files.workplace import Renames, Workplace
from caffe_merge.files.writing import created


class Replacement:
    """New contents for several paths, which appear complete under their names: all or none.

    Each is written in a hidden folder beside its target (``caffe_merge.files.workplace``), which
    keeps other runs out. ``commit`` stores the files, writes down what it is about to do, and
    renames: the former files away, the last one first, then the new ones into place in the order
    given, so the last one's presence promises the others. What fails is taken back; where the
    process is killed the next run on one of these targets does that. A target that is a link is
    replaced, not what it names.
    """

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self.handles: List[BinaryIO] = []
        self._places: List[Workplace] = []
        self._before: List[Optional[Identity]] = []

    @property
    def parts(self) -> Tuple[str, ...]:
        """The paths that are being written."""
        return tuple(place.new for place in self._places)

    def __enter__(self) -> Replacement:
        try:
            with held_back():
                for target in self.targets:
                    with recovery.naming(target):
                        self._prepare(recovery.real(target))
        except BaseException:  # what was held back comes at the end of that `with`
            with held_back():
                self._leave()
            raise
        return self

    def _prepare(self, target: str) -> None:
        at(target)  # a name that is too long is found here
        place = workplace.claim(target)
        recovery.recover(place)
        self._places.append(place)
        place.begin()
        self._before.append(at(target))
        self.handles.append(created(place.new))

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        parts = dict(zip(self.parts, self.targets))
        with held_back():
            self._leave()
        if isinstance(error, OSError) and not isinstance(error, FileError):
            where = parts.get(str(error.filename), error.filename or self.targets[0])
            raise FileError(str(error.strerror or error), path=where) from None

    def flush(self) -> None:
        """Make what was written visible to other processes."""
        for handle in self.handles:
            handle.flush()

    def commit(self) -> None:
        """Put every file in place."""
        for handle, target in zip(self.handles, self.targets):
            handle.flush()
            _keep_mode(handle.fileno(), target)
            os.fsync(handle.fileno())
        with held_back():
            self._put_in_place()
            self._leave()

    def _put_in_place(self) -> None:
        for target, place, before in zip(self.targets, self._places, self._before):
            if at(place.target) != before:
                raise FileError("another program changed this file meanwhile", path=target)
        renames: Renames = {}
        for place, handle in zip(self._places, self.handles):
            renames[place.target] = place.path, Identity.of(os.fstat(handle.fileno()))
            if not workplace.has_locks():  # Windows does not rename open files
                handle.close()
        for place in self._places:
            place.announce(renames)
        try:
            self._rename()
        except BaseException:
            self._undo(renames)
            raise

    def _rename(self) -> None:
        for place in reversed(self._places):
            if os.path.lexists(place.target):
                os.replace(place.target, place.old)
        for place in self._places:
            os.replace(place.new, place.target)
        recovery.sync_folders(place.target for place in self._places)
        with contextlib.suppress(OSError):  # they are in place: that can be seen without it
            for place in self._places:
                place.finish()
        for place in self._places:
            with contextlib.suppress(OSError):
                os.unlink(place.old)

    def _undo(self, renames: Renames) -> None:
        places = {place.target: place for place in self._places}
        try:
            recovery.finish_or_undo(renames, places)
        except BaseException:
            for place in self._places:  # as they are: the next run may be luckier
                place.close()
            self._places = []
            raise

    def _leave(self) -> None:
        for handle in self.handles:
            # On a full disk what is buffered cannot be written, nor need it be.
            with contextlib.suppress(OSError):
                handle.close()
        for place in self._places:
            place.leave()
        self.handles, self._places = [], []


def _keep_mode(descriptor: int, target: str) -> None:
    """Give a new file the mode and, where it is allowed, the owner of what it replaces."""
    try:
        former = os.stat(target)
    except OSError:
        return
    if not stat.S_ISREG(former.st_mode) or not hasattr(os, "fchmod"):
        return
    mode = stat.S_IMODE(former.st_mode) & 0o777
    for owner, group in ((-1, former.st_gid), (former.st_uid, -1)):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner, group)
    if os.fstat(descriptor).st_gid != former.st_gid:  # another group may not do more than anybody
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)

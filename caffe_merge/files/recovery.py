"""Putting right what a run left that was killed: its renames are finished, or taken back."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterable, Iterator, NoReturn, Optional

from caffe_merge.errors import BusyError, FileError
from caffe_merge.files import workplace
from caffe_merge.files.identity import at
from caffe_merge.files.places import absolute
from caffe_merge.files.workplace import Renames, Workplace
from caffe_merge.files.writing import sync_folder


def put_right(target: str) -> None:
    """Put right what a killed run left of ``target``; nothing to do for most.

    Raises FileError where a live run is writing it.
    """
    with naming(target):
        place = workplace.left_over(real(target))
        if place is not None:
            recover(place)
            place.leave()


def recover(place: Workplace) -> None:
    """Put the targets right that the run which had ``place`` was about to rename, all of them.

    If all are in place what they replaced goes, else all that was there before comes back. On an
    error ``place`` is closed, and as it was.
    """
    places: Dict[str, Workplace] = {}
    try:
        for target, (folder, _) in (place.renames or {}).items():
            held = place if folder == place.path else _partner(target, folder, place)
            if held is not None:
                places[target] = held
        finish_or_undo(place.renames or {}, places)
        if os.path.lexists(place.old):
            _refuse(place)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place.new)
    except BaseException:
        for held in (place, *places.values()):
            held.close()
        raise
    for held in places.values():
        if held is not place:
            held.leave()


def _partner(target: str, folder: str, place: Workplace) -> Optional[Workplace]:
    """The workplace of another target of the same run, if that is still there.

    Raises BlockingIOError where another run is putting both right just now.
    """
    try:
        held = workplace.left_over(target, folder)
    except BlockingIOError:
        if workplace.renames_of(folder) == place.renames:
            raise
        return None  # a later run's, which is at work on that target
    if held is not None and held.renames != place.renames:
        held.close()
        return None
    return held


def finish_or_undo(renames: Renames, places: Dict[str, Workplace]) -> None:
    """Finish what was renamed as a whole; undo what was not. ``places`` are those still there."""
    done = any(place.done for place in places.values())
    if done or all(at(target) == new for target, (_, new) in renames.items()):
        for place in places.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.old)
    else:
        undo(renames, places)


def undo(renames: Renames, places: Dict[str, Workplace]) -> None:
    """Take the renames back: the last target goes first and comes back last."""
    for target, place in places.items():
        if os.path.lexists(place.old) and at(target) not in (None, renames[target][1]):
            _refuse(place)
    for target in reversed(list(places)):
        if at(target) == renames[target][1]:
            os.replace(target, places[target].new)
    for target, place in places.items():
        if os.path.lexists(place.old):
            os.replace(place.old, target)
    sync_folders(places)


def _refuse(place: Workplace) -> NoReturn:
    raise FileError(
        f"a run that was killed kept what this file was as {place.old}; move one of the two away",
        path=place.target,
    )


def sync_folders(targets: Iterable[str]) -> None:
    """Make the renames of these files durable."""
    for folder in dict.fromkeys(map(os.path.dirname, targets)):
        sync_folder(folder)


def real(target: str) -> str:
    """The path of ``target`` in its real folder; it may itself be a link."""
    folder, name = os.path.split(absolute(target))
    return os.path.join(os.path.realpath(folder), name)


@contextlib.contextmanager
def naming(target: str) -> Iterator[None]:
    """Have errors of the system name ``target``."""
    try:
        yield
    except FileError:
        raise
    except BlockingIOError:
        raise BusyError("another run is writing this output", path=target) from None
    except OSError as error:
        raise FileError(str(error.strerror or error), path=target) from None

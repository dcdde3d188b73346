"""Runs that are stopped in front of any one of their system calls."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

from caffe_merge.files import workplace
from caffe_merge.files.replacement import Replacement
from caffe_merge.files.workplace import Workplace

CALLS = ("open", "mkdir", "rmdir", "fsync", "replace", "unlink", "fchmod", "fchown", "lstat")
Files = Dict[str, bytes]
OLD: Files = {"a": b"old a", "b": b"old b"}
NEW: Files = {"a": b"the new a", "b": b"the new b"}


def write(folder: Path, content: Files) -> None:
    """Put files in place as a run does."""
    with Replacement(*(str(folder / name) for name in content)) as run:
        for handle, data in zip(run.handles, content.values()):
            handle.write(data)
        run.commit()


def contents(folder: Path) -> Files:
    """The files of a folder; what lies in a folder below counts as its name."""
    return {p.name: b"folder" if p.is_dir() else p.read_bytes() for p in folder.iterdir()}


def visible(folder: Path) -> Files:
    """The files of a folder that are no workplace."""
    return {name: data for name, data in contents(folder).items() if name in NEW}


def fill(folder: Path, content: Files) -> None:
    """Make the folder hold just these files."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in content.items():
        (folder / name).write_bytes(data)


def stopped_at(number: int, by: int, run: Callable[[], None]) -> Optional[int]:
    """Do ``run`` in a child that gets a signal in front of its call ``number``; how it ended.

    None if it ended by itself with success.
    """
    child = os.fork()
    if child == 0:
        status = 3
        try:
            _count_calls(number, by)
            run()
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        return -os.WTERMSIG(ended)
    return os.WEXITSTATUS(ended) or None


def _count_calls(number: int, by: int) -> None:
    left = [number]

    def counted(real: Any) -> Any:
        def call(*args: Any, **flags: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), by)
            return real(*args, **flags)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    Workplace._append = counted(Workplace._append)  # type: ignore[method-assign]
    workplace._locked = counted(workplace._locked)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for signal_number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signal_number, interrupted)


def every_call(by: int, run: Callable[[], None], before: Callable[[], None]) -> Iterator[int]:
    """Stop a run in front of each of its calls; yields how it ended, each time."""
    for number in range(1, 1000):
        before()
        ended = stopped_at(number, by, run)
        if ended is None:
            assert number > 20  # there was something to stop
            return
        yield ended

"""Worker processes of engines that are kept for the next pair, in a process that judges many.

Starting Python and its modules takes several times as long as running a small net.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from caffe_merge import child

if TYPE_CHECKING:
    import subprocess

Process = Union[child.Copy, "subprocess.Popen[bytes]"]
Kept = Tuple[Process, IO[bytes]]  # a process, and what it writes to stderr

_kept: Optional[Dict[Tuple[str, ...], List[Kept]]] = None


def keep() -> None:
    """Have workers that end well be kept from now on, until this process ends.

    Not on Windows: a kept worker has its last files open, which could not be renamed there.
    """
    global _kept
    if _kept is None and os.name == "posix":
        _kept = {}


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Keep workers that end well until the block ends, or as long as they would have been kept."""
    if _kept is not None:
        yield
        return
    keep()
    try:
        yield
    finally:
        end()


def end() -> None:
    """Stop the workers that are kept, and keep none from now on."""
    global _kept
    for kept in (_kept or {}).values():
        for process, stderr in kept:
            stop(process, stderr)
    _kept = None


def stop(process: Process, stderr: IO[bytes]) -> None:
    """End a process, whatever it is doing, and wait until it is gone."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, stderr):
        if stream:
            with contextlib.suppress(OSError):  # what was never sent to a dead worker
                stream.close()


def take(command: Sequence[str]) -> Optional[Kept]:
    """A kept worker of ``command`` that still runs, which is the caller's then."""
    kept = (_kept or {}).get(tuple(command), [])
    while kept:
        process, stderr = kept.pop()
        if process.poll() is None:
            return process, stderr
        stderr.close()
    return None


def give_back(command: Sequence[str], process: Process, stderr: IO[bytes]) -> bool:
    """Keep a worker that waits for a job; False where none are kept."""
    if _kept is None or process.poll() is not None:
        return False
    stderr.seek(0)
    stderr.truncate()
    _kept.setdefault(tuple(command), []).append((process, stderr))
    return True

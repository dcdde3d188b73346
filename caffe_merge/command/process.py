"""What a process sets for itself that runs one command and ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn

from caffe_merge import arrays, child

_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_ALLOCATIONS = 200_000  # between two collections; Python's own setting is 700
_KEPT = 8 << 20  # bytes; larger arrays are rare


def set_up() -> None:
    """Set up this process; to be called before anything has imported numpy."""
    # Nearly all that a run makes it needs to its end, so there is little to collect: the
    # collections of so many objects cost a tenth of the time.
    gc.set_threshold(_ALLOCATIONS)
    _import_numpy()
    arrays.set_up_thread(_KEPT)
    child.allow_copies()


def interrupt_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this process as Ctrl-C does: half-written files go.

    A signal that the caller had ignored, as nohup does, stays so.
    """
    with contextlib.suppress(ValueError):  # not in a main thread
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _interrupted)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def leave(status: int) -> NoReturn:
    """End the process at once: the system takes its memory back faster than Python can free it.

    No ``finally`` and no exit handler runs any more: files must be closed, stdout flushed.
    """
    sys.stderr.flush()
    os._exit(status)


def _import_numpy() -> None:
    """Import numpy with a BLAS of one thread and small pages, unless the user has other wishes.

    What is multiplied here is small. OpenBLAS starts its threads when it is loaded and has them
    wait in a loop, which costs more than they ever save. Workers are to have their threads.

    numpy asks for huge pages where an array has 4 MB or more. A virtual machine may have to get
    each of them from its host, which took a quarter of a validation on one machine. A small page
    is mostly one that another process has just left.
    """
    wishes = {arrays.HUGE_PAGES: "0"}
    if not any(name in os.environ for name in _BLAS_THREADS):
        wishes[_BLAS_THREADS[0]] = "1"
    added = {name: value for name, value in wishes.items() if name not in os.environ}
    os.environ.update(added)
    try:
        import numpy  # noqa: F401
    finally:
        for name in added:
            del os.environ[name]

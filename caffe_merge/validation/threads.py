"""A thread for a net that is run: glibc has memory of its own for each."""

from __future__ import annotations

import threading
from typing import Callable, Optional

from caffe_merge.arrays import set_up_thread

_KEPT = 31 << 20  # bytes, of blobs: of more than 32 MB glibc learns nothing


class Task(threading.Thread):
    """Does ``work`` as set_up_thread has it; it ends with the process."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: Optional[BaseException] = None

    def run(self) -> None:
        """What the thread does."""
        try:
            set_up_thread(_KEPT)
            self._work()
        except BaseException as error:  # it belongs to the thread that waits for us
            self._error = error

    def finish(self) -> None:
        """Wait for its end; raise what went wrong in it."""
        self.join()
        if self._error is not None:
            raise self._error

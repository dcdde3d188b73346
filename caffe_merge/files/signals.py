"""Signals that end a command: held back while files change their names."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional

# SIGHUP (the terminal is gone) is not on Windows.
_ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have signals that end the process wait until the end of the ``with``.

    A signal's default action waits too, so a library's caller needs no handler of their own.
    """
    caught: List[int] = []
    handlers: Dict[int, Any] = {}

    def note(number: int, _: Optional[FrameType]) -> None:
        caught.append(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: set by C code, not to be replaced
                    handlers[number] = handler
                    signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in caught[:1]:
            os.kill(os.getpid(), number)

"""A worker process: tasks come on its stdin, one at a time, what they return goes to its stdout.

A task is a function and its arguments, pickled; so is what it returns or raises. When the parent is
gone, killed perhaps, nobody closes the pipe but the system: the worker and all that it started end
at once then, and leave what they were writing for the next run to put right.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import sys
import threading
from typing import IO, Any, Optional

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], message: Any) -> None:
    """Write a message."""
    data = pickle.dumps(message, protocol=4)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Optional[bytes]:
    """The bytes of the next message; None where the other side is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def main() -> None:
    """Do tasks until the parent closes the pipe."""
    tasks = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    # What a library prints is no message: it goes where stderr goes.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - to the end
    _end_on_sigterm()
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks, waiting), daemon=True).start()
    while True:
        function, arguments = pickle.loads(waiting.get())
        send(results, function(*arguments))


def _listen(tasks: IO[bytes], waiting: queue.SimpleQueue[bytes]) -> None:
    while True:
        message = receive(tasks)
        if message is None:
            _end()
        else:
            waiting.put(message)


def _end() -> None:
    """End this process and those that it started, which are in its group."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_on_sigterm() -> None:
    """Have SIGTERM end the task as Ctrl-C would: what it was writing is removed."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer

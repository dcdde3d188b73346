"""Worker processes: each does one task at a time, and what happens to it is that task's alone.

A worker is warm: it does one task after the other. One that crashes, is killed (while it waits for
a task, too) or takes too long is replaced before the next task.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

from caffe_merge import child
from caffe_merge.batching import worker
from caffe_merge.batching.outcome import CRASH, FAILED, MEMORY, STOPPED, TIMEOUT, Outcome

Key = TypeVar("Key")
Setup = Callable[[], None]
_GRACE = 5.0  # seconds that an interrupted worker has to remove what it was writing
_SAID = 4096  # bytes of stderr that are looked at
_LONGEST = 300  # characters of it that are reported


class DiedError(Exception):
    """A worker that ended without an answer; ``kind`` is one of the kinds of failures.

    ``seconds`` is the wall time that it took till then.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.seconds = 0.0

    @property
    def outcome(self) -> Outcome:
        """What became of the pair that it had."""
        return Outcome(FAILED, self.reason, self.kind, seconds=self.seconds)


class Worker:
    """A worker process; ``setup``, which it is sent first, prepares it."""

    def __init__(self, setup: Setup) -> None:
        # A file, not a pipe: nobody has to drain it for the worker to go on.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._timed_out = self._stopped = False
        self._process = subprocess.Popen(
            child.command("from caffe_merge.batching.worker import main; main()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C is not for it, and all that it starts ends with it
        )
        self.ask(setup, ())

    def ask(
        self, function: Callable[..., Any], arguments: Sequence[Any], limit: Optional[float] = None
    ) -> Any:
        """What ``function(*arguments)`` returns there. Raises DiedError."""
        assert self._process.stdin
        assert self._process.stdout
        start = time.perf_counter()
        watchdog = threading.Timer(limit, self._time_out) if limit else None
        if watchdog:
            watchdog.daemon = True
            watchdog.start()
        try:
            with contextlib.suppress(OSError):  # of one that is dead the answer tells more
                worker.send(self._process.stdin, (function, arguments))
            reply = worker.receive(self._process.stdout)
        finally:
            if watchdog:
                watchdog.cancel()
                watchdog.join()  # it may have begun to kill: then ``alive`` is false from here on
        if reply is None:
            death = self._death(limit)
            death.seconds = time.perf_counter() - start
            raise death
        self._stderr.seek(0)
        self._stderr.truncate()
        return pickle.loads(reply)

    @property
    def alive(self) -> bool:
        """Whether it can be asked: nobody has ended it, or is about to."""
        return not (self._timed_out or self._stopped) and self._process.poll() is None

    def stop(self) -> None:
        """End it, whatever it is doing, and have it remove what it was writing."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._kill()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(OSError):  # what was never sent to a dead one
                if stream:
                    stream.close()

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        """Kill it and what it started: they are a group of their own."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _death(self, limit: Optional[float]) -> DiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)  # it may have closed the pipe and go on
        self._kill()
        status = self._process.wait()
        if self._stopped:
            return DiedError(STOPPED, "stopped before it was done")
        if self._timed_out:
            return DiedError(TIMEOUT, f"it was not done within {limit:g} s")
        if status >= 0:
            return DiedError(CRASH, f"its process ended with status {status}{self._last_words()}")
        name = signal.Signals(-status).name
        if name == "SIGKILL":
            return DiedError(MEMORY, "its process was killed (SIGKILL), as for lack of memory")
        if name == "SIGBUS":
            hint = "a file was cut off while it was read, or a disk is full"
            return DiedError(CRASH, f"its process died of a bus error (SIGBUS): {hint}")
        return DiedError(CRASH, f"its process crashed ({name}){self._last_words()}")

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _SAID))
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        message = [" ".join(line.split()) for line in lines if line.strip()]
        return f": {message[-1][:_LONGEST]}" if message else ""


class Pool:
    """``count`` workers, each started when there is a task for it. Use it in a ``with``."""

    def __init__(self, count: int, setup: Setup) -> None:
        self._setup = setup
        self._threads = ThreadPoolExecutor(count)
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._busy: List[Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        stopping = [threading.Thread(target=worker.stop) for worker in busy]
        for thread in stopping:
            thread.start()
        self._threads.shutdown()
        for thread in stopping:
            thread.join()
        while not self._idle.empty():
            self._idle.get().close()

    def map(
        self,
        function: Callable[..., Any],
        tasks: Sequence[Tuple[Key, Sequence[Any]]],
        limit: Optional[float] = None,
        started: Callable[[Key], None] = lambda key: None,
    ) -> Iterator[Tuple[Key, Any]]:
        """Key and result of each of ``tasks``, as they come; the result may be a DiedError.

        ``started(key)`` is called, in another thread, when a task begins. Tasks that have not begun
        when nobody asks for results any more never do.
        """
        futures: Dict[Future[Any], Key] = {
            self._threads.submit(self._do, function, arguments, limit, started, key): key
            for key, arguments in tasks
        }
        try:
            for future in as_completed(list(futures)):
                yield futures.pop(future), future.result()
        finally:
            for future in futures:
                future.cancel()

    def _do(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        limit: Optional[float],
        started: Callable[[Key], None],
        key: Key,
    ) -> Any:
        if self._closed:
            return DiedError(STOPPED, "stopped before it began")
        try:
            with self._hired() as hired:
                started(key)
                return hired.ask(function, arguments, limit)
        except DiedError as error:
            return error
        except OSError as error:
            return DiedError(CRASH, f"no process can be started for it: {error.strerror or error}")

    @contextlib.contextmanager
    def _hired(self) -> Iterator[Worker]:
        """A worker for one task; it is kept for the next one unless it died."""
        hired = self._idle_worker() or Worker(self._setup)
        with self._lock:
            self._busy.append(hired)
        try:
            if self._closed:
                raise DiedError(STOPPED, "stopped before it began")
            yield hired
        except BaseException:
            hired.close()
            raise
        else:
            self._idle.put(hired)
        finally:
            with self._lock:
                self._busy.remove(hired)

    def _idle_worker(self) -> Optional[Worker]:
        """One that waits for a task; those that died meanwhile are gone then."""
        while True:
            try:
                idle = self._idle.get_nowait()
            except queue.Empty:
                return None
            if idle.alive:
                return idle
            idle.close()

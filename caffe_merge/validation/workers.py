"""Worker processes: start one, ask it jobs, read its frames, and say in one line how it died.

caffe_worker.py describes the protocol. A worker never outlives its `Worker`, and whatever it does
(abort, hang, print without end) becomes a ValidationError.
"""

import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
import threading
from types import TracebackType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Type

import numpy as np

from caffe_merge import child
from caffe_merge.arrays import HUGE_PAGES
from caffe_merge.errors import (
    CaffeMergeError,
    InputShapeError,
    OptionName,
    Text,
    UsageError,
    ValidationError,
    decoded,
)
from caffe_merge.validation import warm

_LONGEST_MESSAGE = 400
_STDERR_READ = 1 << 16
_OF_THE_USER = {kind.__name__: kind for kind in (UsageError, InputShapeError)}
_UNKNOWN_TYPE = re.compile(r"Unknown layer type: (\S+)")  # as Caffe's layer_factory has it
_REFERENCE = "from caffe_merge.validation.reference_worker import main; main()"


class Frame(NamedTuple):
    """One frame of an answer: its header, and the array where it brought one."""

    header: Dict[str, Any]
    array: Optional[np.ndarray]

    @property
    def unjudged(self) -> Text:
        """Why a blob brought no array; "" if it did."""
        return decoded(self.header.get("unjudged", ()))


def find_caffe_python() -> Optional[str]:
    """The interpreter that has Caffe: CAFFE_MERGE_CAFFE_PYTHON, else this one, else None."""
    named = os.environ.get("CAFFE_MERGE_CAFFE_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("caffe") else None


def caffe_command(python: str) -> List[str]:
    """The command line of a worker with real Caffe under the interpreter ``python``."""
    return [python, os.path.join(os.path.dirname(os.path.abspath(__file__)), "caffe_worker.py")]


def reference_command() -> List[str]:
    """The command line of a worker with caffe_merge's own layers."""
    # Two nets run at once there, each in a thread: more threads would only be in their way.
    threads = max(1, (os.cpu_count() or 1) // 2)
    wishes = {"OPENBLAS_NUM_THREADS": str(threads), HUGE_PAGES: "0"}
    return child.command(
        f"import os; os.environ.update({{**{wishes}, **os.environ}}); {_REFERENCE}"
    )


def opencv_command() -> List[str]:
    """The command line of a worker with OpenCV."""
    return child.command("from caffe_merge.validation.opencv_worker import main; main()")


def _serve_reference() -> None:
    exec(_REFERENCE, {})  # as a new interpreter does it


class Worker:
    """A worker process, from its first job to `close`; use it in a ``with``.

    ``limit`` is the longest that one job may take, in seconds.
    """

    def __init__(self, command: Sequence[str], limit: Optional[float] = None) -> None:
        self._name = f"the engine ({os.path.basename(command[0])})"
        self._limit = limit
        self._watchdog: Optional[threading.Timer] = None
        self._timed_out = False
        self._started = False  # whether it ever answered
        self._waits = False  # for a job, having done one
        self._closed = False
        self._command = tuple(command)
        self._process: warm.Process
        kept = warm.take(command)
        if kept is not None:
            self._process, self._stderr = kept
            self._started = True
            return
        # A file, not a pipe: nobody has to drain it for the worker to go on. `close` closes it.
        self._stderr = child.scratch_file()
        if child.can_copy() and self._command == tuple(reference_command()):
            self._process = child.Copy(_serve_reference, self._stderr)
            return
        import subprocess  # it takes longer than to make a copy

        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # Weights in HDF5 that are not in place yet are locked by us, who wait for it.
                env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
            )
        except OSError as error:
            self._stderr.close()
            reason = error.strerror or error
            raise UsageError(f"cannot run the interpreter {command[0]}: {reason}") from error

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def ask(self, job: Dict[str, Any]) -> Iterator[Frame]:
        """Start ``job``; return the frames that answer it, as they come, the last one with "done".

        Read an answer to its end before the next job, or close the worker. Raises ValidationError
        where the worker reports an error, dies, or takes longer than its limit.
        """
        if self._closed:
            raise ValidationError(f"{self._name} is closed")
        if self._limit:
            self._watchdog = threading.Timer(self._limit, self._time_out)
            self._watchdog.daemon = True
            self._watchdog.start()
        self._waits = False
        self._write(job)
        return self._frames()

    def _frames(self) -> Iterator[Frame]:
        while True:
            frame = self._read()
            if "error" in frame.header or "done" in frame.header:
                self._stop_watchdog()
            if "error" in frame.header:
                raise _error(frame.header)
            self._waits = "done" in frame.header
            yield frame
            if self._waits:
                return

    def call(self, job: Dict[str, Any]) -> Dict[str, Any]:
        """The header of the last frame that answers ``job``."""
        last: Dict[str, Any] = {}
        for frame in self.ask(job):
            last = frame.header
        return last

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, whatever it is doing, and wait until it is gone.

        One that waits for a job is kept for the next Worker, where any are (warm.py).
        """
        self._stop_watchdog()
        if self._closed:
            return
        self._closed = True
        if self._waits and warm.give_back(self._command, self._process, self._stderr):
            return
        warm.stop(self._process, self._stderr)

    def _write(self, job: Dict[str, Any]) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # of a worker that is dead the next read tells more
            self._process.stdin.write(json.dumps(job).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def _read(self) -> Frame:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        if not line.startswith(b"{"):  # some other program
            self._process.kill()
            raise self._death()
        header: Dict[str, Any] = json.loads(line.decode("ascii"))
        self._started = True
        if "ready" in header:
            return self._read()
        if "dtype" not in header:
            return Frame(header, None)
        array = np.empty(header["shape"], header["dtype"])
        # readinto fills all of it from a buffered pipe, unless the worker died half way.
        if array.size and self._process.stdout.readinto(array.data.cast("B")) != array.nbytes:  # type: ignore[attr-defined]
            raise self._death()
        return Frame(header, array)

    def _stop_watchdog(self) -> None:
        if self._watchdog:
            self._watchdog.cancel()
        self._watchdog = None

    def _time_out(self) -> None:
        self._timed_out = True
        # A command that is a script may wait for the one that has our pipe, and hangs.
        others = child.started_by(self._process.pid)
        self._process.kill()
        for pid in others:
            with contextlib.suppress(OSError):  # it may have ended with its parent
                os.kill(pid, signal.SIGKILL)

    def _death(self) -> CaffeMergeError:
        status = self._process.wait()
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_READ))
        message = _reason(self._stderr.read().decode("utf-8", "replace"))
        if self._timed_out:
            late = f"{self._name} did not finish within {self._limit:g} s: give it more with "
            words = f"; its last words: {_clip(message)}" if message else ""
            return ValidationError(late, OptionName("time_limit"), words)
        lacking = _UNKNOWN_TYPE.search(message)
        if lacking:
            lack = (
                f"the Caffe of {self._command[0]} has no layer type {lacking.group(1)}: name with "
            )
            option = OptionName("caffe_python")
            return ValidationError(lack, option, " one that has it, or take another engine")
        how = f"status {status}" if status >= 0 else _signal_name(-status)
        how = f"({how}): {message or 'it said nothing'}"
        if not self._started:
            return UsageError(_clip(f"{self._command[0]} cannot run the engine {how}"))
        return ValidationError(_clip(f"{self._name} died {how}"))


def _error(header: Dict[str, Any]) -> CaffeMergeError:
    """What a worker reports: the user's mistake as such, else that nothing could be judged."""
    kind = _OF_THE_USER.get(header.get("kind", ""))
    parts = header.get("parts", ())
    if kind is not None:
        return kind(decoded(parts))
    error = ValidationError(decoded(parts) if parts else _clip(header["error"]))
    error.path = header.get("path")
    return error


def _reason(stderr: str) -> str:
    """What a dying worker's stderr says: Caffe's FATAL line, else its last line, "" if none."""
    parse = re.search(r"Error parsing text-format \S+: (.+)", stderr)
    fatal = re.search(r"^F\d{4,8} .*?\] (.+)", stderr, re.MULTILINE)
    if fatal:
        return fatal.group(1).strip() + (f" ({parse.group(1)})" if parse else "")
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _clip(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 3] + "..."

"""Code of ours in a child process: a new interpreter, or a copy of this one."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import IO, Callable, List, NoReturn, Optional, Tuple

_may_copy = False


def command(code: str) -> List[str]:
    """The command line that runs ``code``.

    Not -m: it must find the modules where this process found them, numpy included.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]


def allow_copies() -> None:
    """Let children be copies (forks) of this process from now on: no other code runs in it.

    Linux only. A copy need not import anything. A caller's process is never copied: its threads and
    devices may not survive that.
    """
    global _may_copy
    _may_copy = sys.platform == "linux"


def can_copy() -> bool:
    """Whether a child may be a copy now; not while another thread runs, which may hold a lock."""
    threading = sys.modules.get("threading")  # where nobody imported it there are no threads
    return _may_copy and (threading is None or threading.active_count() == 1)


class Copy:
    """A copy of this process that does ``work`` and ends: as much of Popen as a worker needs.

    Its stdin and stdout are pipes, its stderr the file ``stderr``; it keeps no other file open.
    """

    def __init__(self, work: Callable[[], None], stderr: IO[bytes]) -> None:
        jobs, answers = os.pipe(), os.pipe()
        self.returncode: Optional[int] = None
        self.pid = os.fork()
        if not self.pid:
            _become(work, (jobs[0], answers[1], stderr.fileno()))
        os.close(jobs[0])
        os.close(answers[1])
        self.stdin: IO[bytes] = os.fdopen(jobs[1], "wb")
        self.stdout: IO[bytes] = os.fdopen(answers[0], "rb")

    def poll(self) -> Optional[int]:
        """The exit status, negative for a signal; None while it runs."""
        return self._waited(os.WNOHANG)

    def wait(self) -> int:
        """The exit status, when it has ended."""
        status = self._waited(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _waited(self, options: int) -> Optional[int]:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                ended = os.WIFSIGNALED(status)
                self.returncode = -os.WTERMSIG(status) if ended else os.WEXITSTATUS(status)
        return self.returncode


def started_by(pid: int) -> List[int]:
    """The children of the process ``pid``, and theirs; [] where the system does not say."""
    parents = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError, ValueError), open(
            f"/proc/{int(name)}/stat", "rb"
        ) as file:
            # The command comes in brackets, and may hold any; then state and parent.
            parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    processes = [pid]
    for parent in processes:  # which grows
        processes += [child for child, its_parent in parents.items() if its_parent == parent]
    return processes[1:]


def scratch_file() -> IO[bytes]:
    """A file without a name, for a child to write to; it is gone when nobody has it open."""
    with contextlib.suppress(AttributeError, OSError):  # not every system has it, or lets us
        return open(os.memfd_create("scratch"), "w+b")
    import tempfile  # it takes longer than to make a copy

    return tempfile.TemporaryFile()


def _become(work: Callable[[], None], files: Tuple[int, int, int]) -> NoReturn:
    """Run as the copy, and exit without finishing what the copied process was doing."""
    status = 1
    try:
        gc.disable()  # what it would find belongs to files that are closed here
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for target, file in enumerate(files):
            os.dup2(file, target)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):  # that of the listing itself
                    os.close(int(name))
        sys.stdin = os.fdopen(0, "r")
        work()
        status = 0
    except BaseException:
        import traceback  # it costs the start of a command more than all of this module

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)

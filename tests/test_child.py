"""A copy of this process in place of a new interpreter: it serves, dies and is told of alike."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, Tuple

import pytest

from caffe_merge import child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")


def answered(work: Callable[[], None], said: bytes = b"") -> Tuple[bytes, int, bytes]:
    """What a copy that does ``work`` writes to stdout, its status, what it writes to stderr."""
    with child.scratch_file() as stderr:
        copy = child.Copy(work, stderr)
        copy.stdin.write(said)
        copy.stdin.close()
        out = copy.stdout.read()
        copy.stdout.close()
        status = copy.wait()
        assert copy.poll() == status
        stderr.seek(0)
        return out, status, stderr.read()


def test_it_has_pipes_of_its_own_and_what_this_process_has() -> None:
    here = {"made": b"before"}

    def work() -> None:
        os.write(1, here["made"] + sys.stdin.readline().encode())

    assert answered(work, b" asked\n") == (b"before asked\n", 0, b"")


def test_it_has_no_file_of_ours_open(tmp_path: Path) -> None:
    """A lock would outlive this process, and a pipe's end keep another worker waiting."""
    with (tmp_path / "locked").open("w") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)

        def work() -> None:
            held = [os.readlink(f"/proc/self/fd/{n}") for n in range(3, 64) if _is_open(n)]
            os.write(1, repr([path for path in held if str(tmp_path) in path]).encode())

        assert answered(work)[0] == b"[]"


def _is_open(number: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_an_error_is_its_status_and_on_stderr() -> None:
    def work() -> None:
        raise ValueError("out of order")

    out, status, output = answered(work)
    assert (out, status) == (b"", 1)
    assert output.rstrip().endswith(b"ValueError: out of order")


def test_a_scratch_file_is_on_the_disk_where_none_can_be_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert answered(lambda: os.write(2, b"done") and None) == (b"", 0, b"done")


def test_a_signal_is_told_as_subprocess_tells_it() -> None:
    assert answered(lambda: os.kill(os.getpid(), signal.SIGABRT))[1] == -signal.SIGABRT
    with child.scratch_file() as stderr:
        copy = child.Copy(signal.pause, stderr)
        assert copy.poll() is None
        copy.kill()
        assert copy.wait() == -signal.SIGKILL
        copy.kill()  # it is gone: nobody else's process is meant
        copy.stdin.close()
        copy.stdout.close()


def test_copies_are_for_a_process_that_is_ours_and_has_one_thread() -> None:
    """Not in a caller's process, nor while another thread may hold a lock."""
    code = (
        "import threading\nfrom caffe_merge import child\nprint(child.can_copy())\n"
        "child.allow_copies()\nprint(child.can_copy())\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(child.can_copy())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    assert not child.can_copy()  # here

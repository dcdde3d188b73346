"""Worker processes: what happens to one is told, and is its task's alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Dict, Optional

import pytest

from caffe_merge import child
from caffe_merge.batching import worker
from caffe_merge.batching.pool import DiedError, Pool, Worker
from tests.batching import tasks

CRASHES = [
    ("SIGSEGV", "crash", "its process crashed (SIGSEGV)"),
    ("SIGABRT", "crash", "its process crashed (SIGABRT)"),
    ("SIGBUS", "crash", "its process died of a bus error (SIGBUS): a file was cut off"),
    ("SIGKILL", "memory", "its process was killed (SIGKILL), as for lack of memory"),
    ("exit", "crash", "its process ended with status 3: words"),
    ("hang", "timeout", "it was not done within 0.5 s"),
]


def results(pool: Pool, *arguments: Any, limit: Optional[float] = None) -> Dict[Any, Any]:
    return dict(pool.map(arguments[0], [(key, (key,)) for key in arguments[1:]], limit))


def test_a_worker_is_warm() -> None:
    with Pool(1, tasks.nothing) as pool:
        assert results(pool, tasks.seen, "a", "b") == {"a": ["a"], "b": ["a", "b"]}
        assert results(pool, tasks.double, *range(5)) == {n: 2 * n for n in range(5)}
        assert dict(pool.map(tasks.chatter, [("x", ())])) == {"x": ""}


@pytest.mark.parametrize(("how", "kind", "reason"), CRASHES)
def test_what_happens_to_a_worker_is_its_tasks_failure(how: str, kind: str, reason: str) -> None:
    dying = Worker(tasks.nothing)
    with pytest.raises(DiedError) as caught:
        dying.ask(tasks.die, (how,), 0.5 if how == "hang" else 30)
    dying.close()
    assert caught.value.kind == kind
    assert caught.value.reason.startswith(reason)
    assert caught.value.seconds > (0.4 if how == "hang" else 0)


def test_a_dead_worker_is_replaced() -> None:
    with Pool(1, tasks.nothing) as pool:
        first = results(pool, tasks.seen, "a")
        died = results(pool, tasks.die, "SIGSEGV", "exit")
        assert {key: type(value) for key, value in died.items()} == {
            "SIGSEGV": DiedError,
            "exit": DiedError,
        }
        assert results(pool, tasks.seen, "b") == {"b": ["b"]}
    assert first == {"a": ["a"]}


def test_a_worker_that_dies_between_two_tasks_is_nobodys_failure() -> None:
    with Pool(1, tasks.nothing) as pool:
        pid = results(pool, tasks.process, "x")["x"]
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        again = results(pool, tasks.process, "y")["y"]
        assert isinstance(again, int)
        assert again != pid


def test_a_limit_that_is_reached_as_the_answer_comes_is_nobodys_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watchdog fires once the answer is there, and before it is called off."""
    receive = worker.receive

    def late(stream: IO[bytes]) -> Optional[bytes]:
        result = receive(stream)
        time.sleep(0.5)
        return result

    with Pool(1, tasks.nothing) as pool:
        pid = results(pool, tasks.process, "x")["x"]
        monkeypatch.setattr(worker, "receive", late)
        assert results(pool, tasks.process, "x", limit=0.3) == {"x": pid}
        monkeypatch.undo()
        assert isinstance(results(pool, tasks.process, "y", limit=30)["y"], int)


def test_who_stops_asking_stops_the_workers(tmp_path: Path) -> None:
    begun = [str(tmp_path / name) for name in "abc"]
    with Pool(2, tasks.nothing) as pool:
        arguments = [(begun[0], (begun[0], 0.0)), (begun[1], (begun[1], 60.0)),
                     (begun[2], (begun[2], 60.0))]  # fmt: skip
        for key, _ in pool.map(tasks.wait, arguments):
            assert key == begun[0]
            break
        while not os.path.exists(begun[1]):
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < 30
    assert os.path.exists(begun[1] + ".interrupted")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes here")
def test_what_a_worker_starts_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "outlived"
    with Pool(1, tasks.nothing) as pool:
        died = results(pool, tasks.spawn, str(path), limit=1.0)
    assert died[str(path)].kind == "timeout"
    time.sleep(1.5)
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes here")
def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    path = str(tmp_path / "outlived")
    code = (
        "from caffe_merge.batching.pool import Pool; from tests.batching import tasks; "
        f"[*Pool(1, tasks.nothing).map(tasks.spawn, [(1, ({path!r},))])]"
    )
    parent = subprocess.Popen(child.command(code))
    time.sleep(1.0)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    time.sleep(2.2)
    assert not os.path.exists(path)
    assert sys.executable

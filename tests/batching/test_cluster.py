"""A batch on a real scheduler of dask.distributed, with workers that die or see other files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from caffe_merge import child
from caffe_merge.batching import cluster
from caffe_merge.batching.cluster import Seen, Task, with_absolute_paths
from caffe_merge.errors import FileError, UsageError
from tests.batching.test_batch import journal, tree
from tests.batching.trees import net, pair, request

COMMAND = [sys.executable, "-m", "caffe_merge", "batch"]


class Dask:
    """A scheduler, and two workers of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self._log = open(folder / "log", "wb")  # noqa: SIM115 - closed by close()
        self._scheduler = self._start("dask_scheduler", "--port", "0", "--host", "127.0.0.1")
        while not self.file.exists():
            assert self._scheduler.poll() is None, "the scheduler ended"
            time.sleep(0.05)
        self.workers = [
            self._start("dask_worker", "--nthreads", "1", "--no-nanny") for _ in range(2)
        ]

    def _start(self, program: str, *args: str) -> "subprocess.Popen[bytes]":
        code = f"import sys; from distributed.cli.{program} import main; main()"
        arguments = ["--scheduler-file", str(self.file), "--no-dashboard", *args]
        return subprocess.Popen(
            [*child.command(code), *arguments], stdout=self._log, stderr=self._log
        )

    def close(self) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    pytest.importorskip("distributed")
    running = Dask(tmp_path)
    yield running
    running.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for number in range(8):
        pair(folder / "a", f"n{number}", net(4 + number))
    return folder


def batch(source: Path, out: str, *args: str) -> "subprocess.Popen[bytes]":
    arguments = [source.name, "--output-dir", out, "--report", f"{out}.json", "-q", *args]
    return subprocess.Popen([*COMMAND, *arguments], cwd=source.parent)


def test_a_worker_that_is_killed_in_the_middle(dask: Dask, source: Path) -> None:
    assert batch(source, "alone").wait() == 0
    process = batch(source, "OUT", "--scheduler", str(dask.file))
    log = source.parent / "OUT" / "caffe-merge-batch.jsonl"
    while process.poll() is None and not (log.exists() and b'"options"' in log.read_bytes()):
        time.sleep(0.01)
    os.kill(dask.workers[0].pid, signal.SIGKILL)
    assert process.wait(timeout=60) == 0
    assert len(journal(source.parent / "OUT")) == 8
    assert tree(source.parent / "OUT") == tree(source.parent / "alone")
    report = json.loads((source.parent / "OUT.json").read_text())
    assert report["totals"]["merged"] == 8


def test_a_pair_whose_workers_died_three_times_fails(dask: Dask, tmp_path: Path) -> None:
    pair(tmp_path, "x", net())
    (tmp_path / "journal").touch()
    code = f"""
from caffe_merge.batching.cluster import TRIES, Cluster
from tests.batching import tasks, trees
flags = dict(trees.request("x", "--output-dir", "y", "--validate", "none").flags, force=True)
flags.update(model="x.prototxt", weights="x.caffemodel", report=None)
flags.update(output_model="y.prototxt", output_weights="y.caffemodel")
with Cluster({str(dask.file)!r}, tasks.nothing, 1) as cluster:
    for number in range(TRIES):
        if number == TRIES - 1:
            given = [("x", flags)]
            (outcome,) = dict(cluster.outcomes(given, "journal", None, str)).values()
            print(outcome.ok, outcome.reason)
        cluster._client.log_event(f"{{cluster._run}}/x", {{"pair": "x"}})
    (outcome,) = dict(cluster.outcomes([("x", flags)], "journal", None, str)).values()
    print(outcome.ok, outcome.kind, outcome.reason)
"""
    done = subprocess.run(child.command(code), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    expected = ["True ", "False worker 4 workers that had it died"]
    assert done.stdout.splitlines() == expected


def test_a_cluster_on_this_machine(source: Path) -> None:
    pytest.importorskip("distributed")
    arguments = ["--scheduler", "local", "--jobs", "2", "--validate", "none"]
    assert batch(source, "OUT", *arguments).wait(timeout=120) == 0
    assert len(journal(source.parent / "OUT")) == 8


def test_no_scheduler() -> None:
    pytest.importorskip("distributed")
    done = subprocess.run(
        [*COMMAND, "tests", "--output-dir", "x", "--scheduler", "nonsense://1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2


def test_a_machine_that_can_have_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a loopback, or where nothing may be written to /dev/shm: Dask's own error."""
    distributed = pytest.importorskip("distributed")

    def start(**_: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", start)
    with pytest.raises(UsageError, match="no scheduler on this machine: Nanny failed to start"):
        cluster.Cluster("local", lambda: None, 1)


@pytest.mark.skipif("distributed" in sys.modules, reason="dask.distributed is here")
def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install caffe_merge\[cluster\]"):
        cluster.Cluster("local", lambda: None, 1)


def test_a_worker_says_what_it_does_not_see(tmp_path: Path) -> None:
    for name in ("x", "journal"):
        (tmp_path / name).write_text(name)
    path, log = str(tmp_path / "x"), str(tmp_path / "journal")
    seen = Seen.of(path)
    task = Task("x", {}, (seen,), log, None, "run")
    assert cluster._problem(task) is None
    assert "has caffe_merge" in str(cluster._problem(task._replace(version="0.0.0")))
    no_out = task._replace(journal=str(tmp_path / "elsewhere"))
    expected = "does not see the folder of the outputs: no "
    assert str(cluster._problem(no_out)).startswith(expected)
    (tmp_path / "x").write_text("y")
    assert cluster._problem(task) == f"sees another file: {path}"
    (tmp_path / "x").unlink()
    assert str(cluster._problem(task)).startswith(f"does not see an input: {path}: ")
    with pytest.raises(FileError):
        Seen.of(path)


def test_paths_are_absolute_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = dict(
        request("x", "--output-dir", "y", "--mean", "data=m.npy", "--input", "b=i.npy").flags
    )
    pair_ = dict.fromkeys(("model", "weights", "output_model", "output_weights"), "a/b")
    result = with_absolute_paths({**arguments, **pair_, "proto": "p.proto", "images": ["i"]})
    assert result["model"] == result["output_weights"] == str(tmp_path / "a" / "b")
    assert result["mean"] == f"data={tmp_path}/m.npy"
    assert result["input"] == [f"b={tmp_path}/i.npy"]
    assert result["proto"] == str(tmp_path / "p.proto")
    assert result["images"] == [str(tmp_path / "i")]
    assert with_absolute_paths({**arguments, **pair_, "mean": "1,2,3"})["mean"] == "1,2,3"

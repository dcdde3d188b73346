"""The client side: whatever a worker does, the caller gets frames or one line of error."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.validation import workers
from caffe_merge.validation.workers import Worker, find_caffe_python
from tests.speed import at_most

SERVE = """
import os, sys, time
sys.path[:] = {path!r}
import numpy as np
from caffe_merge.validation.caffe_worker import serve

def handle(job):
    {body}

serve(handle)
"""


def worker(tmp_path: Path, body: str, limit: float = 20.0) -> Worker:
    """A worker whose ``handle(job)`` has ``body``, in this process's environment."""
    code = SERVE.format(path=sys.path, body=body.replace("\n", "\n    "))
    script = tmp_path / "fake.py"
    script.write_text(code)
    return Worker([sys.executable, str(script)], limit)


def test_frames_arrive_with_their_arrays_whatever_the_worker_prints(tmp_path: Path) -> None:
    body = """
os.write(1, b"noise from a library")
print("noise from a layer")
for array in (np.arange(6, dtype=np.float32).reshape(2, 3), np.float64(7) + np.zeros(()),
              np.zeros((0, 3), np.float32), np.arange(6.0).reshape(2, 3).T,
              np.arange(3, dtype=">f4")):
    yield {"name": "\\u00e9"}, array
yield {"done": True}, None
"""
    with worker(tmp_path, body) as process:
        for _ in range(2):  # one process serves many jobs
            frames = list(process.ask({}))
            assert [frame.header.get("name") for frame in frames] == ["\u00e9"] * 5 + [None]
            arrays = [frame.array for frame in frames[:-1]]
            assert [array.shape for array in arrays] == [(2, 3), (), (0, 3), (3, 2), (3,)]
            assert [array.dtype.str for array in arrays] == ["<f4", "<f8", "<f4", "<f8", "<f4"]
            np.testing.assert_array_equal(arrays[3], np.arange(6.0).reshape(2, 3).T)
            np.testing.assert_array_equal(arrays[4], [0, 1, 2])


def test_an_abort_is_one_line_with_what_glog_said(tmp_path: Path) -> None:
    body = r"""
sys.stderr.write("I20260101 00:00:00.0 7 net.cpp:53] Initializing net\n")
sys.stderr.write("F20260101 00:00:00.0 7 blob.cpp:115] Check failed: data_ \n")
sys.stderr.write("*** Check failure stack trace: ***\n    @ 0x7f\n")
sys.stderr.flush()
os.abort()
"""
    with worker(tmp_path, body) as process, pytest.raises(ValidationError) as caught:
        process.call({})
    line = str(caught.value)
    assert line.endswith("died (SIGABRT): Check failed: data_")
    assert "\n" not in line
    assert not process.alive


def test_a_layer_type_that_caffe_does_not_have_is_named_with_the_ways_out(tmp_path: Path) -> None:
    body = r"""
sys.stderr.write("F0101 00:00:00.0 7 layer_factory.hpp:81] Check failed: registry.count(type) == 1 "
                 "(0 vs. 1) Unknown layer type: Axpy (known types: AbsVal, ArgMax)\n")
sys.stderr.flush()
os.abort()
"""
    with worker(tmp_path, body) as process, pytest.raises(
        ValidationError,
        match=r"has no layer type Axpy: name with caffe_python one that has it, or take another",
    ):
        process.call({})


def test_an_abort_over_bad_text_also_says_where_the_text_is_bad(tmp_path: Path) -> None:
    body = r"""
sys.stderr.write("[libprotobuf ERROR text_format.cc:3] Error parsing text-format "
                 "caffe.NetParameter: 1:12: no field named \"nme\".\n"
                 "F0101 00:00:00.0 7 upgrade_proto.cpp:90] Check failed: Failed to parse\n")
sys.stderr.flush()
os.abort()
"""
    with worker(tmp_path, body) as process, pytest.raises(ValidationError, match="1:12: no field"):
        process.call({})


def test_an_exception_is_reported_and_the_worker_goes_on(tmp_path: Path) -> None:
    body = 'yield {"done": 1 // job["by"]}, None'
    with worker(tmp_path, body) as process:
        with pytest.raises(ValidationError, match=r"^integer division or modulo by zero$"):
            process.call({"by": 0})
        assert process.call({"by": 1}) == {"done": 1}


def test_a_worker_that_dies_inside_an_array_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    script = tmp_path / "half.py"
    script.write_text(
        "import sys\nsys.stdin.readline()\n"
        'sys.stdout.write(\'{"shape": [100], "dtype": "<f4"}\\nshort\')\n'
    )
    with Worker([sys.executable, str(script)]) as process, pytest.raises(
        ValidationError, match=r"died \(status 0\): it said nothing"
    ):
        process.call({})


def test_any_amount_of_stderr_is_no_deadlock_and_its_end_is_quoted(tmp_path: Path) -> None:
    body = r"""
sys.stderr.write("x" * 79 + "\n" + ("y" * 79 + "\n") * 50000 + "the end\n")
sys.stderr.flush()
os._exit(3)
"""
    with worker(tmp_path, body) as process, pytest.raises(
        ValidationError, match=r"died \(status 3\): the end$"
    ):
        process.call({})


def test_a_long_complaint_is_cut(tmp_path: Path) -> None:
    body = 'raise ValueError("z" * 9999)\nyield'
    with worker(tmp_path, body) as process, pytest.raises(ValidationError) as caught:
        process.call({})
    assert len(str(caught.value)) == 400


def test_a_worker_that_hangs_is_killed_at_its_limit(tmp_path: Path) -> None:
    start = time.monotonic()
    body = 'print("reading the mean")\ntime.sleep(60)\nyield'
    limit = at_most(2)
    with worker(tmp_path, body, limit=limit) as process, pytest.raises(
        ValidationError,
        match=f"within {limit:g} s: give it more with time_limit; its last words: reading the mean",
    ):
        process.call({})
    assert time.monotonic() - start < limit + 18


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what a process started")
def test_a_script_whose_own_child_hangs_is_killed_with_it(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    start = time.monotonic()
    with Worker([str(script)], 1) as process, pytest.raises(
        ValidationError, match=r"did not finish within 1 s: give it more with time_limit$"
    ):
        process.call({"do": "open"})
    assert time.monotonic() - start < 20


def test_the_limit_is_per_job_not_for_the_workers_life(tmp_path: Path) -> None:
    with worker(tmp_path, 'time.sleep(0.3)\nyield {"done": True}, None', limit=5) as process:
        process.call({})
        process._limit = 0.6
        process.call({})
        time.sleep(0.7)  # a watchdog left running would kill it now
        assert process.call({}) == {"done": True}


def test_a_consumer_that_stops_early_leaves_no_process(tmp_path: Path) -> None:
    body = 'while True:\n    yield {"name": "a"}, np.zeros(1 << 20)'
    with worker(tmp_path, body) as process:
        frames = process.ask({})
        assert next(frames).header["name"] == "a"
        pid = process._process.pid
    assert not process.alive
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(pid, 0)


def test_an_interpreter_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"cannot run the interpreter /no/such/python: No"):
        Worker(["/no/such/python"])


@pytest.mark.parametrize("program", ["/bin/false", "/bin/echo"])
def test_an_interpreter_that_is_none_is_bad_usage(program: str) -> None:
    with Worker([program]) as process, pytest.raises(UsageError, match=r"cannot run the engine"):
        process.call({})


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text("import no_such_module")
    with Worker([sys.executable, str(script)]) as process, pytest.raises(
        UsageError, match=r"cannot run the engine .*No module named 'no_such_module'"
    ):
        process.call({})


def test_a_worker_that_is_dead_or_closed_takes_no_job(tmp_path: Path) -> None:
    with worker(tmp_path, "os._exit(3)") as process:
        for _ in range(2):
            with pytest.raises(ValidationError, match=r"died \(status 3\)"):
                process.call({})
    with pytest.raises(ValidationError, match="is closed"):
        process.call({})


def test_the_interpreter_named_in_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAFFE_MERGE_CAFFE_PYTHON", "/opt/caffe/python")
    assert find_caffe_python() == "/opt/caffe/python"


@pytest.mark.parametrize("has_caffe", [True, False])
def test_else_the_current_interpreter_if_it_has_caffe(
    monkeypatch: pytest.MonkeyPatch, has_caffe: Any
) -> None:
    monkeypatch.delenv("CAFFE_MERGE_CAFFE_PYTHON", raising=False)
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: has_caffe or None)  # type: ignore[attr-defined]
    assert find_caffe_python() == (sys.executable if has_caffe else None)

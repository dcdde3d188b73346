"""Workers that are kept: as good as new ones, and let go where they did not end well."""

from typing import Iterator

import pytest

from caffe_merge import child
from caffe_merge.errors import CaffeMergeError, ValidationError
from caffe_merge.validation import warm
from caffe_merge.validation.workers import Worker

SERVE = """
import os
from caffe_merge.validation.caffe_worker import serve
def handle(job):
    if job["do"] == "fail":
        raise ValueError("as asked")
    if job["do"] == "die":
        os.abort()
    yield {"name": "a"}, None
    yield {"done": True, "pid": os.getpid()}, None
serve(handle)
"""
COMMAND = child.command(SERVE)


@pytest.fixture
def kept() -> Iterator[None]:
    warm.keep()
    yield
    warm.end()


def pid(*jobs: str) -> int:
    """Of the worker that did these jobs and was closed."""
    with Worker(COMMAND) as worker:
        number = worker.call({"do": "anything"})["pid"]
        for job in jobs:
            worker.call({"do": job})
    return int(number)


def test_a_worker_is_not_kept_unless_asked() -> None:
    assert pid() != pid()


def test_a_worker_that_ended_well_does_the_next_job(kept: None) -> None:
    assert pid() == pid("more")
    with Worker(COMMAND) as first, Worker(COMMAND) as second:
        pids = {worker.call({"do": "anything"})["pid"] for worker in (first, second)}
    assert len(pids) == 2
    assert pid() in pids


@pytest.mark.parametrize("how", ["fail", "die"])
def test_a_worker_that_did_not_end_well_is_let_go(kept: None, how: str) -> None:
    first = pid()
    with pytest.raises(CaffeMergeError):
        pid(how)
    assert pid() != first


def test_a_worker_whose_answer_was_not_read_to_its_end_is_let_go(kept: None) -> None:
    first = pid()
    with Worker(COMMAND) as worker:
        next(worker.ask({"do": "anything"}))
    assert pid() != first


def test_a_closed_worker_is_closed(kept: None) -> None:
    worker = Worker(COMMAND)
    worker.call({"do": "anything"})
    worker.close()
    worker.close()
    with pytest.raises(ValidationError, match="is closed"):
        worker.ask({"do": "anything"})
    assert pid() == pid()

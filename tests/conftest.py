"""Fixtures for all tests: real Caffe, where this machine has one, and a checked merge."""

import os
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from caffe_merge.validation import warm
from caffe_merge.validation.workers import find_caffe_python
from tests import seeds
from tests.merger import Merger
from tests.real_caffe import RealCaffe

FORKS = "CAFFE_MERGE_FORKS_PYTHON"
COLD = {  # folders and files
    "batching",
    "test_caffe_worker.py",
    "test_child.py",
    "test_process.py",
    "test_sessions.py",
    "test_warm.py",
    "test_workers.py",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under `make fuzz` no test starts once the time is up."""
    if time.time() > float(os.environ.get("FUZZ_UNTIL", "inf")):
        pytest.skip("the time of this run is up")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Under `make fuzz` a failure says how to have it again."""
    if seeds.SEED is not None:
        for report in terminalreporter.getreports("failed"):
            terminalreporter.line(f"seed {seeds.SEED}; again: {seeds.replay(report.nodeid)}")


def _caffe(python: Optional[str], variable: str, folder: Path) -> Iterator[RealCaffe]:
    if not python:
        reason = f"no interpreter named by {variable}; `make test` makes one, or says why it cannot"
        if os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    caffe = RealCaffe(python, folder)
    yield caffe
    caffe.close()


@pytest.fixture(scope="session")
def real_caffe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCaffe]:
    """BVLC's Caffe; skips where there is none, unless CAFFE_MERGE_REQUIRE_CAFFE=1 forbids that."""
    folder = tmp_path_factory.mktemp("caffe")
    yield from _caffe(find_caffe_python(), "CAFFE_MERGE_CAFFE_PYTHON", folder)


@pytest.fixture(scope="session")
def forks_caffe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCaffe]:
    """A Caffe with the layers of many forks (tools/caffe_env.py --forks); skips likewise."""
    folder = tmp_path_factory.mktemp("forks_caffe")
    yield from _caffe(os.environ.get(FORKS), FORKS, folder)


@pytest.fixture(scope="module", autouse=True)
def _warm_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """The validations of a module share workers, as the pairs of a batch do: Caffe starts once.

    Not where starting, ending or sharing processes is what the tests are about.
    """
    if not COLD.isdisjoint(request.node.nodeid.split("/")):
        yield
        return
    warm.keep()
    yield
    warm.end()


@pytest.fixture
def merged(tmp_path: Path, request: pytest.FixtureRequest) -> Merger:
    """Merge a net and check all that holds for any merge, in real Caffe too where there is one."""
    expected = find_caffe_python() or os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") == "1"
    return Merger(tmp_path, request.getfixturevalue("real_caffe") if expected else None)

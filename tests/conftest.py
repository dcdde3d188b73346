"""Fixtures for all tests: real Caffe, where this machine has one, and a checked merge."""

import os
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from caffe_merge.validation.workers import find_caffe_python
from tests import seeds
from tests.merger import Merger
from tests.real_caffe import RealCaffe


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under `make fuzz` no test starts once the time is up."""
    if time.time() > float(os.environ.get("FUZZ_UNTIL", "inf")):
        pytest.skip("the time of this run is up")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Under `make fuzz` a failure says how to have it again."""
    if seeds.SEED is not None:
        for report in terminalreporter.getreports("failed"):
            terminalreporter.line(f"seed {seeds.SEED}; again: {seeds.replay(report.nodeid)}")


@pytest.fixture(scope="session")
def real_caffe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCaffe]:
    """Real Caffe; skips where there is none, unless CAFFE_MERGE_REQUIRE_CAFFE=1 forbids that."""
    python = find_caffe_python()
    if not python:
        reason = "no interpreter with Caffe: set CAFFE_MERGE_CAFFE_PYTHON"
        if os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    caffe = RealCaffe(python, tmp_path_factory.mktemp("caffe"))
    yield caffe
    caffe.close()


@pytest.fixture
def merged(tmp_path: Path, request: pytest.FixtureRequest) -> Merger:
    """Merge a net and check all that holds for any merge, in real Caffe too where there is one."""
    wanted = find_caffe_python() or os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") == "1"
    return Merger(tmp_path, request.getfixturevalue("real_caffe") if wanted else None)

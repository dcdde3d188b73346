"""What the tests of pages share: the library that makes them, and a pair."""

from pathlib import Path

import pytest

from tests.nets import Pair, write_pair
from tests.required import required


@pytest.fixture
def jinja() -> None:
    """Skip where no pages can be made."""
    required("jinja2", "html")


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Pair:
    """The net of the test's module, ``NET``, with seeded weights."""
    return write_pair(tmp_path, request.module.NET)

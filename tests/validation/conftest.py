"""Fixtures of the tests of validation."""

import pytest

from caffe_merge.validation import judging


@pytest.fixture
def few_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets run on as many sets of values as large ones do."""
    monkeypatch.setattr(judging, "_SMALL", 0)

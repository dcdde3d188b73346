"""Progress bars: on a terminal alone."""

import io
import sys

import pytest

from caffe_merge.command import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_bar_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress.bar("writing", "layer", quiet=False) is None


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    assert progress.bar("writing", "layer", quiet=True) is None
    bar = progress.bar("writing", "layer", quiet=False)
    assert bar is not None
    for done in (1, 2):
        bar(done, 2, "conv")

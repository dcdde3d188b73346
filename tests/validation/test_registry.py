"""The registry of engines: flags and errors read it, each row can start its worker."""

import argparse
import time
from pathlib import Path

import pytest

from caffe_merge.command import flags
from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.validation import warm
from caffe_merge.validation.registry import DEFAULT, ENGINES, NONE, engine, started


def test_flags_offer_every_engine() -> None:
    parser = argparse.ArgumentParser()
    flags.merge(parser)
    words = ["--model", "m", "--weights", "w"]
    for name in (*ENGINES, NONE):
        assert parser.parse_args([*words, "--validate", name]).validate == name
    assert parser.parse_args(words).validate == DEFAULT


def test_an_engine_that_is_none() -> None:
    with pytest.raises(UsageError, match="no engine is called 'x'; there are reference, pycaffe"):
        engine("x")


def test_each_has_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ENGINES["reference"].command(None)
    assert ENGINES["pycaffe"].command("/a/python")[0] == "/a/python"
    monkeypatch.setattr("caffe_merge.validation.workers.find_caffe_python", lambda: None)
    with pytest.raises(UsageError, match="no interpreter with Caffe: name one with caffe_python"):
        ENGINES["pycaffe"].command(None)


def test_an_engine_that_was_started_waits_for_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """To see whether it is here costs no process of its own: the first job is given to it."""
    row = ENGINES["reference"]._replace(built_in=False)
    monkeypatch.setitem(ENGINES, "other", row)
    monkeypatch.setattr(warm, "_kept", None)
    command = row.command(None)
    with started("other", None, None):
        kept = warm.take(command)
        assert kept is not None
        assert kept[0].poll() is None
        assert warm.give_back(command, *kept)
    assert warm.take(command) is None
    assert kept[0].poll() is not None, "it is stopped"
    with started("reference", None, None), started(NONE, None, None):
        assert warm.take(command) is None


def test_an_engine_that_hangs_is_given_up_at_the_limit_of_the_user(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    start = time.monotonic()
    with pytest.raises(ValidationError, match=r"0\.5 s"), started("pycaffe", str(python), 0.5):
        pass
    assert time.monotonic() - start < 30

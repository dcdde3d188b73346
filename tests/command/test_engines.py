"""The command engines: a row for each of the registry, from what its worker says of itself."""

import json
import sys
from pathlib import Path

import pytest

from caffe_merge.command.cli import main
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.validation.registry import ENGINES
from tests.real_caffe import RealCaffe


def test_what_is_not_here_is_told_with_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe_merge.validation.workers.find_caffe_python", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["engines"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "reference here, " in printed
    assert "pycaffe not here: " in printed
    assert "name one with --caffe-python or CAFFE_MERGE_CAFFE_PYTHON" in printed
    for engine in ("pycaffe", "opencv"):
        assert printed.count(ENGINES[engine].get) == 1


def test_real_caffe_says_what_it_lacks(
    real_caffe: RealCaffe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engines", "--json", "--caffe-python", real_caffe.python]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["engines"]}
    assert list(rows) == list(ENGINES)
    assert rows["pycaffe"]["version"] == "1.0.0"
    assert "BatchNorm" in rows["pycaffe"]["types"]
    assert "ReLU6" in rows["pycaffe"]["lacks"]


def test_the_reference_says_what_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["engines"]}
    types = set(rows["reference"]["types"])
    assert {"Convolution", "BN", "ReLU6"} <= types
    assert types <= CATALOGUE.keys(), "one that no text can name"


@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_a_caffe_that_crashes_is_not_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'libcaffe.so: cannot open shared object file' >&2\nexit 1\n")
    python.chmod(0o755)
    assert main(["engines", "--caffe-python", str(python)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "libcaffe.so: cannot open shared object file" in printed
    assert f"to get it: {ENGINES['pycaffe'].get}" in printed

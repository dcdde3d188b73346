"""A path that starts from a folder that is gone: one line, whichever file it is of."""

import os
from pathlib import Path
from typing import Dict, List

import pytest

from caffe_merge.command.cli import main
from tests.nets import prototxt, write_pair

TEXT = prototxt("data 1 3 4 4", "d: Dropout data -> d", "t: TanH d -> t")
PAIR = ["P", "W", "--output-model", "OP", "--output-weights", "OW", "--validate", "none"]


def nowhere() -> str:
    raise FileNotFoundError(2, "No such file or directory")


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge", "net.prototxt", *PAIR[1:]],
        ["merge", *PAIR[:3], "out.prototxt", *PAIR[4:]],
        ["merge", *PAIR, "--report", "r.json"],
        ["inspect", "net.prototxt"],
        ["batch", ".", "--output-dir", "OP"],
        ["batch", "FOLDER", "--output-dir", "out"],
    ],
)
def test_the_folder_of_the_process_is_gone(
    arguments: List[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = write_pair(tmp_path, TEXT, {"none": []})
    paths: Dict[str, str] = dict(zip("PW", map(str, pair)))
    paths.update(OP=str(tmp_path / "o.prototxt"), OW=str(tmp_path / "o.caffemodel"))
    paths["FOLDER"] = str(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getcwd", nowhere)
    before = sorted(tmp_path.iterdir())
    status = main([paths.get(argument, argument) for argument in arguments])
    monkeypatch.undo()
    error = capsys.readouterr().err
    assert status == 2
    assert error.endswith("is gone: give a path that begins with /\n")
    assert sorted(tmp_path.iterdir()) == before

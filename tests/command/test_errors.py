"""Errors as the command prints them: one line, an exit status, a traceback if asked for."""

from pathlib import Path
from typing import List, NoReturn

import pytest

from caffe_merge.command.cli import main, merge_bn
from caffe_merge.net import loading
from tests.command.test_cli import TEXT, flags
from tests.nets import write_pair


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--limit", "0", "a number above 0"),
        ("--limit", "inf", "a number above 0"),
        ("--limit", "nan", "a number above 0"),
        ("--limit", "much", "a number above 0"),
        ("--input-scale", "-2", "a number above 0"),
        ("--seed", "-1", "a whole number of at least 0"),
        ("--seed", "1.5", "a whole number of at least 0"),
        ("--seed", "9" * 5000 + "x", "a whole number of at least 0"),
    ],
)
def test_a_number_that_makes_no_sense(
    flag: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge_bn(["--model", "p", "--weights", "w", f"{flag}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        f"merge_bn.py: error: argument {flag}: expected {expected}, found {value}"
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_a_bug_of_ours_is_one_line_and_a_traceback_with_v(
    verbose: List[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(loading, "load", broken)
    assert main(["inspect", "--model", "p", *verbose]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *before, last = err.splitlines()
    line = "internal error, please report it: ZeroDivisionError: by\\nnothing"
    assert last == f"caffe-merge: error: {line}"
    assert bool(before) == bool(verbose)
    assert ("Traceback (most recent call last):" in before) == bool(verbose)


def test_an_error_has_its_traceback_with_v(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.prototxt"
    for verbose, traceback in ([], False), (["-v"], True):
        assert main(["inspect", "--model", str(path), *verbose]) == 2
        err = capsys.readouterr().err
        assert err.splitlines()[-1] == f"caffe-merge: error: {path}: No such file or directory"
        assert err.startswith("Traceback") == traceback


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "x.txt"], "--labels needs --images"),
        (["--image-scale", "3"], "--image-scale needs --images"),
        (["--image-mean", "1,2,3"], "--image-mean needs --images"),
        (["--image-rgb", "--validate", "none"], "--image-rgb needs --images"),
        (
            ["--images", "nope", "--validate", "none"],
            "--images needs an engine, not --validate none",
        ),
    ],
)
def test_no_flag_of_images_is_ignored(
    arguments: List[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write_pair(tmp_path, TEXT)
    assert merge_bn(flags(pair, *arguments)) == 2
    assert capsys.readouterr().err == f"merge_bn.py: error: {message}\n"

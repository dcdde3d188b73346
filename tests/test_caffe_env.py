"""tools/caffe_env.py keeps an interpreter that the user names, and says what cannot be had."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Tuple

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "caffe_env.py"

VARIABLES = {(): "CAFFE_MERGE_CAFFE_PYTHON", ("--forks",): "CAFFE_MERGE_FORKS_PYTHON"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs sh")


def python(folder: Path, status: int) -> str:
    """A command that says yes or no to whatever Python code it is given."""
    path = folder / f"python-{status}"
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def tool(folder: Path, *flags: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the tool where no other interpreter can be found."""
    environment: Dict[str, str] = {
        key: value for key, value in os.environ.items() if not key.startswith("CAFFE_MERGE_")
    }
    environment.update(variables, PATH=str(folder), HOME=str(folder), PYENV_ROOT=str(folder))
    command = [sys.executable, str(TOOL), *flags, str(folder / "env")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("flags", VARIABLES)
def test_what_the_user_names_is_kept(tmp_path: Path, flags: Tuple[str, ...]) -> None:
    named = python(tmp_path, 0)
    done = tool(tmp_path, *flags, **{VARIABLES[flags]: named})
    assert (done.returncode, done.stdout, done.stderr) == (0, named + "\n", "")
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("flags", VARIABLES)
def test_a_named_one_without_caffe_is_an_error(tmp_path: Path, flags: Tuple[str, ...]) -> None:
    for named in (python(tmp_path, 1), str(tmp_path / "none")):
        done = tool(tmp_path, *flags, **{VARIABLES[flags]: named})
        said = f"{VARIABLES[flags]}={named}: this interpreter cannot import caffe\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "No real Caffe: no Python 3.6 to 3.9 was found"),
        (("--forks",), "No Caffe with the layers of forks: no Python 3.10 was found"),
    ],
)
def test_what_cannot_be_had_is_said(tmp_path: Path, flags: Tuple[str, ...], reason: str) -> None:
    done = tool(tmp_path, *flags)
    said = f"{reason} on PATH or under pyenv. Tests that need it are skipped.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    assert tool(tmp_path, *flags, CAFFE_MERGE_REQUIRE_CAFFE="1").returncode == 1

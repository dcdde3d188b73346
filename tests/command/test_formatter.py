"""Help texts are as argparse lays them out, and cost less."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

import caffe_merge
from caffe_merge.command import formatter


@pytest.mark.parametrize("columns", ["", "60", "200", "0", "wide"])
def test_help_is_as_wide_as_argparse_would_have_it(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    formatter.width.cache_clear()
    assert formatter.HelpFormatter("p")._width == argparse.HelpFormatter("p")._width
    formatter.width.cache_clear()


def test_no_flag_imports_shutil() -> None:
    code = "import sys\nfrom caffe_merge.command.cli import all_commands\n"
    code += "before = 'shutil' in sys.modules\n"  # older Pythons have it in other modules
    code += "all_commands(first='merge')\nprint('shutil' in sys.modules and not before)"
    command = [sys.executable, "-S", "-c", code]
    path = {**os.environ, "PYTHONPATH": str(Path(caffe_merge.__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=path)
    assert done.stdout == "False\n"

"""``--completion SHELL``: a script by which a shell completes commands, flags and files."""

from __future__ import annotations

import argparse
from typing import Any

from caffe_merge.errors import UsageError


def add_flag(parser: argparse.ArgumentParser) -> None:
    """``--completion SHELL``: what a shell needs to complete the commands and their flags."""
    parser.add_argument(
        "--completion",
        action=_PrintCompletion,
        default=argparse.SUPPRESS,  # it is no option of a pair: a batch writes those down
        metavar="SHELL",
        help="print the completion script for bash, zsh or another shell, and exit",
    )


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *values: Any) -> None:
        try:
            import shtab
        except ImportError:
            raise UsageError(
                "completion needs shtab: pip install caffe_merge[completion]"
            ) from None

        shell = values[1]
        if shell not in shtab.SUPPORTED_SHELLS:
            shells = ", ".join(shtab.SUPPORTED_SHELLS)
            raise UsageError(f"--completion: expected one of {shells}, found {shell!r}")
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, with_files: Any) -> None:
    """Have what names a file be completed with the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, with_files)
        elif action.dest in _FILES:
            action.complete = with_files  # type: ignore[attr-defined]


_FILES = (
    "pair", "model", "weights", "output_model", "output_weights", "proto", "report", "mean",
    "sources", "output", "output_dir", "images", "labels", "caffe_python",
)  # fmt: skip

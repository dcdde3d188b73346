"""How help texts are laid out."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=None)
def width() -> int:
    """The columns of a help text: argparse asks shutil for them, and imports that, at each flag."""
    with suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
        if columns > 0:
            return columns - 2
    with suppress(AttributeError, ValueError, OSError):
        columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
        if columns > 0:
            return columns - 2
    return 78


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, of our width."""

    def __init__(self, prog: str, **how: Any) -> None:
        super().__init__(prog, **{"width": width(), **how})


class WithExamples(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of the examples as they are."""

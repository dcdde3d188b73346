"""What flags do with their values beyond keeping them."""

from __future__ import annotations

import argparse
from typing import Any, Optional

from caffe_merge.errors import UsageError

LIST = "list"  # as the name of a target


class Once(argparse.Action):
    """Takes one value; a second one would replace the first without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, space: Any, value: Any, option: Optional[str] = None
    ) -> None:
        earlier = getattr(space, self.dest, None)
        if earlier is not None and earlier != value:
            raise UsageError(f"{option} is given twice, {earlier!r} and {value!r}: expected one")
        setattr(space, self.dest, value)


class ListTargets(Exception):  # noqa: N818 - it is no error
    """The user asks which targets there are, whatever else he says or leaves out."""


class Target(Once):
    """The name of a target. Raises ListTargets for ``list``."""

    def __call__(
        self, parser: argparse.ArgumentParser, space: Any, value: Any, option: Optional[str] = None
    ) -> None:
        if value == LIST:
            raise ListTargets
        super().__call__(parser, space, value, option)

"""What commands print: lines of text or JSON on stdout, messages on stderr."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, TextIO

from caffe_merge.command.flags import flag_of
from caffe_merge.errors import FileError, spelled_in


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Have a stdout that cannot be written be an error like that of any file.

    One that nobody reads any more, as behind ``| head``, is none: what is still to come is dropped,
    and the command goes on to its own exit status.
    """
    try:
        yield
    except OSError as error:
        _discard(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise FileError(f"stdout: {error.strerror or error}") from None


def _discard(stream: TextIO) -> None:
    """Have all that is still to come on ``stream`` go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_lines(lines: Iterable[str]) -> None:
    """Print ``lines`` on stdout. Raises FileError where it cannot be written."""
    for line in lines:
        with printing():
            write(sys.stdout, line)


def print_messages(lines: Iterable[str]) -> None:
    """Print ``lines`` on stderr. Where it cannot be written the run goes on: its status tells."""
    try:
        for line in lines:
            write(sys.stderr, line)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def tell(
    options: argparse.Namespace,
    lines: Callable[[], Iterable[str]],
    to_json: Callable[[], Dict[str, Any]],
) -> None:
    """The result of a command, as text, as JSON, or not at all."""
    if options.json:
        import json

        text = json.dumps(spelled_in(to_json(), flag_of), indent=1, allow_nan=False)
        print_lines(text.splitlines())
    elif not options.quiet:
        print_lines(lines())


def write(stream: TextIO, line: str) -> None:
    """All that a command prints goes through here: names of a file may be anything."""
    from caffe_merge.wording import visible

    text = visible(line) + "\n"
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

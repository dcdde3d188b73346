"""Opening the files of a user: they may be missing, or no files."""

from __future__ import annotations

import contextlib
from typing import BinaryIO, Iterator

from caffe_merge.errors import FileError
from caffe_merge.files.places import check_file


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file at ``path``, open to read. Raises FileError where it is none, or cannot be read."""
    check_file(path)
    try:
        with open(path, "rb") as handle:
            yield handle
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(str(error.strerror or error), path=path) from None

"""A weights file read in place, piece by piece, when somebody asks for one.

The file is not mapped into memory: if another program truncates a mapped file, reading it ends the
process with a bus error. A read that returns fewer bytes than expected is a FileError instead.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any, Tuple, Union, overload

import numpy as np

from caffe_merge.arrays import Array
from caffe_merge.errors import FileError
from caffe_merge.files.identity import CHANGED, Identity

_PAGE = 1 << 12  # bytes that are read for who wants a few
_AT_ONCE = 1 << 30  # bytes: no system reads more in one call than 2 GB
_PAST = 16  # bytes of a page that are there at least, but at the end of the file: a varint
_SCANNED = 1 << 18  # items


class Source:
    """The bytes of an open file: a buffer, but each slice of it is read anew.

    Raises FileError where the file has changed since it was opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._opened = Identity.of(os.fstat(self._descriptor))
        # Bytes, where they begin, and the last place from which on they are enough.
        self._page: Tuple[bytes, int, int] = b"", 0, -1
        self._seek = Lock()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __len__(self) -> int:
        return self._opened.size

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> bytes: ...

    def __getitem__(self, key: Union[int, slice]) -> Union[int, bytes]:
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            return self.read(start, stop)
        if not 0 <= key < len(self):
            raise IndexError(key)
        page, low = self.page(key)
        return page[key - low]

    def page(self, at: int) -> Tuple[bytes, int]:
        """Bytes that hold those from ``at`` on, enough for a varint; and where they begin."""
        page, low, last = self._page
        if not low <= at <= last:
            page, low = self.read(at, min(at + _PAGE, len(self))), at
            self._page = page, low, low + len(page) - _PAST
        return page, low

    def read(self, start: int, end: int) -> bytes:
        """The bytes ``start`` to ``end``."""
        parts = []
        while start < end:
            part = self._read(min(end - start, _AT_ONCE), start)
            if not part:
                self.check()
                raise FileError(CHANGED, path=self.path)
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, size: int, at: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                return os.pread(self._descriptor, size, at)
            with self._seek:  # Windows
                os.lseek(self._descriptor, at, os.SEEK_SET)
                return os.read(self._descriptor, size)
        except OSError as error:
            raise FileError(str(error.strerror or error), path=self.path) from None

    def read_ahead(self) -> None:
        """Have the system read the whole file into its cache."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_WILLNEED)

    def check(self) -> None:
        """Raise FileError where the file was changed since it was opened."""
        if Identity.of(os.fstat(self._descriptor)) != self._opened:
            raise FileError(CHANGED, path=self.path)


Bytes = Union[bytes, memoryview]
Buffer = Union[Bytes, Source]


class Span:
    """``length`` values of a Source from byte ``at`` on: a flat array, but each slice is read anew.

    An item may be a structure; then only its field ``value`` is read.
    """

    def __init__(self, source: Source, item: np.dtype, length: int, at: int) -> None:
        self.dtype: np.dtype = item if item.names is None else item["value"]
        self._source = source
        self._item = item
        self._length = length
        self._at = at

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: slice) -> Array:
        start, stop, step = key.indices(self._length)
        stop = max(start, stop)
        size = self._item.itemsize
        data = self._source.read(self._at + start * size, self._at + stop * size)
        items: Any = np.frombuffer(data, self._item)
        array: Array = (items if self._item.names is None else items["value"])[::step]
        return array


Values = Union[Array, Span]


def values(buffer: Buffer, item: np.dtype, length: int, at: int) -> Values:
    """``length`` values at byte ``at`` of a buffer: read-only, and read when they are asked for."""
    if isinstance(buffer, Source):
        return Span(buffer, item, length, at)
    items: Any = np.frombuffer(buffer, item, length, at)
    array: Array = items if item.names is None else items["value"]
    return array


def run_length(buffer: Buffer, item: np.dtype, tag: int, at: int, end: int) -> int:
    """How many items from ``at`` on, at most to ``end``, have this ``tag`` as their first field."""
    size = item.itemsize
    most = (end - at) // size
    for start in range(0, most, _SCANNED):
        count = min(_SCANNED, most - start)
        low = at + start * size
        tags = np.frombuffer(buffer[low : low + count * size], item)["tag"]
        other = np.flatnonzero(tags != tag)
        if len(other):
            return start + int(other[0])
    return most

"""The formats of weights, a row each: how a file is recognised, opened and written."""

import os
from typing import BinaryIO, Callable, Iterable, NamedTuple, Optional, Tuple

from caffe_merge.errors import FileError, WeightsError
from caffe_merge.files.places import check_file
from caffe_merge.formats.weights.index import Entry, Index
from caffe_merge.formats.weights.source import Buffer, Source

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGE = 4 << 20  # bytes: a smaller file is read whole, at once


class Format(NamedTuple):
    """A row: the ``kind`` of its Index, the extensions of its files, and how these are handled.

    ``write(handle, path, index, entries, name)`` writes ``entries`` to the open ``handle``, which
    is to be ``path``; ``index`` is that of the input, if it has one, and ``name`` the net's.
    ``last_of_name``: Caffe gives weights to the last layer of their name, not the first (net.cpp).
    """

    kind: str
    extensions: Tuple[str, ...]
    is_it: Callable[[Buffer], bool]
    open: Callable[[Buffer, str, bool], Index]
    write: Callable[[BinaryIO, str, Optional[Index], Iterable[Entry], str], None]
    last_of_name: bool = False


def _is_hdf5(buffer: Buffer) -> bool:
    """Whether HDF5's signature stands where H5Fis_hdf5 looks for it: at 0, 512, 1024, 2048 ..."""
    at = 0
    while at < len(buffer):
        if buffer[at : at + len(HDF5_SIGNATURE)] == HDF5_SIGNATURE:
            return True
        at = 2 * at or 512
    return False


def _open_hdf5(buffer: Buffer, path: str, keep_half: bool) -> Index:
    from caffe_merge.formats.weights.hdf5 import Hdf5Index  # needs h5py

    return Hdf5Index(buffer, path, keep_half=keep_half)


def _write_hdf5(
    handle: BinaryIO, path: str, index: Optional[Index], entries: Iterable[Entry], name: str
) -> None:
    from caffe_merge.formats.weights import hdf5

    hdf5.write(handle, path, entries)


def _open_caffemodel(buffer: Buffer, path: str, keep_half: bool) -> Index:
    from caffe_merge.formats.weights.caffemodel import Caffemodel

    return Caffemodel(buffer, path, keep_half=keep_half)


def _write_caffemodel(
    handle: BinaryIO, path: str, index: Optional[Index], entries: Iterable[Entry], name: str
) -> None:
    from caffe_merge.files.writing import Behind, room
    from caffe_merge.formats.weights import writer

    size = index.size if index is not None else 0  # it grows where weights are unshared
    with room(handle, size), Behind(handle) as behind:
        writer.write(behind, index, entries, name)


# A caffemodel has no signature: what is nothing else is read as one.
FORMATS = (
    Format("hdf5", (".h5", ".hdf5"), _is_hdf5, _open_hdf5, _write_hdf5, last_of_name=True),
    Format(
        "caffemodel", (".caffemodel",), lambda buffer: True, _open_caffemodel, _write_caffemodel
    ),
)


def open_index(path: str, *, keep_half: bool = False) -> Index:
    """Open the weights at ``path``, of a format by their content, and index them.

    Raises FileError where it cannot be opened, WeightsError where it is something else.
    """
    check_file(path)
    try:
        source = Source(path)
    except OSError as error:
        raise FileError(str(error.strerror or error), path=path) from None
    if not len(source):
        raise WeightsError("the file is empty", path=path)
    buffer: Buffer = source
    if len(source) < _LARGE:
        buffer = memoryview(source.read(0, len(source)))
        source.check()
    row = next(row for row in FORMATS if row.is_it(buffer))
    return row.open(buffer, path, keep_half)


def format_of(index: Index) -> Format:
    """The format that ``index`` is of."""
    return next(row for row in FORMATS if row.kind == index.kind)


def format_for(path: str, index: Optional[Index]) -> Format:
    """The format of weights to be written at ``path``: by its name, else that of ``index``."""
    extension = os.path.splitext(path)[1].lower()
    by_name = [row for row in FORMATS if extension in row.extensions]
    if by_name:
        return by_name[0]
    return FORMATS[-1] if index is None else format_of(index)

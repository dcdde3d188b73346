"""Weights in HDF5: ``/data/<layer>/<blob number>``, read into an Index, and written.

What is stored in one piece is read from its place, like a blob of a caffemodel; what is
chunked, compressed or of another number type is one of a temporary file. The file is read by
another process (hdf5_reader.py), as libhdf5 may crash on one that is damaged. A group for every
layer, blobs that another layer owns left out: net.cpp, ToHDF5 and CopyTrainedLayersFromHDF5.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, BinaryIO, Dict, Iterable, List

import numpy as np

from caffe_merge import child
from caffe_merge.arrays import count
from caffe_merge.errors import FileError, UsageError, WeightsError
from caffe_merge.formats.schema import strings
from caffe_merge.formats.weights.blobs import BLOCK, DOUBLE, FLOAT, HALF, Blob, Stored
from caffe_merge.formats.weights.index import Entry, Index, LayerRecord
from caffe_merge.formats.weights.source import Buffer, values
from caffe_merge.formats.weights.writer import check_finite

_DATA = "data"
_DTYPES: Dict[str, np.dtype] = {"<f2": HALF, "<f4": FLOAT, "<f8": DOUBLE}
_TRAILER = 8  # bytes
_SECONDS, _SECONDS_PER_MB = 60.0, 1.0  # that reading may take: thirty times what it does take
# The file may be locked by us; a BLAS reserves memory for each of its threads.
_ENVIRONMENT = {"HDF5_USE_FILE_LOCKING": "FALSE", "OPENBLAS_NUM_THREADS": "1"}
_RUN = "from caffe_merge.formats.weights.hdf5_reader import main; main()"


def _missing(path: str) -> UsageError:
    return UsageError("weights in HDF5 need h5py: pip install caffe_merge[hdf5]", path=path)


def _library(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise _missing(path) from None
    return h5py


class Hdf5Index(Index):
    """The index of an HDF5 file: its records have blobs and no bytes."""

    kind = "hdf5"
    has_bytes = False

    def __init__(self, buffer: Buffer, path: str, *, keep_half: bool = False) -> None:
        super().__init__(buffer, path, keep_half)
        self._values, listing = _run(path, len(buffer))
        if "error" in listing:
            layer, blob = listing.get("layer"), listing.get("blob")
            raise WeightsError(listing["error"], path=path, layer=layer, blob=blob)
        self.layers = [self._record(order, layer) for order, layer in enumerate(listing["layers"])]

    def _record(self, order: int, stored: Dict[str, Any]) -> LayerRecord:
        name = strings.decode(bytes.fromhex(stored["name"]))
        blobs: List[Stored] = []
        for blob in stored["blobs"]:
            source = self._values if blob["made"] else self.buffer
            shape, dtype = tuple(blob["shape"]), _DTYPES[blob["dtype"]]
            if blob["at"] + count(shape) * dtype.itemsize > len(source):
                message = "its values reach beyond the end of the file"
                number = stored["numbers"][len(blobs)]
                raise WeightsError(message, path=self.path, layer=name, blob=number)
            held = values(source, dtype, count(shape), blob["at"])
            blobs.append(Stored(shape, held, keep_half=self.keep_half))
        return LayerRecord(name, order, 0, 0, tuple(blobs), numbers=tuple(stored["numbers"]))


def _death(status: int, message: bytes) -> str:
    import signal

    if status < 0:
        return signal.Signals(-status).name
    return message.decode("utf-8", "replace").strip().split("\n")[-1] or f"status {status}"


def _run(path: str, size: int) -> tuple[Buffer, Dict[str, Any]]:
    """What the reader's process writes: values that it made, and what it found."""
    import importlib.util
    import json
    import subprocess
    import tempfile

    if importlib.util.find_spec("h5py") is None:
        raise _missing(path)
    limit = _SECONDS + _SECONDS_PER_MB * size / 1e6
    try:
        with tempfile.TemporaryFile(prefix="caffe_merge_") as handle:
            done = subprocess.run(
                [*child.command(_RUN), os.path.abspath(path)],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.PIPE,
                timeout=limit,
                check=False,
                env={**os.environ, **_ENVIRONMENT},
            )
            if done.returncode:
                reason = f"its reader died ({_death(done.returncode, done.stderr)})"
                raise WeightsError(f"not a whole HDF5 file: {reason}", path=path)
            mapped = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except subprocess.TimeoutExpired:
        reason = f"expected it to be read in {limit:.0f} seconds"
        raise WeightsError(f"not a whole HDF5 file: {reason}", path=path) from None
    except OSError as error:
        if isinstance(error, WeightsError):
            raise
        raise FileError(f"cannot read it: {error.strerror or error}", path=path) from None
    end = len(mapped) - _TRAILER
    text = mapped[end - int.from_bytes(mapped[end:], "little") : end]
    return mapped, json.loads(bytes(text))


def write(handle: BinaryIO, path: str, entries: Iterable[Entry]) -> None:
    """Write ``entries`` to the open ``handle``; ``path`` is for errors.

    Raises WeightsError for a name that the layout cannot hold, and where a value is not finite.
    """
    h5py = _library(path)
    # By its handle: a path would have to be opened again, and it is locked.
    with h5py.File(handle, "w") as file:
        data = file.create_group(_DATA)
        for entry in entries:
            stored = entry.blobs or (entry.record.blobs if entry.record else ())
            if not stored and not _holds(entry.name):
                continue
            if not _holds(entry.name):
                message = "weights in HDF5 cannot have a layer of this name; write a .caffemodel"
                raise WeightsError(message, path=path, layer=entry.name)
            group = data.create_group(strings.encode(entry.name))
            numbers = None if entry.blobs or not entry.record else entry.record.numbers
            for number, blob in zip(numbers or range(len(stored)), stored):
                if number not in entry.shared:
                    _write(group, number, blob, entry.name)


def _holds(name: str) -> bool:
    """Whether Caffe can write and read back a group of this name: / makes a group in a group."""
    return name not in ("", ".") and "/" not in name and "\0" not in name


def _write(group: Any, number: int, blob: Blob, layer: str) -> None:
    dataset = group.create_dataset(str(number), blob.shape, blob.dtype, track_times=False)
    if not count(blob.shape):
        return
    if not blob.shape:
        values = blob.rounded()
        check_finite(values, layer, number)
        dataset[()] = values.reshape(())
        return
    step = max(BLOCK // count(blob.shape[1:]), 1)
    for start in range(0, blob.shape[0], step):
        rows = blob.rounded(slice(start, start + step))
        check_finite(rows, layer, number)
        dataset[start : start + step] = rows

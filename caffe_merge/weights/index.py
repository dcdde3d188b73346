"""The index of a caffemodel: each layer's name, type and blobs as ranges of the mapped file.

weights/blobproto.py reads the blobs, weights/hdf5.py the same index from an HDF5 file.
"""

import contextlib
import mmap
import os
from threading import Thread
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge import strings
from caffe_merge.errors import FileError, WeightsError
from caffe_merge.weights import solverstate
from caffe_merge.weights.blobproto import read_blob
from caffe_merge.weights.blobs import Stored
from caffe_merge.weights.wire import BYTES, Buffer, Record, records

NET_LAYER, NET_V1_LAYER = 100, 2
LAYER_NAME, LAYER_BLOBS = 1, 7
_V1_V0, _V1_NAME, _V1_BLOBS = 1, 4, 6  # of V1LayerParameter, the first being its V0LayerParameter
_V0_NAME, _V0_BLOBS = 1, 50

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_READ_AHEAD = 1 << 20  # bytes: a smaller file is there at once
MAX_FIELDS = 500_000  # of the net and its layers; with MAX_PARTS a bound on time and memory


class LayerRecord(NamedTuple):
    """One layer of the file: its bytes (``at`` .. ``end`` with tag and length) and its blobs.

    ``numbers`` says which of its layer's blobs they are where some may be left out (HDF5). ``old``
    is a record of the V0 or V1 format: of its bytes only those of the blobs are of use.
    """

    name: str
    at: int
    start: int
    end: int
    blobs: Tuple[Stored, ...]
    numbers: Optional[Tuple[int, ...]] = None
    old: bool = False

    @property
    def as_is(self) -> bool:
        """Whether its bytes can be copied as they are."""
        return all(blob.as_is for blob in self.blobs)


class Index:
    """A mapped caffemodel. ``layers`` in file order; ``others`` are the remaining net fields.

    With ``keep_half`` blobs in half precision stay so, else they are written as float32.
    """

    is_hdf5 = False  # then the records have no bytes
    format = ""  # "V0" or "V1" of an old file

    def __init__(self, buffer: Buffer, path: str = "<weights>", *, keep_half: bool = False) -> None:
        self.path = path
        self.keep_half = keep_half
        self.buffer = buffer
        self.layers: List[LayerRecord] = []
        self.others: List[Record] = []
        self._fields = 0
        state = solverstate.described(buffer[: solverstate.HEAD])
        if state is not None:
            raise WeightsError(f"expected a caffemodel, found {state}", path=path)
        old: List[_Layer] = []
        try:
            for record in self._records(0, len(buffer)):
                if record.number == NET_LAYER and record.wire_type == BYTES:
                    layer = self._layer(record, LAYER_NAME, LAYER_BLOBS)
                    self.layers.append(self._stored(layer))
                elif record.number == NET_V1_LAYER and record.wire_type == BYTES:
                    old.append(self._layer(record, _V1_NAME, _V1_BLOBS, _V1_V0))
                else:
                    self.others.append(record)
            if old:
                self._upgrade(old)
        except WeightsError as error:
            if error.path is not None:
                raise
            raise WeightsError(f"not a whole caffemodel: {error}", path=path) from None
        if not self.layers:
            raise WeightsError("no layers in it: not a caffemodel", path=path)

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.buffer)

    def read_ahead(self) -> None:
        """Have another thread bring in the whole file, for who will need all of it.

        It touches every page, and nobody waits for it.
        """
        if self.size < _READ_AHEAD:
            return
        pages = np.frombuffer(self.buffer, np.uint8)[:: mmap.PAGESIZE]
        with contextlib.suppress(RuntimeError):  # no thread can be had: it is read when it is used
            Thread(target=pages.max, daemon=True).start()

    def by_name(self) -> Dict[str, LayerRecord]:
        """The record of each layer name; of several the last, which is the one Caffe ends with."""
        return {layer.name: layer for layer in self.layers}

    def _records(self, at: int, end: int) -> Iterator[Record]:
        for record in records(self.buffer, at, end):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise WeightsError(f"expected at most {MAX_FIELDS} fields")
            yield record

    def _layer(self, record: Record, name: int, blobs: int, inner: int = 0) -> "_Layer":
        """What ``record`` has in the fields of these numbers."""
        layer = _Layer(record)
        for field in self._records(record.start, record.end):
            if field.wire_type != BYTES:
                continue
            if field.number == name:
                layer.name = strings.decode(bytes(self.buffer[field.start : field.end]))
            elif field.number == blobs:
                layer.blobs.append(field)
            elif field.number == inner:
                layer.inner.append(field)
        return layer

    def _upgrade(self, old: List["_Layer"]) -> None:
        """Take in the layers of an old file; if one is of the V0 format all are, as for Caffe."""
        if self.layers:
            both = "expected `layer` or `layers`, found both in one file; Caffe refuses it too"
            raise WeightsError(both, path=self.path)
        self.format = "V0" if any(layer.inner for layer in old) else "V1"
        for layer in old:
            if self.format == "V0":
                parts = [self._layer(inner, _V0_NAME, _V0_BLOBS) for inner in layer.inner]
                layer.name = next((part.name for part in reversed(parts) if part.name), "")
                layer.blobs = [blob for part in parts for blob in part.blobs]
            self.layers.append(self._stored(layer)._replace(old=True))

    def _stored(self, layer: "_Layer") -> LayerRecord:
        stored = []
        for number, blob in enumerate(layer.blobs):
            try:
                stored.append(read_blob(self.buffer, blob, self.keep_half))
            except WeightsError as error:
                path, name = self.path, layer.name
                raise WeightsError(str(error), path=path, layer=name, blob=number) from None
        record = layer.record
        return LayerRecord(layer.name, record.at, record.start, record.end, tuple(stored))


class _Layer:
    """One layer on the wire: its name, its blobs, and the records of another format in it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.name = ""
        self.blobs: List[Record] = []
        self.inner: List[Record] = []


def open_index(path: str, *, keep_half: bool = False) -> Index:
    """Map the weights at ``path``, a caffemodel or HDF5 by its content, and index them.

    Raises FileError where it cannot be opened, WeightsError where it is something else.
    """
    try:
        with open(path, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size == 0:
                raise WeightsError("the file is empty", path=path)
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if _is_hdf5(mapped):
        from caffe_merge.weights.hdf5 import Hdf5Index  # needs h5py

        return Hdf5Index(memoryview(mapped), path, keep_half=keep_half)
    return Index(memoryview(mapped), path, keep_half=keep_half)


def _is_hdf5(mapped: mmap.mmap) -> bool:
    """Whether HDF5's signature stands where H5Fis_hdf5 looks for it: at 0, 512, 1024, 2048 ..."""
    at = 0
    while at < len(mapped):
        if mapped[at : at + len(HDF5_SIGNATURE)] == HDF5_SIGNATURE:
            return True
        at = 2 * at or 512
    return False

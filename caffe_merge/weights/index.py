"""The index of a caffemodel: each layer's name, type and blobs as ranges of the file.

weights/blobproto.py reads the blobs, weights/hdf5.py the same index from an HDF5 file.
"""

import contextlib
from threading import Thread
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from caffe_merge.errors import FileError, WeightsError
from caffe_merge.files import check_file
from caffe_merge.schema import strings
from caffe_merge.weights.blobproto import read_blob
from caffe_merge.weights.blobs import Stored
from caffe_merge.weights.source import Buffer, Source
from caffe_merge.weights.wire import BYTES, Record, records

NET_LAYER, NET_V1_LAYER = 100, 2
LAYER_NAME, LAYER_BLOBS = 1, 7
_V1_V0, _V1_NAME, _V1_BLOBS = 1, 4, 6  # of V1LayerParameter, the first being its V0LayerParameter
_V0_NAME, _V0_BLOBS = 1, 50

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_LARGE = 4 << 20  # bytes: a smaller file is read whole, at once
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
    """A caffemodel. ``layers`` in file order; ``others`` are the remaining net fields.

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

        Nobody waits for it.
        """
        if not isinstance(self.buffer, Source):
            return
        with contextlib.suppress(RuntimeError):  # no thread can be had: it is read when it is used
            Thread(target=self.buffer.read_ahead, daemon=True).start()

    def check_unchanged(self) -> None:
        """Raise FileError where the file is not any more what was read of it."""
        if isinstance(self.buffer, Source):
            self.buffer.check()

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
    """Open the weights at ``path``, a caffemodel or HDF5 by its content, and index them.

    Raises FileError where it cannot be opened, WeightsError where it is something else.
    """
    check_file(path)
    try:
        source = Source(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    if not len(source):
        raise WeightsError("the file is empty", path=path)
    buffer: Buffer = source
    if len(source) < _LARGE:
        buffer = memoryview(source.read(0, len(source)))
        source.check()
    if _is_hdf5(buffer):
        from caffe_merge.weights.hdf5 import Hdf5Index  # needs h5py

        return Hdf5Index(buffer, path, keep_half=keep_half)
    return Index(buffer, path, keep_half=keep_half)


def _is_hdf5(buffer: Buffer) -> bool:
    """Whether HDF5's signature stands where H5Fis_hdf5 looks for it: at 0, 512, 1024, 2048 ..."""
    at = 0
    while at < len(buffer):
        if buffer[at : at + len(HDF5_SIGNATURE)] == HDF5_SIGNATURE:
            return True
        at = 2 * at or 512
    return False

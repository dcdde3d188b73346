"""The index of a caffemodel: each layer's name, type and blobs as ranges of the mapped file.

Read as Caffe reads it (blob.cpp, FromProto and ShapeEquals): ``double_data`` before ``data``, the
legacy num/channels/height/width before ``shape``, packed or not; the counts must agree exactly.
"""

import mmap
import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Array
from caffe_merge.errors import FileError, WeightsError
from caffe_merge.weights.blobs import DOUBLE, FLOAT, Stored, count
from caffe_merge.weights.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Buffer,
    Record,
    integers,
    read_int64,
    records,
)

NET_LAYER, NET_V1_LAYER = 100, 2
LAYER_NAME, LAYER_BLOBS = 1, 7
_SHAPE, _SHAPE_DIM, _DATA, _DIFF, _DOUBLE_DATA, _DOUBLE_DIFF = 7, 1, 5, 6, 8, 9
_LEGACY = (1, 2, 3, 4)  # num, channels, height, width

MAX_FIELDS = 500_000  # of the net and its layers; with MAX_PARTS a bound on time and memory
MAX_AXES = 32
MAX_COUNT = 2**31 - 1  # of values in a blob of Caffe's; larger ones are held where they have values
MAX_PARTS = 64  # pieces that one blob's values may come in; writers use one


class LayerRecord(NamedTuple):
    """One layer of the file: its bytes (``at`` .. ``end`` with tag and length) and its blobs."""

    name: str
    at: int
    start: int
    end: int
    blobs: Tuple[Stored, ...]


class Index:
    """A mapped caffemodel. ``layers`` in file order; ``others`` are the remaining net fields."""

    def __init__(self, buffer: Buffer, path: str = "<weights>") -> None:
        self.path = path
        self.buffer = buffer
        self.layers: List[LayerRecord] = []
        self.others: List[Record] = []
        self._fields = 0
        old = False
        try:
            for record in self._records(0, len(buffer)):
                if record.number == NET_LAYER and record.wire_type == BYTES:
                    self.layers.append(self._layer(record))
                elif record.number == NET_V1_LAYER and record.wire_type == BYTES:
                    old = True
                else:
                    self.others.append(record)
        except WeightsError as error:
            if error.path is not None:
                raise
            raise WeightsError(f"not a whole caffemodel: {error}", path=path) from None
        if old:
            raise WeightsError("weights in the V1 format (`layers`) are not read yet", path=path)
        if not self.layers:
            raise WeightsError("no layers in it: not a caffemodel", path=path)

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self.buffer)

    def by_name(self) -> Dict[str, LayerRecord]:
        """The record of each layer name; of several the last, which is the one Caffe ends with."""
        return {layer.name: layer for layer in self.layers}

    def _records(self, at: int, end: int) -> Iterator[Record]:
        for record in records(self.buffer, at, end):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise WeightsError(f"expected at most {MAX_FIELDS} fields")
            yield record

    def _layer(self, record: Record) -> LayerRecord:
        name = ""
        blobs: List[Record] = []
        for inner in self._records(record.start, record.end):
            if inner.wire_type != BYTES:
                continue
            if inner.number == LAYER_NAME:
                raw = bytes(self.buffer[inner.start : inner.end])
                name = raw.decode("utf-8", "surrogateescape")
            elif inner.number == LAYER_BLOBS:
                blobs.append(inner)
        stored = []
        for number, blob in enumerate(blobs):
            try:
                stored.append(_blob(self.buffer, blob))
            except WeightsError as error:
                message = str(error)
                raise WeightsError(message, path=self.path, layer=name, blob=number) from None
        return LayerRecord(name, record.at, record.start, record.end, tuple(stored))


def _blob(buffer: Buffer, record: Record) -> Stored:
    shape: Optional[List[int]] = None
    legacy = [0, 0, 0, 0]
    has_legacy = False
    parts: Dict[int, List[Array]] = {_DATA: [], _DOUBLE_DATA: []}
    at = record.start
    fields = 0
    while at < record.end:
        fields += 1
        if fields > MAX_PARTS:
            raise WeightsError(f"expected a blob of at most {MAX_PARTS} fields")
        run = _unpacked_run(buffer, at, record.end)
        if run is not None:
            number, values, at = run
            if number in parts:
                parts[number].append(values)
            continue
        inner = next(records(buffer, at, record.end))
        at = inner.end
        if inner.number in parts and inner.wire_type == BYTES:
            parts[inner.number].append(_packed(buffer, inner))
        elif inner.number == _SHAPE and inner.wire_type == BYTES:
            shape = [] if shape is None else shape
            for dim in records(buffer, inner.start, inner.end):
                if dim.number == _SHAPE_DIM:
                    shape += integers(buffer, dim)
                if len(shape) > MAX_AXES:
                    raise WeightsError(f"expected at most {MAX_AXES} axes, found more")
        elif inner.number in _LEGACY and inner.wire_type == VARINT:
            legacy[inner.number - 1] = read_int64(buffer, inner.start, inner.end)[0]
            has_legacy = True
    chosen = [part for part in parts[_DOUBLE_DATA] if len(part)] or parts[_DATA]
    values = chosen[0] if len(chosen) == 1 else _joined(chosen)
    dims = legacy if has_legacy else shape or []
    if any(dim < 0 for dim in dims):
        raise WeightsError(f"expected dimensions of at least 0, found {tuple(dims)}")
    wanted = count(tuple(dims))
    if wanted != len(values):
        raise WeightsError(f"shape {tuple(dims)} wants {wanted} values, found {len(values)}")
    if not wanted and count(tuple(filter(None, dims))) > MAX_COUNT:
        raise WeightsError(f"expected a shape that Caffe can hold, found {tuple(dims)}")
    return Stored(tuple(dims), values, legacy=has_legacy)


def _packed(buffer: Buffer, record: Record) -> Array:
    dtype = FLOAT if record.number == _DATA else DOUBLE
    length = record.end - record.start
    if length % dtype.itemsize:
        raise WeightsError(f"expected whole {dtype.itemsize}-byte values, found {length} bytes")
    return np.frombuffer(buffer, dtype, length // dtype.itemsize, record.start)


def _unpacked_run(buffer: Buffer, at: int, end: int) -> Optional[Tuple[int, Array, int]]:
    """A run of unpacked values from ``at``: field number, values (a strided view), and its end."""
    for number in (_DATA, _DIFF, _DOUBLE_DATA, _DOUBLE_DIFF):
        wire_type, dtype = (FIXED32, FLOAT) if number in (_DATA, _DIFF) else (FIXED64, DOUBLE)
        tag = number << 3 | wire_type
        if buffer[at] != tag:
            continue
        item = np.dtype([("tag", "u1"), ("value", dtype)])
        items = np.frombuffer(buffer, item, (end - at) // item.itemsize, at)
        other = np.flatnonzero(items["tag"] != tag)
        length = int(other[0]) if len(other) else len(items)
        if length == 0:
            return None
        return number, items["value"][:length], at + length * item.itemsize
    return None


def _joined(parts: List[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty(0, FLOAT)


def open_index(path: str) -> Index:
    """Map the caffemodel at ``path`` and index it.

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
    return Index(memoryview(mapped), path)

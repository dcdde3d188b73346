"""One BlobProto read from the wire, as Caffe and its forks read it (blob.cpp, FromProto).

``double_data`` before ``data``, packed or not; then ``raw_data`` of NVIDIA's fork (12, its type
in 10), then ``packed_data`` of the OpenCL branch (11, its type in 13). Other forks use these
numbers for other things (NVIDIA's raw_diff is 13, masks are 10 and 11): the wire type tells. The
legacy num/channels/height/width come before ``shape``, and the counts must agree exactly.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Array, count
from caffe_merge.errors import WeightsError
from caffe_merge.formats.weights.blobs import DOUBLE, FLOAT, HALF, Stored
from caffe_merge.formats.weights.source import Buffer, Values, run_length, values
from caffe_merge.formats.weights.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Record,
    integers,
    read_int64,
    read_record,
    records,
)
from caffe_merge.wording import counted

MAX_AXES = 32
MAX_COUNT = 2**31 - 1  # of values in a blob of Caffe's; larger ones are held where they have values
MAX_PARTS = 64  # pieces that one blob's values may come in; writers use one

_LEGACY = (1, 2, 3, 4)  # num, channels, height, width
_SHAPE, _SHAPE_DIM, _DATA, _DIFF, _DOUBLE_DATA, _DOUBLE_DIFF = 7, 1, 5, 6, 8, 9
_DTYPES: Dict[int, np.dtype] = {
    _DATA: FLOAT,
    _DIFF: FLOAT,
    _DOUBLE_DATA: DOUBLE,
    _DOUBLE_DIFF: DOUBLE,
}
_UNPACKED = frozenset(  # the tags of one value of them
    number << 3 | (FIXED32 if dtype == FLOAT else FIXED64) for number, dtype in _DTYPES.items()
)
_RAW_DIFF = 13


class Encoding(NamedTuple):
    """How a fork keeps values as bytes: in field ``values``, of the dtype that ``kind`` says."""

    values: int
    kind: int
    dtypes: Dict[int, np.dtype]

    @property
    def half(self) -> int:
        """What ``kind`` is for half precision."""
        return next(kind for kind, dtype in self.dtypes.items() if dtype == HALF)


ENCODINGS = {
    "raw_data": Encoding(12, 10, {0: DOUBLE, 1: FLOAT, 2: HALF}),
    "packed_data": Encoding(11, 13, {0: FLOAT, 1: HALF, 2: DOUBLE}),
}


def read_blob(buffer: Buffer, record: Record, keep_half: bool = False) -> Stored:
    """The blob in ``record``, its values still in ``buffer``; WeightsError where it is none."""
    shape: Optional[List[int]] = None
    legacy = [0, 0, 0, 0]
    has_legacy = False
    parts: Dict[int, List[Values]] = {number: [] for number in _DTYPES}
    raw: Dict[Tuple[int, int], Record] = {}  # by number and wire type, the last
    diff = fields = 0
    at = record.start
    while at < record.end:
        fields += 1
        if fields > MAX_PARTS:
            raise WeightsError(f"expected a blob of at most {MAX_PARTS} fields")
        start = at
        run = _unpacked_run(buffer, at, record.end)
        if run is not None:
            number, run_values, at = run
            parts[number].append(run_values)
        else:
            inner = read_record(buffer, at, record.end)
            number, at = inner.number, inner.end
            if number in parts and inner.wire_type == BYTES:
                parts[number].append(_packed(buffer, inner, _DTYPES[number]))
            elif number == _SHAPE and inner.wire_type == BYTES:
                shape = [*(shape or []), *_dims(buffer, inner)]
                if len(shape) > MAX_AXES:
                    raise WeightsError(f"expected at most {MAX_AXES} axes, found more")
            elif number in _LEGACY and inner.wire_type == VARINT:
                legacy[number - 1] = read_int64(buffer, inner.start, inner.end)[0]
                has_legacy = True
            else:
                raw[number, inner.wire_type] = inner
        if number in (_DIFF, _DOUBLE_DIFF):
            diff += at - start
    if (_RAW_DIFF, BYTES) in raw:
        diff += raw[_RAW_DIFF, BYTES].end - raw[_RAW_DIFF, BYTES].at
    dims = tuple(legacy) if has_legacy else tuple(shape or [])
    chosen = [part for part in parts[_DOUBLE_DATA] if len(part)] or parts[_DATA]
    encoding = ""
    if not any(map(len, chosen)):
        encoding = next((name for name in ENCODINGS if (ENCODINGS[name].values, BYTES) in raw), "")
    if encoding:
        chosen = [_raw(buffer, raw, ENCODINGS[encoding])]
    held = chosen[0] if len(chosen) == 1 else _joined(chosen)
    _check(dims, len(held))
    return Stored(dims, held, has_legacy, encoding=encoding, diff=diff, keep_half=keep_half)


def _check(dims: Tuple[int, ...], number: int) -> None:
    if any(dim < 0 for dim in dims):
        raise WeightsError(f"expected dimensions of at least 0, found {dims}")
    expected = count(dims)
    if expected != number:
        raise WeightsError(f"shape {dims} wants {counted(expected, 'value')}, found {number:,}")
    if not expected and count(tuple(filter(None, dims))) > MAX_COUNT:
        raise WeightsError(f"expected a shape that Caffe can hold, found {dims}")


def _dims(buffer: Buffer, record: Record) -> List[int]:
    dims: List[int] = []
    for dim in records(buffer, record.start, record.end):
        if dim.number == _SHAPE_DIM:
            dims += integers(buffer, dim)
        if len(dims) > MAX_AXES:
            break
    return dims


def _raw(buffer: Buffer, raw: Dict[Tuple[int, int], Record], encoding: Encoding) -> Values:
    kind = 0
    if (encoding.kind, VARINT) in raw:
        kind = read_int64(buffer, *raw[encoding.kind, VARINT][3:])[0]
    if kind not in encoding.dtypes:
        raise WeightsError(f"expected values in floating point, found a fork's data type {kind}")
    return _packed(buffer, raw[encoding.values, BYTES], encoding.dtypes[kind])


def _packed(buffer: Buffer, record: Record, dtype: np.dtype) -> Values:
    length = record.end - record.start
    if length % dtype.itemsize:
        raise WeightsError(f"expected whole {dtype.itemsize}-byte values, found {length} bytes")
    return values(buffer, dtype, length // dtype.itemsize, record.start)


def _unpacked_run(buffer: Buffer, at: int, end: int) -> Optional[Tuple[int, Values, int]]:
    """A run of unpacked values from ``at``: field number, values, and its end."""
    tag = buffer[at]
    if tag not in _UNPACKED:
        return None
    number = tag >> 3
    item = np.dtype([("tag", "u1"), ("value", _DTYPES[number])])
    length = run_length(buffer, item, tag, at, end)
    if length == 0:
        return None
    return number, values(buffer, item, length, at), at + length * item.itemsize


def _joined(parts: List[Values]) -> Array:
    return np.concatenate([part[:] for part in parts]) if parts else np.empty(0, FLOAT)

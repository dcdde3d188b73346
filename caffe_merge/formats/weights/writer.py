"""Writes a caffemodel as a stream: kept layers as byte ranges, changed ones encoded anew.

A changed layer keeps every byte of its record that the change is not about: the difference of its
two typed views is replayed on the wire, field number by field number, so what a fork stored under
numbers of its own is carried through unread.
"""

from __future__ import annotations

from typing import (
    Any,
    Iterable,
    Iterator,
    List,
    Optional,
    Protocol,
)

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_merge.arrays import Array, count
from caffe_merge.errors import OptionName, Text, WeightsError
from caffe_merge.formats.schema import strings
from caffe_merge.formats.schema.messages import LayerParameter, changed_fields, is_repeated
from caffe_merge.formats.weights.blobproto import ENCODINGS, Encoding
from caffe_merge.formats.weights.blobs import DOUBLE, HALF, Blob, Stored
from caffe_merge.formats.weights.caffemodel import LAYER_BLOBS, NET_LAYER, Caffemodel
from caffe_merge.formats.weights.index import Entry, Index
from caffe_merge.formats.weights.source import Buffer, Bytes
from caffe_merge.formats.weights.wire import BYTES, field, header, records, varint

_COPIED_AT_ONCE = 2 << 20  # bytes


class Sink(Protocol):
    """What takes bytes, in order."""

    def write(self, data: Bytes, /) -> object:
        """Take ``data``; it does not change any more."""


def write(handle: Sink, index: Optional[Index], entries: Iterable[Entry], name: str = "") -> None:
    """Write a NetParameter of ``entries`` behind the other net fields of ``index``.

    ``name`` is the net's, for an ``index`` of another format, which has no such fields. Raises
    WeightsError where a value is not finite, OSError as ``handle`` does.
    """
    if isinstance(index, Caffemodel):
        for other in index.others:
            _copy(handle, index.buffer, other.at, other.end)
    elif name:
        handle.write(field(1, strings.encode(name)))
    half = _half(index) if index is not None else ENCODINGS["raw_data"]
    for entry in entries:
        record = entry.record
        if entry.new is None:
            if index is None or record is None:
                raise AssertionError(f"nothing to copy for {entry.name!r}")
            if record.as_is:
                _check_finite(entry)
                _copy(handle, index.buffer, record.at, record.end)
                continue
        for piece in _encode(entry, index.buffer if index else b"", half):
            handle.write(piece)


def _copy(handle: Sink, buffer: Buffer, at: int, end: int) -> None:
    for start in range(at, end, _COPIED_AT_ONCE):
        handle.write(buffer[start : min(start + _COPIED_AT_ONCE, end)])


def _check_finite(entry: Entry) -> None:
    """Values that are copied are checked here, all others as they are made."""
    for number, blob in enumerate(entry.blobs):
        for block in blob.blocks():
            check_finite(block, entry.name, number)


def check_finite(block: Array, layer: str, blob: int) -> None:
    """Raise WeightsError where a value of ``block`` is not finite."""
    if not np.isfinite(block).all():
        bad = block[~np.isfinite(block)].flat[0]
        message = Text(f"expected finite values, found {bad}")
        if block.dtype == HALF:
            rounded = " once rounded to half precision; it fits without "
            message = Text(message, rounded, OptionName("keep_dtype"))
        raise WeightsError(message, layer=layer, blob=blob)


def _half(index: Index) -> Encoding:
    """How the fork that wrote the file keeps half precision."""
    blobs = (blob for layer in index.layers for blob in layer.blobs if blob.half)
    return ENCODINGS[next((blob.encoding for blob in blobs), "") or "raw_data"]


def _encode(entry: Entry, buffer: Buffer, half: Encoding) -> Iterator[Bytes]:
    record = entry.record
    blobs = entry.blobs
    if record is not None and entry.new is None:
        fields = patched(buffer, record.start, record.end, LayerParameter(), LayerParameter())
        blobs = blobs or record.blobs
    elif record is not None and entry.old is not None:
        assert entry.new is not None
        fields = patched(buffer, record.start, record.end, entry.old, entry.new)
    else:
        assert entry.new is not None
        fields = patched(b"", 0, 0, type(entry.new)(), entry.new)
    heads = [_blob_head(blob, half) for blob in blobs]
    lengths = [len(head) + count(b.shape) * b.dtype.itemsize for head, b in zip(heads, blobs)]
    total = len(fields) + sum(len(header(LAYER_BLOBS, length)) + length for length in lengths)
    yield header(NET_LAYER, total) + fields
    for number, (blob, head, length) in enumerate(zip(blobs, heads, lengths)):
        yield header(LAYER_BLOBS, length) + head
        for block in blob.blocks():
            check_finite(block, entry.name, number)
            yield block.data.cast("B")


def _blob_head(blob: Blob, half: Encoding) -> bytes:
    """All of a BlobProto but its values: ``shape``, and the tag and length of the data."""
    if isinstance(blob, Stored) and blob.legacy:  # nobody knows which of its 1s are axes
        head = b"".join(varint(n << 3) + varint(dim) for n, dim in enumerate(blob.shape, 1))
    else:
        dims = b"".join(varint(dim) for dim in blob.shape)
        head = field(7, field(1, dims) if dims else b"")
    number = 8 if blob.dtype == DOUBLE else 5
    if blob.dtype == HALF:
        number = half.values
        head += varint(half.kind << 3) + varint(half.half)
    return head + header(number, count(blob.shape) * blob.dtype.itemsize)


def patched(buffer: Buffer, start: int, end: int, old: Message, new: Message) -> bytes:
    """The message at ``buffer[start:end]`` with the change from ``old`` to ``new`` made to it.

    Its blobs are left out. Fields that ``old`` and ``new`` agree on are copied unread.
    """
    return b"".join(_patched(buffer, start, end, old, new, LAYER_BLOBS))


def _patched(
    buffer: Buffer, start: int, end: int, old: Message, new: Message, skip: int
) -> List[Bytes]:
    changed = {
        descriptor.number: descriptor
        for descriptor in changed_fields(old, new)
        if descriptor.number != skip
    }
    merged = set()
    out: List[Bytes] = []
    for record in records(buffer, start, end):
        descriptor = changed.get(record.number)
        if record.number == skip:
            continue
        if descriptor is None:
            out.append(buffer[record.at : record.end])
        elif record.wire_type == BYTES and _is_submessage(descriptor, old, new):
            inner = getattr(old, descriptor.name), getattr(new, descriptor.name)
            parts = _patched(buffer, record.start, record.end, *inner, skip=0)
            out.append(field(record.number, b"".join(parts)))
            merged.add(record.number)
    rest = type(new)()
    for number, descriptor in changed.items():
        if number not in merged:
            _copy_field(rest, new, descriptor)
    out.append(_serialized(rest))
    return out


def _serialized(message: Message) -> bytes:
    data: bytes = message.SerializePartialToString()
    is_marked = any(mark in data for mark in strings.MARKS)
    return _as_named(data, message.DESCRIPTOR) if is_marked else data


def _as_named(data: bytes, descriptor: Any) -> bytes:
    """The message ``data`` with its strings in the bytes that they were read from."""
    out = []
    for record in records(data, 0, len(data)):
        field_type = descriptor.fields_by_number[record.number]
        inner = data[record.start : record.end]
        if field_type.type == FieldDescriptor.TYPE_STRING:
            out.append(field(record.number, strings.encode(inner.decode())))
        elif field_type.type == FieldDescriptor.TYPE_MESSAGE:
            out.append(field(record.number, _as_named(inner, field_type.message_type)))
        else:
            out.append(data[record.at : record.end])
    return b"".join(out)


def _is_submessage(field: FieldDescriptor, old: Message, new: Message) -> bool:
    return (
        field.type == FieldDescriptor.TYPE_MESSAGE
        and not is_repeated(field)
        and old.HasField(field.name)
        and new.HasField(field.name)
    )


def _copy_field(target: Message, source: Message, field: FieldDescriptor) -> None:
    if is_repeated(field):
        getattr(target, field.name).MergeFrom(getattr(source, field.name))
    elif not source.HasField(field.name):
        return
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(target, field.name).CopyFrom(getattr(source, field.name))
    else:
        setattr(target, field.name, getattr(source, field.name))

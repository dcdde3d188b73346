"""The protobuf wire format, as far as a weights file needs it: records and varints.

Nothing is decoded that is not asked for; a record is a pair of offsets. Bounds are checked before
they are used, so any bytes give records or a WeightsError, in time linear in their number.
"""

from typing import Iterator, List, NamedTuple, Tuple

from caffe_merge.errors import WeightsError
from caffe_merge.formats.weights.source import Buffer, Source

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_RECORDS = 1_000_000  # at one level; more than any net, and a bound on the time spent


class Record(NamedTuple):
    """One field on the wire: its number and type, where it starts, and the span of its value.

    For VARINT the value is in ``start`` .. ``end`` undecoded; for BYTES that is the payload.
    """

    number: int
    wire_type: int
    at: int
    start: int
    end: int


def read_varint(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """The unsigned varint at ``at`` and the offset behind it."""
    page, low = buffer.page(at) if isinstance(buffer, Source) else (buffer, 0)
    if at < end:
        byte = page[at - low]
        if byte < 0x80:  # most of them
            return byte, at + 1
    value = shift = 0
    for position in range(at, min(at + 10, end)):
        byte = page[position - low]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + 1
        shift += 7
    raise WeightsError(f"byte {at}: expected a number, found " + _what(at, end))


def read_int64(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """The signed int32 or int64 at ``at`` and the offset behind it."""
    value, at = read_varint(buffer, at, end)
    return (value - (1 << 64) if value >= 1 << 63 else value), at


def _what(at: int, end: int) -> str:
    return "the end of the file or record" if end - at < 10 else "more than 64 bits"


def read_record(buffer: Buffer, at: int, end: int) -> Record:
    """The field that stands at ``at`` of a message which ends at ``end``."""
    page, low = buffer.page(at) if isinstance(buffer, Source) else (buffer, 0)
    tag, start = page[at - low], at + 1
    if tag >= 0x80:
        tag, start = read_varint(buffer, at, end)
    number, wire_type = tag >> 3, tag & 7
    if number == 0 or number > 0x1FFFFFFF:
        raise WeightsError(f"byte {at}: expected a field, found number {number}")
    if wire_type == BYTES:
        length = page[start - low] if start < min(end, low + len(page)) else 0x80
        if length < 0x80:
            start += 1
        else:
            length, start = read_varint(buffer, start, end)
        stop = start + length
    elif wire_type == VARINT:
        _, stop = read_varint(buffer, start, end)
    elif wire_type == FIXED32:
        stop = start + 4
    elif wire_type == FIXED64:
        stop = start + 8
    else:
        raise WeightsError(f"byte {at}: expected a field, found wire type {wire_type}")
    if stop > end:
        raise WeightsError(
            f"byte {at}: field {number} wants {stop - start} bytes, {end - start} are left"
        )
    return Record(number, wire_type, at, start, stop)


def records(buffer: Buffer, at: int, end: int) -> Iterator[Record]:
    """The fields of the message at ``buffer[at:end]`` in the order they stand."""
    for _ in range(MAX_RECORDS):
        if at >= end:
            return
        record = read_record(buffer, at, end)
        yield record
        at = record.end
    raise WeightsError(f"byte {at}: expected at most {MAX_RECORDS} fields in one message")


def varint(value: int) -> bytes:
    """``value`` (negative ones as 64-bit two's complement) as a varint."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header(number: int, length: int) -> bytes:
    """Tag and length of a BYTES field."""
    return varint(number << 3 | BYTES) + varint(length)


def field(number: int, payload: bytes) -> bytes:
    """A whole BYTES field."""
    return header(number, len(payload)) + payload


def integers(buffer: Buffer, record: Record) -> List[int]:
    """The int64 values of a repeated field's record, packed or not."""
    if record.wire_type == VARINT:
        return [read_int64(buffer, record.start, record.end)[0]]
    if record.wire_type != BYTES:
        raise WeightsError(f"byte {record.at}: expected integers, found type {record.wire_type}")
    values: List[int] = []
    at = record.start
    while at < record.end:
        value, at = read_int64(buffer, at, record.end)
        values.append(value)
        if len(values) > 1024:
            raise WeightsError(f"byte {record.at}: expected at most 1024 dimensions")
    return values

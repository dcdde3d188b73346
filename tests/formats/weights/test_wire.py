"""The wire format: what protobuf writes is read, anything else is an error and never a crash."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.weights import wire
from caffe_merge.formats.weights.wire import (
    Record,
    field,
    header,
    integers,
    read_int64,
    records,
    varint,
)
from tests.seeds import examples
from tests.speed import at_most

INT64 = st.integers(-(2**63), 2**63 - 1)


@examples(100)
@given(INT64)
def test_integers_as_protobuf_writes_them(value: int) -> None:
    data = NetParameter(input_shape=[{"dim": [value]}]).SerializeToString()
    assert varint(value) == data[4:]  # behind two tags and two lengths
    assert read_int64(data, 4, len(data)) == (value, len(data))


@examples(100)
@given(st.lists(INT64, max_size=5), st.booleans())
def test_repeated_integers_packed_or_not(values: list, packed: bool) -> None:
    tag = varint(1 << 3)
    body = b"".join(map(varint, values))
    data = field(1, body) if packed else b"".join(tag + varint(value) for value in values)
    actual = [dim for record in records(data, 0, len(data)) for dim in integers(data, record)]
    assert actual == values


def test_records_and_their_spans() -> None:
    data = b"\x08\x96\x01" + header(2, 3) + b"abc" + b"\x1d1234" + b"\x2112345678" + field(6, b"")
    assert list(records(data, 0, len(data))) == [
        Record(1, 0, 0, 1, 3),
        Record(2, 2, 3, 5, 8),
        Record(3, 5, 8, 9, 13),
        Record(4, 1, 13, 14, 22),
        Record(6, 2, 22, 24, 24),
    ]
    big = varint(0x1FFFFFFF << 3) + b"\x01"
    assert [record.number for record in records(big, 0, len(big))] == [0x1FFFFFFF]


BAD = {
    "tag cut": (b"\x80", "byte 0: expected a number, found the end of the file or record"),
    "tag too long": (b"\xff" * 11, "byte 0: expected a number, found more than 64 bits"),
    "number 0": (b"\x02\x00", "byte 0: expected a field, found number 0"),
    "number too large": (
        varint(0x20000000 << 3),
        "byte 0: expected a field, found number 536870912",
    ),
    "group": (b"\x0b", "byte 0: expected a field, found wire type 3"),
    "end of group": (b"\x0c", "byte 0: expected a field, found wire type 4"),
    "wire type 6": (b"\x0e", "byte 0: expected a field, found wire type 6"),
    "no length": (b"\x0a", "byte 1: expected a number, found the end of the file or record"),
    "length past the end": (b"\x0a\x05abc", "byte 0: field 1 wants 5 bytes, 3 are left"),
    "absurd length": (b"\x0a" + b"\xff" * 9 + b"\x01", "byte 0: field 1 wants 18446744073709551615 "
                                                       "bytes, 0 are left"),
    "varint cut": (
        b"\x08\x80\x80",
        "byte 1: expected a number, found the end of the file or record",
    ),
    "fixed32 cut": (b"\x0d123", "byte 0: field 1 wants 4 bytes, 3 are left"),
    "fixed64 cut": (b"\x091234567", "byte 0: field 1 wants 8 bytes, 7 are left"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_record_is_told(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(WeightsError) as caught:
        list(records(data, 0, len(data)))
    assert str(caught.value) == message


def test_nothing_is_read_beyond_the_end() -> None:
    data = b"\x0a\x05abcde"
    for end in range(1, len(data)):
        with pytest.raises(WeightsError):
            list(records(data, 0, end))
    with pytest.raises(WeightsError, match="byte 0: field 1 wants 5 bytes, 4 are left"):
        list(records(data + data, 0, len(data) - 1))


def test_the_number_of_fields_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_RECORDS", 10)
    assert len(list(records(b"\x0a\x00" * 9, 0, 18))) == 9
    with pytest.raises(WeightsError, match="expected at most 10 fields in one message"):
        list(records(b"\x0a\x00" * 11, 0, 22))


def test_the_number_of_dimensions_is_bounded() -> None:
    data = field(1, b"\x01" * 10_000_000)
    start = time.process_time()
    with pytest.raises(WeightsError, match="byte 0: expected at most 1024 dimensions"):
        integers(data, next(records(data, 0, len(data))))
    assert time.process_time() - start < at_most(1)
    with pytest.raises(WeightsError, match="byte 0: expected integers, found type 5"):
        integers(b"\x0d1234", next(records(b"\x0d1234", 0, 5)))


@examples(100)
@given(st.binary(max_size=30))
def test_any_bytes_are_records_or_an_error(data: bytes) -> None:
    try:
        actual = list(records(data, 0, len(data)))
    except WeightsError:
        return
    # What is read covers the data without a gap.
    ends = [0, *(record.end for record in actual)]
    assert [record.at for record in actual] == ends[:-1]
    assert ends[-1] == len(data)

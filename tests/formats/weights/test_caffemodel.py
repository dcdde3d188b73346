"""The index: every way in which files store blobs, as Caffe reads them; anything else an error."""

import random
import struct
import threading
import time
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError, FileError, WeightsError
from caffe_merge.formats.schema import strings
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.weights import caffemodel, formats
from caffe_merge.formats.weights import index as index_module
from caffe_merge.formats.weights.caffemodel import Caffemodel
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.wire import field, varint
from tests.seeds import examples
from tests.speed import at_most

VALUES = np.array([1.5, -2, 0.1, 1e-45, 3e38, 7], "<f4")
RAW = VALUES.tobytes()


def shape(*dims: int) -> bytes:
    """A BlobShape."""
    return field(7, field(1, b"".join(map(varint, dims))))


def legacy(*dims: int) -> bytes:
    """The old num, channels, height, width, as many as are given."""
    return b"".join(varint(n << 3) + varint(dim) for n, dim in enumerate(dims, 1))


def data(raw: bytes = RAW) -> bytes:
    """Packed float32 values."""
    return field(5, raw)


def layer(*blobs: bytes, name: bytes = b"conv", more: bytes = b"") -> bytes:
    """A layer on the wire."""
    return field(100, field(1, name) + more + b"".join(field(7, blob) for blob in blobs))


def unpacked(number: int, kind: str, values: Sequence[float]) -> bytes:
    """A repeated field of fixed-width values, one record each."""
    tag = bytes([number << 3 | (5 if kind == "f" else 1)])
    return b"".join(tag + struct.pack("<" + kind, value) for value in values)


DOUBLES = [1 / 3, -2.0, 1e300, 0.0, 5.0, 6.0]
F64 = struct.pack("<6d", *DOUBLES)

STORED = {
    "shape": (shape(2, 3) + data(), (2, 3), VALUES),
    "shape behind the data": (data() + shape(2, 3), (2, 3), VALUES),
    "shape with dims not packed": (field(7, b"\x08\x02\x08\x03") + data(), (2, 3), VALUES),
    "shape in two parts": (shape(2) + shape(3) + data(), (2, 3), VALUES),
    "legacy": (legacy(1, 1, 2, 3) + data(), (1, 1, 2, 3), VALUES),
    "legacy is preferred": (shape(6) + legacy(1, 1, 2, 3) + data(), (1, 1, 2, 3), VALUES),
    "legacy stored twice": (legacy(9, 9) + legacy(1, 1, 2, 3) + data(), (1, 1, 2, 3), VALUES),
    "legacy, an axis not stored is 0": (legacy(1, 1, 2) + data(b""), (1, 1, 2, 0), VALUES[:0]),
    "unpacked": (shape(6) + unpacked(5, "f", VALUES), (6,), VALUES),
    "in chunks": (data(RAW[:8]) + shape(6) + data(RAW[8:20]) + data(RAW[20:]), (6,), VALUES),
    "packed and not": (shape(6) + data(RAW[:8]) + unpacked(5, "f", VALUES[2:]), (6,), VALUES),
    "double": (shape(2, 3) + field(8, F64), (2, 3), DOUBLES),
    "double, unpacked": (shape(6) + unpacked(8, "d", DOUBLES), (6,), DOUBLES),
    "double is preferred": (shape(6) + data(RAW[:8]) + field(8, F64), (6,), DOUBLES),
    "empty double is not": (shape(6) + field(8, b"") + data(), (6,), VALUES),
    "with diff": (shape(6) + field(6, RAW[::-1]) + data() + field(9, F64), (6,), VALUES),
    "with diff, unpacked": (
        shape(6) + unpacked(6, "f", [0.5] * 99) + data() + unpacked(9, "d", [0.5] * 99),
        (6,),
        VALUES,
    ),
    "unknown fields": (
        b"\x50\x07" + shape(6) + field(11, b"raw") + data() + b"\x6d1234" + field(5000, b"x"),
        (6,),
        VALUES,
    ),
    "unknown field in the shape": (field(7, b"\x10\x07\x08\x06") + data(), (6,), VALUES),
    "scalar": (field(7, b"") + data(RAW[:4]), (), VALUES[:1]),
    "no shape at all": (data(RAW[:4]), (), VALUES[:1]),
    "no values": (shape(0), (0,), VALUES[:0]),
    "no values in a wide shape": (shape(2**15, 2**15, 0), (2**15, 2**15, 0), VALUES[:0]),
    "five axes": (shape(1, 2, 1, 3, 1) + data(), (1, 2, 1, 3, 1), VALUES),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_stored(case: str) -> None:
    blob, dims, values = STORED[case]
    (actual,) = Caffemodel(b"\x0a\x01n" + layer(blob)).layers
    assert actual.name == "conv"
    (stored,) = actual.blobs
    double = isinstance(values, list)
    assert stored.dtype == ("<f8" if double else "<f4")
    assert stored.legacy == ("legacy" in case)
    expected = np.array(values, stored.dtype).reshape(dims)
    np.testing.assert_array_equal(stored.array(), expected)
    assert stored.array().dtype == stored.dtype


@pytest.mark.parametrize("case", STORED)
def test_stored_is_what_protobuf_reads(case: str) -> None:
    blob, _, _ = STORED[case]
    raw = layer(blob)
    parsed = NetParameter.FromString(raw).layer[0].blobs[0]
    (stored,) = Caffemodel(raw).layers[0].blobs
    expected = parsed.double_data or parsed.data
    np.testing.assert_array_equal(stored.values, np.array(expected, stored.dtype))
    old = [parsed.num, parsed.channels, parsed.height, parsed.width]
    assert list(stored.shape) == (old if stored.legacy else list(parsed.shape.dim))


def error_of(raw: bytes) -> str:
    """What the index says of ``raw``."""
    with pytest.raises(WeightsError) as caught:
        Caffemodel(raw, "w")
    return str(caught.value)


WRONG = {
    "too few": (shape(2, 4) + data(), "shape (2, 4) wants 8 values, found 6"),
    "too many": (shape(5) + data(), "shape (5,) wants 5 values, found 6"),
    "no shape": (data(), "shape () wants 1 value, found 6"),
    "no data": (shape(6), "shape (6,) wants 6 values, found 0"),
    "legacy against shape": (shape(6) + legacy(1, 1, 1, 5) + data(),
                             "shape (1, 1, 1, 5) wants 5 values, found 6"),
    "negative": (shape(-2, -3) + data(), "expected dimensions of at least 0, found (-2, -3)"),
    "negative legacy": (legacy(1, 1, -1, -6) + data(),
                        "expected dimensions of at least 0, found (1, 1, -1, -6)"),
    "overflowing": (shape(2**62, 2**62, 6) + data(),
                    f"shape {(2**62, 2**62, 6)} wants {2**124 * 6:,} values, found 6"),
    "overflowing with no values": (shape(2**62, 2**62, 0),
                                   "expected a shape that Caffe can hold, found (461168"),
    "overflowing to 6": (shape(2**63 - 1, 2, 6) + data(), "wants"),
    "33 axes": (shape(*[1] * 33) + data(RAW[:4]), "expected at most 32 axes, found more"),
    "a million axes": (field(7, b"\x08\x01" * 10**6), "expected at most 32 axes, found more"),
    "half a value": (shape(6) + data(RAW[:-1]), "expected whole 4-byte values, found 23 bytes"),
    "half a double": (shape(6) + field(8, RAW[:-1]),
                      "expected whole 8-byte values, found 23 bytes"),
    "too many chunks": (shape(6) + field(5, b"") * 64, "expected a blob of at most 64 fields"),
    "unpacked, cut": (shape(6) + unpacked(5, "f", VALUES)[:-1], "wants 4 bytes, 3 are left"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_blob_that_is_wrong_names_layer_and_blob(case: str) -> None:
    good = shape(6) + data()
    actual = error_of(layer(good, name=b"first") + layer(good, WRONG[case][0]))
    assert actual.startswith("w: layer 'conv', blob 1: ")
    assert actual.endswith(WRONG[case][1]) or WRONG[case][1] in actual


def test_files_that_are_no_caffemodel() -> None:
    assert error_of(b"\x0a\x04name") == "w: no layers in it: not a caffemodel"
    assert error_of(b"\xa2\x06\x7fshort").startswith("w: not a whole caffemodel: byte 0: field 100")
    mixed = error_of(layer() + field(2, field(4, b"conv")))
    assert mixed == "w: expected `layer` or `layers`, found both in one file; Caffe refuses it too"


def test_layers_in_file_order_and_the_rest_of_the_net() -> None:
    raw = field(1, b"net") + layer(name=b"b") + field(3, b"data") + layer(name=b"a") + b"\x28\x01"
    index = Caffemodel(raw)
    assert [actual.name for actual in index.layers] == ["b", "a"]
    assert [raw[r.at : r.end] for r in index.others] == [
        field(1, b"net"),
        field(3, b"data"),
        b"\x28\x01",
    ]
    assert index.size == len(raw)


def test_of_two_layers_of_one_name_the_last_counts() -> None:
    blob = shape(1) + data(RAW[:4])
    index = Caffemodel(layer(blob, name=b"a") + layer(name=b"b") + layer(name=b"a"))
    assert len(index.layers) == 3
    assert index.by_name()["a"] is index.layers[2]


def test_names_of_any_bytes() -> None:
    names = [b"", b"a/b", "é😀".encode(), b"two\nlines", b"\xff"]
    raw = b"".join(field(100, field(1, name)) for name in names)
    assert [strings.encode(actual.name) for actual in Caffemodel(raw).layers] == names
    twice = field(100, field(1, b"old") + field(1, b"new"))
    assert Caffemodel(twice).layers[0].name == "new"


def test_the_number_of_fields_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caffemodel, "MAX_FIELDS", 10)
    assert len(Caffemodel(layer() * 5).layers) == 5
    assert "expected at most 10 fields" in error_of(layer() * 6)


@pytest.mark.parametrize("unit", [b"\x0a\x00", layer(b""), layer(field(7, b""))])
def test_many_tiny_fields_take_bounded_time(unit: bytes) -> None:
    start = time.process_time()
    with pytest.raises(WeightsError):
        Caffemodel(unit * (4 << 20) if len(unit) == 2 else unit * 600_000)
    with pytest.raises(WeightsError):
        Caffemodel(field(100, unit * 2_000_000))
    assert time.process_time() - start < at_most(8)


WHOLE = (
    field(1, b"net")
    + layer(shape(2, 3) + data(), legacy(1, 1, 1, 6) + unpacked(5, "f", VALUES), name=b"conv")
    + layer(shape(6) + field(8, F64), more=field(2, b"Scale") + b"\x50\x01", name=b"scale")
)


def judged(raw: bytes) -> Optional[List[Tuple[str, list]]]:
    """The names and values that the index finds; None if it refuses. Nothing else may happen."""
    try:
        index = Caffemodel(raw, "w")
    except CaffeMergeError:
        return None
    return [(actual.name, [blob.array() for blob in actual.blobs]) for actual in index.layers]


def test_cut_at_every_byte() -> None:
    ends = [record.end for record in Caffemodel(WHOLE).layers]
    for end in range(len(WHOLE)):
        # A file cut between two layers is a shorter file; everywhere else it is an error.
        assert (judged(WHOLE[:end]) is not None) == (end in ends)


def test_every_bit_flipped() -> None:
    wrong = 0
    for at in range(len(WHOLE)):
        for bit in range(8):
            raw = bytearray(WHOLE)
            raw[at] ^= 1 << bit
            wrong += judged(bytes(raw)) is None
    assert wrong > 300  # values, names and numbers may change; structure may not


def test_bytes_changed_at_random() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        raw = bytearray(WHOLE)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(raw))
            action = rng.randrange(3)
            if action == 0:
                raw[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif action == 1:
                del raw[at : at + rng.randint(1, 9)]
            else:
                raw[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
            raw = raw or bytearray(1)
        judged(bytes(raw))


@examples(100)
@given(st.binary(max_size=60))
def test_random_bytes(raw: bytes) -> None:
    judged(raw)
    judged(field(100, raw))
    judged(layer(raw))
    judged(layer(field(7, raw) + data()))


def test_opening(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(WHOLE)
    index = open_index(str(path))
    assert index.size == len(WHOLE)
    assert not index.layers[0].blobs[0].values.flags.writeable
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(WeightsError, match="empty: the file is empty"):
        open_index(str(tmp_path / "empty"))
    for name in ("missing", ".", "w.caffemodel/below"):
        with pytest.raises(FileError, match=str(tmp_path)):
            open_index(str(tmp_path / name))


def test_the_whole_file_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a thread that nobody waits for; a small file is not, nor where no thread can be had."""
    result = []

    class Noted(threading.Thread):
        def __init__(self, target: Any, daemon: bool) -> None:
            super().__init__(target=target, daemon=daemon)
            result.append(self)

    path = tmp_path / "net.caffemodel"
    path.write_bytes(WHOLE)
    monkeypatch.setattr(index_module, "Thread", Noted)
    open_index(str(path)).read_ahead()
    assert not result
    monkeypatch.setattr(formats, "_LARGE", 0)
    index = open_index(str(path))
    index.read_ahead()
    (thread,) = result
    assert thread.daemon
    thread.join(10)

    def none_left(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Noted, "start", none_left)
    index.read_ahead()

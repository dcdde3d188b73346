"""The writer: kept records as they are, changed ones with only the change, protobuf agreeing."""

import io
import os
from pathlib import Path
from typing import Any, Iterable, List, Optional, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.weights import writer
from caffe_merge.formats.weights.blobs import Blob, Dense, Scaled, Stored
from caffe_merge.formats.weights.caffemodel import Caffemodel
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.index import Entry
from caffe_merge.formats.weights.wire import field, header
from tests.formats.text.strategies import messages
from tests.formats.weights.test_caffemodel import F64, RAW, VALUES, data, layer, legacy, shape
from tests.seeds import examples


def written(raw: bytes, entries: Iterable[Entry]) -> bytes:
    """What the writer makes of ``entries`` over the file ``raw``."""
    handle = io.BytesIO()
    writer.write(handle, Caffemodel(raw) if raw else None, entries)
    return handle.getvalue()


def kept(index: Caffemodel) -> List[Entry]:
    """Every layer, unchanged."""
    return [Entry(record.name, record, record.blobs) for record in index.layers]


def parsed(raw: bytes) -> Any:
    """What protobuf itself reads."""
    return NetParameter.FromString(raw)


# A layer with a fork's fields: around and inside what BVLC knows, and clashing with it.
CONV = LayerParameter(name="conv", type="Convolution", bottom=["x"], top=["conv"])
CONV.convolution_param.num_output = 2
CONV.convolution_param.bias_term = False
FORK = field(3000, b"fork") + b"\x90\x7d\x07"
INNER = CONV.convolution_param.SerializeToString() + field(99, b"inner")
RECORD = (
    field(1, b"conv")
    + field(2, b"Convolution")
    + field(3, b"x")
    + FORK
    + field(4, b"conv")
    + field(106, INNER)
    + field(7, shape(2, 3) + data() + field(12, b"raw"))
    + field(143, b"\xff\xff clashes with recurrent_param or whatever")
)
FILE = field(1, b"net") + layer(name=b"first") + field(100, RECORD) + b"\x28\x01"


def test_unchanged_layers_are_the_same_bytes() -> None:
    # The net's other fields come first; where they did before, the file is the same.
    assert written(FILE, kept(Caffemodel(FILE))) == FILE[:5] + b"\x28\x01" + FILE[5:-2]
    whole = field(1, b"net") + layer(legacy(1, 1, 2, 3) + data(), shape(6) + field(8, F64))
    assert written(whole, kept(Caffemodel(whole))) == whole


def changed(**fields: Any) -> LayerParameter:
    """CONV with some fields changed; ``None`` clears one."""
    new = LayerParameter()
    new.CopyFrom(CONV)
    for name, value in fields.items():
        target = new.convolution_param if name == "bias_term" else new
        if isinstance(value, list):
            del getattr(target, name)[:]
            getattr(target, name).extend(value)
        elif value is None:
            target.ClearField(name)
        else:
            setattr(target, name, value)
    return new


def rewritten(new: LayerParameter, blobs: Optional[Sequence[Blob]] = None) -> bytes:
    """FILE with its layer "conv" changed."""
    index = Caffemodel(FILE)
    record = index.layers[1]
    return written(FILE, [Entry("conv", record, blobs or record.blobs, CONV, new)])


def test_a_changed_layer_keeps_what_the_change_is_not_about() -> None:
    out = rewritten(
        changed(top=["bn"], bias_term=True), [Dense(np.ones((2, 3))), Dense([5.0, 6.0])]
    )
    # The fork's fields, outside and inside the message that changed.
    assert FORK in out
    assert field(99, b"inner") in out
    assert b"clashes with" in out
    actual = Caffemodel(out).layers[0]
    np.testing.assert_array_equal(actual.blobs[0].array(), np.ones((2, 3)))
    np.testing.assert_array_equal(actual.blobs[1].array(), [5, 6])
    assert b"raw" not in out  # what else the old blob's record held is not of the new values
    clash = out.replace(field(143, b"\xff\xff clashes with recurrent_param or whatever"), b"")
    clash = field(100, clash[clash.index(field(1, b"conv")) :])
    layer_ = parsed(clash).layer[0]
    assert list(layer_.top) == ["bn"]
    assert layer_.convolution_param.bias_term
    assert layer_.convolution_param.num_output == 2


@pytest.mark.parametrize(
    ("change", "gone", "present"),
    [
        ({"top": ["a", "b"]}, field(4, b"conv"), field(4, b"a") + field(4, b"b")),
        ({"top": []}, field(4, b"conv"), b""),
        ({"type": "DummyData"}, field(2, b"Convolution"), field(2, b"DummyData")),
        ({"name": None}, field(1, b"conv"), b""),
        ({"phase": 1}, b"", b"\x50\x01"),
    ],
)
def test_only_the_fields_that_changed_change(change: dict, gone: bytes, present: bytes) -> None:
    index = Caffemodel(FILE)
    record = index.layers[1]
    out = writer.patched(FILE, record.start, record.end, CONV, changed(**change))
    without = RECORD.replace(gone, b"", 1)
    blob = field(7, shape(2, 3) + data() + field(12, b"raw"))
    assert out == without.replace(blob, b"") + present


@examples(100)
@given(messages(LayerParameter), messages(LayerParameter), st.booleans())
def test_any_change_is_what_protobuf_then_reads(
    old: LayerParameter, new: LayerParameter, merged: bool
) -> None:
    if merged:
        base = LayerParameter()
        base.CopyFrom(old)
        base.MergeFrom(new)
        new = base
    for message in (old, new):
        message.ClearField("blobs")
    raw = old.SerializeToString() + FORK
    out = writer.patched(raw, 0, len(raw), old, new)
    assert out.count(FORK) == 1
    assert LayerParameter.FromString(out.replace(FORK, b"")) == new


def test_blobs_are_written_as_protobuf_reads_them() -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.array(7.5), np.empty((0, 4)), np.arange(3.0)]
    blobs: List[Blob] = [Dense(array) for array in arrays]
    wide = Stored((2, 3), np.frombuffer(F64, "<f8"))
    blobs += [wide, Scaled(wide, np.array([[2.0], [4.0]])), Dense(arrays[3] + 0.1)]
    new = LayerParameter(name="s", type="Scale")
    out = written(b"", [Entry("s", None, blobs, None, new)])
    (layer_,) = parsed(out).layer
    assert (layer_.name, layer_.type) == ("s", "Scale")
    for blob, actual in zip(blobs, layer_.blobs):
        double = blob.dtype == "<f8"
        values = actual.double_data if double else actual.data
        assert not (actual.data if double else actual.double_data)
        assert tuple(actual.shape.dim) == blob.shape
        assert actual.HasField("shape")
        np.testing.assert_array_equal(np.array(values, blob.dtype), blob.array().ravel())


def test_double_data_stays_double() -> None:
    raw = layer(shape(2, 3) + field(8, F64), shape(6) + data())
    index = Caffemodel(raw)
    record = index.layers[0]
    scaled = Scaled(record.blobs[0], np.array([[1 / 3], [1e-200]]))
    new = LayerParameter(name="conv", type="X")
    out = written(raw, [Entry("conv", record, [scaled, record.blobs[1]], LayerParameter(), new)])
    first, two = parsed(out).layer[0].blobs
    expected = np.frombuffer(F64, "<f8").reshape(2, 3) * np.array([[1 / 3], [1e-200]])
    np.testing.assert_array_equal(np.array(first.double_data).reshape(2, 3), expected)
    np.testing.assert_array_equal(np.array(two.data, "<f4"), VALUES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["stored", "rewritten", "overflow"])
def test_what_is_not_finite_is_an_error_naming_layer_and_blob(value: float, kind: str) -> None:
    bad = np.array([1, 2, value], "<f4")
    raw = layer(shape(1) + data(RAW[:4]), shape(3) + data(bad.tobytes()), name=b"fc")
    record = Caffemodel(raw).layers[0]
    blobs: List[Blob] = list(record.blobs)
    old = new = None
    if kind != "stored":
        old, new = LayerParameter(name="fc"), LayerParameter(name="fc", type="X")
    if kind == "overflow":
        blobs[1] = Dense([1, 2, -1e39 if value < 0 else 1e39])
        value = np.copysign(np.inf, value)
    with pytest.raises(WeightsError) as caught:
        written(raw, [Entry("fc", record, blobs, old, new)])
    assert str(caught.value) == f"layer 'fc', blob 1: expected finite values, found {value}"


class Counted(io.RawIOBase):
    """Takes bytes, keeps their number and the last of them."""

    size = 0
    last = b""

    def write(self, piece: Any) -> int:
        self.last = bytes(memoryview(piece)[-64:])
        self.size += memoryview(piece).nbytes
        return memoryview(piece).nbytes


def test_more_than_2_gb(tmp_path: Path) -> None:
    """No protobuf message can hold it. Zeros that were never written take no room on the disk."""
    rows, columns = 1 << 14, 33_000
    size = 4 * rows * columns
    dims = shape(rows, columns) + header(5, size)
    blob = field(1, b"large") + header(7, len(dims) + size) + dims
    path = tmp_path / "large.caffemodel"
    with path.open("wb") as handle:
        handle.write(header(100, len(blob) + size) + blob)
        handle.seek(size, os.SEEK_CUR)
        handle.write(layer(shape(6) + data(), name=b"small"))
    assert path.stat().st_size > 2**31
    index = open_index(str(path))
    large, small = index.layers
    assert large.blobs[0].shape == (rows, columns)
    np.testing.assert_array_equal(large.blobs[0].rows(slice(rows - 1, rows)), 0)
    np.testing.assert_array_equal(small.blobs[0].array(), VALUES)
    # Reading 2 GB of a file would take its time: the same values come from memory, twice.
    zeros = Stored((rows, columns), np.broadcast_to(np.zeros(1, "<f4"), size // 4))
    old, new = LayerParameter(name="small"), LayerParameter(name="small", type="Scale")
    entries = [
        Entry("large", large, [zeros]),
        Entry("more", None, [zeros], None, LayerParameter(name="more")),
        Entry("small", small, [Scaled(small.blobs[0], np.full(6, 0.5))], old, new),
    ]
    out = Counted()
    writer.write(out, index, entries)  # type: ignore[arg-type]
    assert out.size == index.size + (large.end - large.at) - 1 + len(field(2, b"Scale"))
    assert out.last == (VALUES * np.float32(0.5)).tobytes()

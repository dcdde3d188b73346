"""Blobs as forks store them: read like any other, written as every Caffe reads them, or as half."""

import io
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.weights import writer
from caffe_merge.formats.weights.blobs import Dense, Scaled
from caffe_merge.formats.weights.caffemodel import Caffemodel
from caffe_merge.formats.weights.index import Entry
from caffe_merge.formats.weights.wire import field, varint
from caffe_merge.net import saving
from tests.formats.weights.test_caffemodel import data, layer, shape
from tests.nets import write_pair
from tests.real_caffe import RealCaffe

VALUES = np.array([1.5, -2, 0.25, 0, 1024, 7])
F16, F32, F64 = (VALUES.astype(kind).tobytes() for kind in ("<f2", "<f4", "<f8"))


def number(tag: int, value: int) -> bytes:
    """A varint field."""
    return varint(tag << 3) + varint(value)


def nvidia(kind: int, raw: bytes) -> bytes:
    """raw_data_type and raw_data."""
    return number(10, kind) + field(12, raw)


def opencl(kind: int, raw: bytes) -> bytes:
    """packed_data and data_type."""
    return field(11, raw) + number(13, kind)


READ = {
    "nvidia double": (nvidia(0, F64), "<f8"),
    "nvidia float": (nvidia(1, F32), "<f4"),
    "nvidia half": (nvidia(2, F16), "<f2"),
    "nvidia, the type behind and twice": (field(12, F32) + number(10, 2) + number(10, 1), "<f4"),
    "nvidia, the type's default is double": (field(12, F64), "<f8"),
    "nvidia with a raw diff": (nvidia(2, F16) + number(11, 2) + field(13, F16), "<f2"),
    "nvidia, data come first": (nvidia(2, b"??") + data(F32), "<f4"),
    "opencl float": (opencl(0, F32), "<f4"),
    "opencl half": (opencl(1, F16), "<f2"),
    "opencl double": (opencl(2, F64), "<f8"),
    "masks of another fork": (data(F32) + field(10, F32) + field(11, F64) + number(12, 1), "<f4"),
}


@pytest.mark.parametrize("case", READ)
def test_values(case: str) -> None:
    fields, dtype = READ[case]
    (blob,) = Caffemodel(layer(shape(2, 3) + fields)).layers[0].blobs
    assert blob.values.dtype == dtype
    np.testing.assert_array_equal(blob.array(), VALUES.reshape(2, 3))
    assert blob.dtype == ("<f8" if dtype == "<f8" else "<f4")


WRONG = {
    "short": (nvidia(1, F32[:-4]), "shape (2, 3) wants 6 values, found 5"),
    "of another type": (nvidia(2, F32), "shape (2, 3) wants 6 values, found 12"),
    "not whole": (nvidia(1, F32[:-1]), "expected whole 4-byte values, found 23 bytes"),
    "integers": (nvidia(3, F32), "expected values in floating point, found a fork's data type 3"),
    "quantised": (opencl(3, F32), "expected values in floating point, found a fork's data type 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_names_layer_and_blob(case: str) -> None:
    fields, message = WRONG[case]
    with pytest.raises(WeightsError) as caught:
        Caffemodel(layer(shape(2, 3) + fields), "w")
    assert str(caught.value) == f"w: layer 'conv', blob 0: {message}"


def rewritten(raw: bytes, keep_half: bool = False) -> bytes:
    """The file written again, nothing changed by us."""
    index = Caffemodel(raw, keep_half=keep_half)
    handle = io.BytesIO()
    entries = [Entry(record.name, record, record.blobs) for record in index.layers]
    writer.write(handle, index, entries)
    return handle.getvalue()


PLAIN = layer(shape(2, 3) + data(F32), more=b"\x90\x7d\x07")


@pytest.mark.parametrize(
    "blob",
    [
        nvidia(1, F32),
        nvidia(2, F16),
        opencl(1, F16),
        data(F32) + field(6, F32),
        field(9, F64) + data(F32),
        data(F32) + number(11, 2) + field(13, F16),
    ],
)
def test_written_as_plain_data_without_diff(blob: bytes) -> None:
    assert rewritten(layer(shape(2, 3) + blob, more=b"\x90\x7d\x07")) == PLAIN


@pytest.mark.parametrize("blob", [nvidia(2, F16), opencl(1, F16)])
def test_half_that_is_kept_is_copied_in_the_forks_own_field(blob: bytes) -> None:
    whole = layer(shape(2, 3) + blob)
    assert rewritten(whole, keep_half=True) == whole
    mixed = layer(shape(2, 3) + blob, shape(6) + data(F32) + field(6, F32))
    assert Caffemodel(rewritten(mixed, keep_half=True)).layers[0].blobs[1].diff == 0
    again = Caffemodel(rewritten(mixed, keep_half=True)).layers[0].blobs[0]
    assert again.encoding == ("raw_data" if blob[:1] == b"\x50" else "packed_data")
    assert again.half


def test_half_is_rounded_once_and_overflow_is_an_error() -> None:
    index = Caffemodel(layer(shape(2, 3) + nvidia(2, F16)), keep_half=True)
    record = index.layers[0]
    factor = np.full((1, 1), 1 / 3)
    blobs = [
        Scaled(Scaled(record.blobs[0], factor), factor),
        Dense([65519.0], record.blobs[0].dtype),
    ]
    handle = io.BytesIO()
    new = LayerParameter(name="conv", type="X")
    writer.write(handle, index, [Entry("conv", record, blobs, LayerParameter(name="conv"), new)])
    actual = Caffemodel(handle.getvalue()).layers[0].blobs
    np.testing.assert_array_equal(actual[0].values, (VALUES * (1 / 3 * (1 / 3))).astype("<f2"))
    np.testing.assert_array_equal(actual[1].values, [65504])
    blobs = [Scaled(record.blobs[0], np.full((1, 1), 100.0))]
    with pytest.raises(WeightsError, match=r"'conv', blob 0: .* found inf once rounded to half"):
        writer.write(handle, index, [Entry("conv", record, blobs, LayerParameter(), new)])


TEXT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "fc" type: "InnerProduct" bottom: "bn" top: "fc"
  inner_product_param { num_output: 2 } }
"""


def half_pair(folder: Path) -> Tuple[Path, Path, List[np.ndarray]]:
    """A net of NVIDIA's, its weights in half precision but for those of fc."""
    random = np.random.default_rng(5)
    blobs = [
        random.standard_normal((4, 3, 3, 3)).astype("<f2"),
        random.standard_normal(4).astype("<f2"),
        (1 + random.random(4)).astype("<f2"),
        np.array([1], "<f2"),
        random.standard_normal((2, 48)).astype("<f4"),
        random.standard_normal(2).astype("<f4"),
    ]
    raw = [
        shape(*blob.shape) + nvidia(2 if blob.itemsize == 2 else 1, blob.tobytes())
        for blob in blobs
    ]
    layers = layer(raw[0]), layer(*raw[1:4], name=b"bn"), layer(*raw[4:], name=b"fc")
    prototxt, weights = write_pair(folder, TEXT, b"".join(layers), "half")
    return prototxt, weights, blobs


@pytest.mark.parametrize("keep", [False, True])
def test_a_merge_of_half_precision(tmp_path: Path, keep: bool) -> None:
    prototxt, weights, blobs = half_pair(tmp_path)
    pair = ["--model", str(prototxt), "--weights", str(weights), "-q"]
    assert merge_bn([*pair, *(["--keep-dtype"] if keep else [])]) == 0
    out = (tmp_path / "half_merged.caffemodel").read_bytes()
    conv, fc = Caffemodel(out, keep_half=True).layers
    factor = 1 / np.sqrt(blobs[2].astype("f8") + 1e-5)
    exact = blobs[0] * factor[:, np.newaxis, np.newaxis, np.newaxis]
    dtype = "<f2" if keep else "<f4"
    np.testing.assert_array_equal(conv.blobs[0].array(), exact.astype(dtype))
    assert conv.blobs[0].array().dtype == conv.blobs[1].array().dtype == dtype
    # What was float32 in NVIDIA's own field is now where every Caffe finds it.
    parsed = NetParameter.FromString(out)
    np.testing.assert_array_equal(np.float32(parsed.layer[1].blobs[0].data), blobs[4].ravel())
    assert fc.blobs[0].encoding == ""
    assert len(parsed.layer[0].blobs[0].data) == (0 if keep else 108)


def test_the_notes_say_once_what_is_written_otherwise(tmp_path: Path) -> None:
    prototxt, weights, _ = half_pair(tmp_path)
    weights.write_bytes(
        weights.read_bytes() + layer(shape(6) + data(F32) + field(6, F32), name=b"x")
    )
    net = caffe_merge.load(str(prototxt), str(weights))
    notes = {note.kind: note.text for note in net.notes if not note.layer}
    assert notes == {
        "diff-dropped": "the weights of 1 layer are stored with gradients (diff): 26 bytes, left "
        "out",
        "raw-blobs": "the weights of 1 layer are stored in a fork's encoding (raw_data or "
        "packed_data); written as plain data, for every Caffe",
        "half-precision": "the weights of 2 layers are stored in half precision: written as "
        "float32; keep_dtype keeps them so",
    }
    kept = caffe_merge.load(str(prototxt), str(weights), keep_dtype=True)
    (note,) = [note for note in kept.notes if note.kind == "half-precision"]
    assert "kept so" in note.text


def test_caffe_reads_what_is_written_of_a_forks_file(tmp_path: Path, real_caffe: RealCaffe) -> None:  # type: ignore[no-untyped-def]
    prototxt, weights, _ = half_pair(tmp_path)
    net = caffe_merge.load(str(prototxt), str(weights))
    out = tmp_path / "o.prototxt", tmp_path / "o.caffemodel"
    saving.save(net, *map(str, out))
    random = np.random.default_rng(0).standard_normal((1, 3, 6, 5)).astype("f4")
    actual = real_caffe.forward_pair(*out, {"data": random})["fc"]
    expected = caffe_merge.validation.forward((prototxt, weights), {"data": random})["fc"]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)

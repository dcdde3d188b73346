"""Weights in HDF5: what Caffe writes and reads, in every number type, and what is none of it."""

import builtins
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import CaffeMergeError, UsageError, ValidationError, WeightsError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.weights.formats import open_index
from tests.formats.weights.test_blobproto import half_pair
from tests.nets import load_pair, write_pair

h5py = pytest.importorskip("h5py")

TEXT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" }
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" }
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "b" top: "bn" }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "fc" type: "InnerProduct" bottom: "bn" top: "fc"
  inner_product_param { num_output: 3 } }
layer { name: "bn2" type: "BatchNorm" bottom: "fc" top: "out" }
"""
W = np.float32([[1, 2], [3, -4]]).reshape(2, 2, 1, 1)
FC = np.arange(-48, 48, dtype="f4").reshape(3, 32) / 64


def blobs() -> Dict[str, Any]:
    """Weights for TEXT."""
    return {
        "a": [W, np.float32([5, 6])],
        "b": [W, np.float32([7, 8])],
        "bn": [np.float32([0.5, 1]), np.float32([2, 3]), np.float32([2])],
        "fc": [FC, np.float32([1, 0, 2])],
        "bn2": [np.float32([1, 1, 0]), np.float32([4, 9, 1]), np.float32([1])],
    }


@pytest.fixture
def pair(tmp_path: Path) -> Tuple[Path, Path]:
    return write_pair(tmp_path, TEXT, blobs())


def h5(path: Path, values: Dict[str, Any], shared: bool = True, **how: Any) -> Path:
    """``values`` in HDF5 as Caffe lays them out: shared blobs only where they are owned."""
    with h5py.File(path, "w") as file:
        for name, arrays in values.items():
            group = file.require_group(f"data/{name}")
            for number, array in enumerate(arrays):
                if not (shared and name == "b" and number == 0):
                    group.create_dataset(str(number), data=array, **how)
    return path


def merged(prototxt: Path, weights: Path, out: str, *more: str) -> Path:
    """The merged weights, called ``out``."""
    target = weights.parent / out
    arguments = ["--model", prototxt, "--weights", weights, "--output-weights", target, "--force"]
    arguments += ["--output-model", weights.parent / "m.prototxt", "-q", *more]
    assert merge_bn(list(map(str, arguments))) == 0
    return target


def values(prototxt: Path, weights: Path) -> Dict[str, Any]:
    """The blobs that every layer runs on."""
    net = caffe_merge.load(str(prototxt), str(weights))
    return {
        layer.name: [(blob.shape, blob.array().tobytes()) for blob in layer.blobs]
        for layer in net.layers
    }


@pytest.mark.parametrize("more", [[], ["--keep-shared"]])
def test_every_way_through_gives_the_same_weights(
    more: List[str], pair: Tuple[Path, Path], tmp_path: Path
) -> None:
    source = h5(tmp_path / "net.caffemodel.h5", blobs())
    assert values(pair[0], source) == values(*pair)
    plain = merged(*pair, "plain.caffemodel", *more)
    original = merged(*pair, "there.caffemodel.h5", *more)
    kept = merged(pair[0], source, "kept", *more)  # the input's kind
    back = merged(pair[0], source, "back.caffemodel", *more)
    assert kept.read_bytes() == original.read_bytes()
    assert kept.read_bytes()[:4] == b"\x89HDF"
    text = tmp_path / "m.prototxt"
    expected = values(text, plain)
    assert len(expected["fc"]) == 2
    assert values(text, original) == values(text, back) == expected
    with h5py.File(kept, "r") as file:
        assert list(file["data/b"]) == (["1"] if more else ["0", "1"])  # "0" is that of a
        assert file["data/fc/0"].dtype == "<f4"


def test_default_output_and_detection_by_content(pair: Tuple[Path, Path], tmp_path: Path) -> None:
    odd = h5(tmp_path / "weights.bin", blobs())
    assert merge_bn(["--model", str(pair[0]), "--weights", str(odd), "-q"]) == 0
    assert open_index(str(tmp_path / "weights_merged.bin")).kind == "hdf5"
    behind = tmp_path / "userblock.h5"
    with h5py.File(behind, "w", userblock_size=1024) as file:
        for name, arrays in blobs().items():
            for number, array in enumerate(arrays):
                file[f"data/{name}/{number}"] = array
    behind.write_bytes(b"x" * 1024 + behind.read_bytes()[1024:])
    assert values(pair[0], behind) == values(*pair)


def test_the_same_bytes_on_every_run(pair: Tuple[Path, Path], monkeypatch: Any) -> None:
    once = merged(*pair, "one.h5").read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert merged(*pair, "two.h5", "--validate", "none").read_bytes() == once


def test_caffe_and_we_read_what_the_other_writes(
    pair: Tuple[Path, Path], tmp_path: Path, real_caffe: Any
) -> None:
    image = np.random.default_rng(1).standard_normal((1, 2, 4, 4)).astype("f4")
    theirs = tmp_path / "theirs.caffemodel.h5"
    real_caffe.resave(*pair, theirs)
    with h5py.File(theirs, "r") as file:
        assert list(file["data/b"]) == ["1"]
    assert values(pair[0], theirs) == values(*pair)
    ours = merged(pair[0], theirs, "ours.h5", "--validate", "pycaffe")
    old = real_caffe.forward_pair(*pair, {"data": image})
    new = real_caffe.forward_pair(tmp_path / "m.prototxt", ours, {"data": image})
    np.testing.assert_allclose(new["out"], old["out"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ({"chunks": True}, "<f4"),
        ({"compression": "gzip", "shuffle": True}, "<f4"),
        ({"dtype": ">f4"}, "<f4"),
        ({"dtype": "<f8"}, "<f8"),
        ({"dtype": ">f8"}, "<f8"),
        ({"dtype": "<f2"}, "<f4"),
        ({"dtype": "<i8"}, "<f4"),
        ({"dtype": "u1"}, "<f4"),
    ],
)
def test_every_way_to_store_numbers(tmp_path: Path, how: Dict[str, Any], dtype: str) -> None:
    array = np.arange(24, dtype="f4").reshape(2, 3, 4)
    (record,) = open_index(str(h5(tmp_path / "x.h5", {"l": [array]}, **how))).layers
    (blob,) = record.blobs
    assert blob.dtype == dtype
    np.testing.assert_array_equal(blob.array(), array)
    assert blob.array().dtype == dtype
    np.testing.assert_array_equal(blob.rows(slice(1, 2)), array[1:])
    np.testing.assert_array_equal(np.concatenate(list(blob.blocks())), array.ravel())
    assert blob.reshaped((24,)).array().shape == (24,)


def test_scalars_and_empty_blobs_and_empty_groups(tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5", {"l": [np.float32(3), np.empty((0, 2), "f4")], "relu": []})
    actual = open_index(str(path)).layers
    assert [(layer.name, [blob.shape for blob in layer.blobs]) for layer in actual] == [
        ("l", [(), (0, 2)]),
        ("relu", []),
    ]


def test_half_precision(tmp_path: Path) -> None:
    prototxt, weights, _ = half_pair(tmp_path)
    for more, kind in (((), "<f4"), (("--keep-dtype",), "<f2")):
        with h5py.File(merged(prototxt, weights, "half.h5", *more), "r") as file:
            assert file["data/conv/0"].dtype == kind
            assert file["data/fc/0"].dtype == "<f4"


def test_shapes_must_be_exact(pair: Tuple[Path, Path], tmp_path: Path) -> None:
    """A caffemodel's legacy (1, 1, 3, 32) is as good as (3, 32), here it is not."""
    wrong = {**blobs(), "fc": [FC.reshape(1, 1, 3, 32), np.float32([1, 0, 2])]}
    with pytest.raises(WeightsError, match=r"'fc', blob 0: expected shape \(3, 32\), found"):
        values(pair[0], h5(tmp_path / "x.h5", wrong))


def test_a_blob_that_is_missing_must_be_shared(pair: Tuple[Path, Path], tmp_path: Path) -> None:
    path = h5(tmp_path / "x.h5", blobs())
    pair[0].write_text(TEXT.replace('param { name: "w" }', "", 1))
    with pytest.raises(WeightsError, match="'b', blob 0: it is not in the file, and no layer"):
        values(pair[0], path)


def test_a_layer_that_shares_all_its_blobs_with_one_that_is_not_there(
    tmp_path: Path, real_caffe: Any
) -> None:
    """Its group is empty and Caffe takes it: both run on the fillers of the first."""
    conv = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s"
      param { name: "w" } param { name: "v" } convolution_param { num_output: 2 kernel_size: 1
      weight_filler { type: "constant" value: %s } bias_filler { type: "constant" value: 3 } } }
    """
    text = TEXT[: TEXT.index("layer", 10)]
    text += conv % ("a", "data", "a", 0.5) + conv % ("b", "a", "b", 7)
    prototxt, _ = write_pair(tmp_path, text, {"data": []})
    weights = h5(tmp_path / "x.h5", {"data": [], "b": []})
    net = caffe_merge.load(str(prototxt), str(weights))
    actual = [[set(blob.array().ravel()) for blob in layer.blobs] for layer in net.layers[1:]]
    assert actual == [[{0.5}, {3.0}]] * 2
    assert {(note.kind, note.layer) for note in net.notes} == {
        ("filler-weights", "a"), ("filler-weights", "b"),
    }  # fmt: skip
    outputs = real_caffe.forward_pair(prototxt, weights, {"data": np.ones((1, 2, 4, 4), "f4")})
    assert {*outputs["a"].ravel()} == {4.0}
    assert {*outputs["b"].ravel()} == {7.0}
    # With one blob that is its own, it is not one that shares all: Caffe refuses the file.
    prototxt.write_text(text.replace('param { name: "v" }', ""))
    with pytest.raises(WeightsError, match="expected 2 blobs for a Convolution, found 0"):
        caffe_merge.load(str(prototxt), str(weights))
    with pytest.raises(ValidationError):
        real_caffe.forward_pair(prototxt, weights, {})


def test_a_caffemodel_made_of_hdf5_has_the_nets_name(
    pair: Tuple[Path, Path], tmp_path: Path
) -> None:
    """HDF5 has no place for it; the text has."""
    pair[0].write_text('name: "Straße"\n' + TEXT)
    source = h5(tmp_path / "x.h5", blobs())
    result = NetParameter()
    result.ParseFromString(merged(pair[0], source, "back.caffemodel").read_bytes())
    assert result.name == "Straße"
    assert [layer.name for layer in result.layer] == ["a", "b", "fc"]


@pytest.mark.parametrize("name", ["x/fc", "a/fc"])
def test_names_with_a_slash(tmp_path: Path, real_caffe: Any, name: str) -> None:
    """Groups in groups are read, and not written: Caffe cannot write them, or read its own.

    It makes no group in one that is not there; where it is, it takes it for a blob of that layer.
    """
    text = TEXT.replace('name: "fc"', f'name: "{name}"')
    held = {(name if layer == "fc" else layer): arrays for layer, arrays in blobs().items()}
    prototxt, weights = write_pair(tmp_path, text, held, "slash")
    assert values(prototxt, h5(tmp_path / "x.h5", held)) == values(prototxt, weights)
    net = caffe_merge.load(str(prototxt), str(weights))
    with pytest.raises(WeightsError, match=f"'{name}': weights in HDF5 cannot have"):
        caffe_merge.save(net, str(tmp_path / "o.prototxt"), str(tmp_path / "o.h5"))
    assert not (tmp_path / "o.prototxt").exists()
    theirs = tmp_path / "theirs.caffemodel.h5"
    if name == "x/fc":
        with pytest.raises(CaffeMergeError, match="Error saving weights to"):
            real_caffe.resave(prototxt, weights, theirs)
        return
    real_caffe.resave(prototxt, weights, theirs)
    assert values(prototxt, theirs) == values(prototxt, weights)
    with pytest.raises(CaffeMergeError, match="Incompatible number of blobs for layer a"):
        real_caffe.forward_pair(prototxt, theirs, {})


def test_values_that_are_not_finite(pair: Tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    bad = {**blobs(), "a": [W * np.float32(np.inf), np.float32([5, 6])]}
    path = h5(tmp_path / "x.h5", bad)
    assert merge_bn(["--model", str(pair[0]), "--weights", str(path), "-q"]) == 2
    assert "layer 'a', blob 0: expected finite values, found" in capsys.readouterr().err


def test_without_h5py(pair: Tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    path = h5(tmp_path / "x.h5", blobs())
    net = load_pair(pair)
    real = builtins.__import__

    def none(name: str, *more: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.delitem(sys.modules, "h5py")
    monkeypatch.setattr(builtins, "__import__", none)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"need h5py: pip install caffe_merge\[hdf5\]$"):
        open_index(str(path))
    with pytest.raises(UsageError, match="need h5py"):
        caffe_merge.save(net, str(tmp_path / "o.prototxt"), str(tmp_path / "o.h5"))
    caffe_merge.save(net, str(tmp_path / "o.prototxt"), str(tmp_path / "o.caffemodel"))

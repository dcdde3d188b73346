"""Old weights and old text in any mixture: as after Caffe's own upgrade, blob for blob."""

import os
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from google.protobuf import text_format

import caffe_merge
from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.weights.caffemodel import Caffemodel
from tests.formats.text.upgrade.support import caffes, ours, plain
from tests.real_caffe import RealCaffe

CORPUS = os.environ.get("CAFFE_MERGE_CORPUS")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="CAFFE_MERGE_CORPUS names no folder")

HEAD = 'name: "old"\ninput: "data"\ninput_dim: [2, 3, 6, 6]\n'
TEXTS = {
    "V2": HEAD + """
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 1 } }
layer { name: "d" type: "Dropout" bottom: "c" top: "c" dropout_param { dropout_ratio: 0.4 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f"
  inner_product_param { num_output: 5 } param { lr_mult: 1 decay_mult: 0 } param { lr_mult: 2 } }
layer { name: "s" type: "Softmax" bottom: "f" top: "s" }
""",
    "V1": HEAD + """
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 1 } }
layers { name: "d" type: DROPOUT bottom: "c" top: "c" dropout_param { dropout_ratio: 0.4 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "p" type: POOLING bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layers { name: "f" type: INNER_PRODUCT bottom: "p" top: "f"
  inner_product_param { num_output: 5 } blobs_lr: 1 blobs_lr: 2 weight_decay: 0 }
layers { name: "s" type: SOFTMAX bottom: "f" top: "s" }
""",
    "V0": HEAD + """
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 group: 1 }
  bottom: "padded" top: "c" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.4 } bottom: "c" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "p" type: "pool" kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "f" type: "innerproduct" num_output: 5 blobs_lr: 1 blobs_lr: 2
  weight_decay: 0 } bottom: "p" top: "f" }
layers { layer { name: "s" type: "softmax" } bottom: "f" top: "s" }
""",
}  # fmt: skip


def blob(target: Any, values: np.ndarray, legacy: bool) -> None:
    """Store ``values``, with four axes as writers of old did or with what they have."""
    if legacy:
        dims = (1,) * (4 - values.ndim) + values.shape
        target.num, target.channels, target.height, target.width = dims
    else:
        target.shape.dim.extend(values.shape)
    target.data.extend(values.ravel().tolist())


def values() -> Dict[str, List[np.ndarray]]:
    """The weights of the nets above."""
    rng = np.random.default_rng(3)
    shapes: Dict[str, List[Tuple[int, ...]]] = {"c": [(4, 3, 3, 3), (4,)], "f": [(5, 36), (5,)]}
    return {
        name: [rng.standard_normal(shape).astype(np.float32) for shape in held]
        for name, held in shapes.items()
    }


def stored(version: str, path: Path) -> Path:
    """A caffemodel of the nets above in a format, with its layers' types and names."""
    net, arrays = NetParameter(name="old", input=["data"]), values()  # as Caffe of then saved it
    for layer in text_format.Parse(TEXTS[version], NetParameter()).ListFields():
        if layer[0].name not in ("layer", "layers"):
            continue
        for item in layer[1]:
            held = getattr(net, layer[0].name).add()
            held.CopyFrom(item)
            inner = held.layer if version == "V0" else held
            for array in arrays.get(inner.name, ()):
                blob(inner.blobs.add(), array, version != "V2")
    path.write_bytes(net.SerializeToString())
    return path


def layers(path: Path) -> Dict[str, Any]:
    """The layers of a caffemodel by name, without those that Caffe adds."""
    net = NetParameter.FromString(path.read_bytes())
    assert not net.layers
    return {item.name: plain(item) for item in net.layer if item.type not in ("Input", "Split")}


MIXED = [(text, weights) for text in TEXTS for weights in TEXTS]


@pytest.mark.parametrize(("text", "weights"), MIXED)
def test_as_after_caffes_own_upgrade(
    text: str, weights: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    prototxt, model = tmp_path / "old.prototxt", stored(weights, tmp_path / "old.caffemodel")
    prototxt.write_text(TEXTS[text])
    real_caffe.resave(prototxt, model, tmp_path / "caffe.caffemodel")
    theirs = layers(tmp_path / "caffe.caffemodel")

    net = caffe_merge.load(str(prototxt), str(model))
    caffe_merge.save(net, str(tmp_path / "saved.prototxt"), str(tmp_path / "saved.caffemodel"))
    saved = layers(tmp_path / "saved.caffemodel")
    if weights != "V2":  # else records are copied
        assert {
            name: saved_layer for name, saved_layer in saved.items() if saved_layer.type
        } == theirs
    assert "layers" not in (tmp_path / "saved.prototxt").read_text()

    # The pair that Caffe upgraded: its text is what it saved of its layers.
    upgraded = NetParameter.FromString((tmp_path / "caffe.caffemodel").read_bytes())
    for layer in upgraded.layer:
        layer.ClearField("blobs")
    (tmp_path / "caffe.prototxt").write_text(text_format.MessageToString(upgraded))
    merged = []
    for stem in ("old", "caffe", "saved"):
        pair = [str(tmp_path / f"{stem}.{end}") for end in ("prototxt", "caffemodel")]
        net = caffe_merge.load(*pair)
        report = caffe_merge.merge(net)
        assert [change.removed for change in report.changes] == [("d",)]
        out = [path.replace(f"{stem}.", f"{stem}_merged.") for path in pair]
        caffe_merge.save(net, *out)
        again = caffe_merge.load(*out)
        merged.append(
            [
                (plain(layer.param), [blob.array().tobytes() for blob in layer.blobs])
                for layer in again.layers
                if layer.type != "Input"
            ]
        )
    assert merged[0] == merged[1] == merged[2]
    assert [len(held) for _, held in merged[0]] == [2, 0, 0, 2, 0]

    data = {"data": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    before = real_caffe.forward_pair(prototxt, model, data)["s"]
    out = [str(tmp_path / f"old_merged.{end}") for end in ("prototxt", "caffemodel")]
    np.testing.assert_array_equal(real_caffe.forward_pair(*map(Path, out), data)["s"], before)


def test_the_report_says_it_once_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(TEXTS["V1"])
    net = caffe_merge.load(str(tmp_path / "p"), str(stored("V0", tmp_path / "w")))
    assert [note.text for note in net.notes if note.kind == "upgraded"] == [
        "the text is of the V1 format: its layers are written in the current one",
        "the weights are of the V0 format; written in the current one",
    ]
    assert [note.kind for note in net.notes] == ["upgraded", "upgraded"]


def test_what_nobody_knows_the_axes_of_keeps_its_four(tmp_path: Path) -> None:
    """A layer of another phase, a fork's layer: whoever reads them may take 1s for no axes."""
    text = HEAD + (
        'layers { name: "t" type: INNER_PRODUCT bottom: "data" top: "t" include { phase: TRAIN } '
        "inner_product_param { num_output: 2 } }\n"
        'layers { name: "u" type: DROPOUT_CHANNEL bottom: "data" top: "u" }\n'
    )
    net = NetParameter()
    for name in ("t", "u", "gone"):
        layer = net.layers.add(name=name, type=14)
        blob(layer.blobs.add(), np.arange(6, dtype=np.float32).reshape(2, 3), True)
        layer.blobs[0].diff.extend([1.0] * 6)
    (tmp_path / "p").write_text(text)
    (tmp_path / "w").write_bytes(net.SerializeToString())
    actual = caffe_merge.load(str(tmp_path / "p"), str(tmp_path / "w"))
    caffe_merge.save(actual, str(tmp_path / "q"), str(tmp_path / "v"))
    saved = layers(tmp_path / "v")
    assert [(saved_layer.name, saved_layer.type) for saved_layer in saved.values()] == [
        ("t", "InnerProduct"), ("u", "DropoutChannel")
    ]  # fmt: skip
    for saved_layer in saved.values():
        held = saved_layer.blobs[0]
        assert (held.num, held.channels, held.height, held.width) == (1, 1, 2, 3)
        assert not held.HasField("shape")
        assert list(held.data) == [0, 1, 2, 3, 4, 5]
        assert not held.diff


def test_blobs_in_the_text_are_not_written_twice(tmp_path: Path) -> None:
    text = TEXTS["V1"].replace('name: "c"', 'name: "c" blobs { shape { dim: 1 } data: 7 }')
    (tmp_path / "p").write_text(text)
    net = caffe_merge.load(str(tmp_path / "p"), str(stored("V1", tmp_path / "w")))
    caffe_merge.save(net, str(tmp_path / "q"), str(tmp_path / "v"))
    assert [list(layer.shape.dim) for layer in layers(tmp_path / "v")["c"].blobs] == [
        [4, 3, 3, 3],
        [4],
    ]


def index(*parts: str) -> List[Tuple[str, List[float]]]:
    """Names and values that the index finds in a net in text form."""
    raw = text_format.Parse(" ".join(parts), NetParameter()).SerializeToString()
    return [
        (layer.name, [value for held in layer.blobs for value in held.array().ravel().tolist()])
        for layer in Caffemodel(raw, "w").layers
    ]


BLOB = "blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 }"
INDEXED = [
    ([f'layers {{ name: "a" {BLOB} }}'], [("a", [1, 2])]),
    ([f'layers {{ layer {{ name: "a" {BLOB} }} }}'], [("a", [1, 2])]),
    # A V1 layer among V0 ones loses all but bottoms and tops, as does what is beside a V0 layer.
    ([f'layers {{ name: "a" {BLOB} }} layers {{ layer {{ name: "b" }} name: "c" {BLOB} }}'],
     [("", []), ("b", [])]),
    (['layers { name: "a" } layers { name: "a" layer { } }'], [("", []), ("", [])]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "expected"), INDEXED)
def test_index(parts: Sequence[str], expected: Any) -> None:
    assert index(*parts) == expected


REFUSED = [
    ('layer { name: "a" } layers { name: "b" }', "w: expected `layer` or `layers`, found both"),
    ('layers { layer { name: "b" } } layer { }', "w: expected `layer` or `layers`, found both"),
    (f'layers {{ name: "b" {BLOB.replace("data: 2", "")} }}',
     "w: layer 'b', blob 0: shape (1, 1, 1, 2) wants 2 values, found 1"),
    (f'layers {{ layer {{ name: "c" {BLOB} {BLOB.replace("width: 2", "width: -1")} }} }}',
     "w: layer 'c', blob 1: expected dimensions of at least 0, found (1, 1, 1, -1)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_old_caffemodel(text: str, message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        index(text)
    assert str(caught.value).startswith(message)


@needs_corpus
@pytest.mark.parametrize("name", ["places205-v0format", "unet-v1-oneline"])
def test_published_texts(name: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    # real Caffe knows no CROP; for the upgrade any type will do
    text = Path(str(CORPUS), f"{name}.prototxt").read_text().replace("CROP", "SILENCE")
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert len(theirs) > 20
    assert ours(text) == theirs


@needs_corpus
def test_a_published_v1_net_with_v1_weights(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = Path(str(CORPUS), "googlenet-v1format.prototxt").read_text()
    prototxt, model = tmp_path / "p", tmp_path / "w"
    prototxt.write_text(text.replace("input_dim: 10", "input_dim: 1"))
    empty = tmp_path / "empty"
    empty.write_bytes(NetParameter(name="x").SerializeToString())
    real_caffe.resave(prototxt, empty, tmp_path / "caffe")
    theirs = layers(tmp_path / "caffe")
    old = NetParameter()
    for layer in theirs.values():
        held = old.layers.add(name=layer.name)
        for saved_layer in layer.blobs:
            shape = list(saved_layer.shape.dim)
            dims = [1] * (4 - len(shape)) + shape
            held.blobs.add(
                data=saved_layer.data, **dict(zip(("num", "channels", "height", "width"), dims))
            )
    model.write_bytes(old.SerializeToString())
    net = caffe_merge.load(str(prototxt), str(model))
    caffe_merge.save(net, str(tmp_path / "q"), str(tmp_path / "v"))
    saved = layers(tmp_path / "v")
    assert list(saved) == list(theirs)
    for name, saved_layer in saved.items():
        renamed = any("_split_" in bottom for bottom in theirs[name].bottom)  # after its Splits
        if renamed:
            theirs[name].bottom[:] = saved_layer.bottom
        assert saved_layer == theirs[name], name


@pytest.mark.parametrize("version", ["V1", "V0"])
def test_any_bytes_are_an_index_or_an_error(version: str, tmp_path: Path) -> None:
    raw = stored(version, tmp_path / "w").read_bytes()
    rng = np.random.default_rng(7)
    ends = [0, 0]
    for _ in range(1500):
        broken = bytearray(raw)
        for at in rng.integers(0, 200 if rng.random() < 0.7 else len(raw), rng.integers(1, 4)):
            broken[at] = rng.integers(256)
        cut = len(raw) if rng.random() < 0.7 else int(rng.integers(len(raw)))
        try:
            actual = Caffemodel(bytes(broken[:cut]), "w").layers
        except WeightsError:
            ends[1] += 1
        else:
            ends[0] += bool(actual)
    assert min(ends) > 100

"""Nets of every shape: several inputs, shared towers, recurrent layers, dead ends, odd names.

Each is merged by ``merged``, which holds the net against itself before, in float64 and in real
Caffe; the tests say what is left.
"""

import json
import subprocess
from pathlib import Path
from typing import List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import NetError, TextError
from tests.merger import Merger, assert_equal
from tests.nets import load_pair, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe

CONV = "Convolution {} -> {} {{ convolution_param {{ num_output: 4 kernel_size: 3 }} }}"
SCALE = "{ scale_param { bias_term: true } }"


def block(name: str, bottom: str, top: str) -> List[str]:
    """A Convolution with its BatchNorm and Scale, in place, and a ReLU."""
    return [
        f"{name}: {CONV.format(bottom, top)}",
        f"{name}_bn: BatchNorm {top} -> {top}",
        f"{name}_scale: Scale {top} -> {top} {SCALE}",
        f"{name}_relu: ReLU {top} -> {top}",
    ]


def test_several_inputs_and_outputs(merged: Merger) -> None:
    """Inputs in one layer or several; outputs in the middle of a run keep what they are."""
    result = merged(
        "a 2 3 6 6",
        "b 2 3 6 6",
        *block("one", "a", "x"),
        *block("two", "b", "y"),
        "sum: Eltwise x y -> sum",
        "left: Scale sum -> left",
        "mid: BatchNorm y -> mid",
    )
    assert result.names == ["one", "one_relu", "two", "two_relu", "sum", "left", "mid"]
    assert result.layer("mid").type == "Scale"


def test_several_nets_in_one_folder(tmp_path: Path) -> None:
    """Every pair has outputs of its own name; weights go with their own text."""
    for number, channels in enumerate((4, 6)):
        lines = [line.replace("num_output: 4", f"num_output: {channels}") for line in
                 block("c", "data", "c")]  # fmt: skip
        text = prototxt("data 1 3 6 6", *lines)
        write_pair(tmp_path, text, seeded(text, number), f"net{number}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for stem in ("net0", "net1"):
        pair = [str(tmp_path / f"{stem}.{ext}") for ext in ("prototxt", "caffemodel")]
        assert merge_bn(["--model", pair[0], "--weights", pair[1], "-q"]) == 0
    result = {f"net{n}_merged.{ext}" for n in (0, 1) for ext in ("prototxt", "caffemodel")}
    assert {path.name for path in tmp_path.iterdir()} == {*before, *result}
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    shapes = [
        caffe_merge.load(*(str(tmp_path / f"net{n}_merged.{ext}") for ext in
                           ("prototxt", "caffemodel"))).layers[1].blobs[0].shape
        for n in (0, 1)
    ]  # fmt: skip
    assert shapes == [(4, 3, 3, 3), (6, 3, 3, 3)]


def test_siamese_towers(merged: Merger) -> None:
    """What is behind one tower alone is folded into a copy, or nothing is."""
    shared = 'param {{ name: "w" }} param {{ name: "b" }} '
    conv = CONV.replace("{{ conv", "{{ " + shared + "conv")
    lines = [
        "pair 2 2 6 6",
        "cut: Slice pair -> a b { slice_param { slice_dim: 1 } }",
        f"one: {conv.format('a', 'x')}",
        "one_bn: BatchNorm x -> x",
        "one_relu: ReLU x -> x",
        f"two: {conv.format('b', 'y')}",
        "two_relu: ReLU y -> y",
        "drop: Dropout y -> y",
    ]
    result = merged(*lines)
    assert result.names == ["cut", "one", "one_relu", "two", "two_relu"]
    assert [sharing.name for sharing in result.report.unshared] == ["w", "b"]
    result = merged(*lines, keep_shared=True)
    assert result.report.unshared == []
    assert result.names == ["cut", "one", "one_bn", "one_relu", "two", "two_relu"]
    assert result.layer("one_bn").type == "Scale"
    for blob, two in zip(result.blobs("one"), result.blobs("two")):
        np.testing.assert_array_equal(blob, two)
    assert "weights" in next(
        refusal.reason for refusal in result.report.refusals if refusal.layer == "one_bn"
    )


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layers(merged: Merger, real_caffe: RealCaffe, kind: str) -> None:
    """They are opaque, and pass through with their weights; what is around them folds."""
    gates, random = (4 if kind == "LSTM" else 1), np.random.default_rng(1)
    shapes = [(gates * 5, 4), (gates * 5,), (gates * 5, 5)]
    if kind == "RNN":
        shapes += [(5, 5), (5,)]
    blobs = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    fill = "recurrent_param { num_output: 5 weight_filler { type: 'xavier' } }"
    head = "inner_product_param { num_output: 3 axis: 2 }"
    result = merged(
        "data 3 2 6 6",
        "cont 3 2",
        *block("c", "data", "c")[:3],
        "pool: Pooling c -> pool { pooling_param { pool: AVE global_pooling: true } }",
        "seq: Reshape pool -> seq { reshape_param { shape { dim: 3 dim: 1 dim: 4 } } }",
        "cont1: Slice cont -> go rest { slice_param { axis: 1 } }",
        "gone: Silence rest -> ",
        f"r: {kind} seq go -> r {{ {fill} }}",
        f"fc: InnerProduct r -> fc {{ {head} }}",
        "fc_power: Power fc -> fc { power_param { scale: -2 shift: 1 } }",
        weights={"r": blobs, "fc": [random.standard_normal((3, 5)), random.standard_normal(3)]},
    )
    assert result.names == ["c", "pool", "seq", "cont1", "gone", "r", "fc"]
    for old, new in zip(blobs, result.blobs("r")):
        np.testing.assert_array_equal(new, old)
    fed = {"data": random.standard_normal((3, 2, 6, 6)), "cont": np.ones((3, 2))}
    before, after = (
        real_caffe.forward_pair(merged.folder / f"{stem}.prototxt",
                                merged.folder / f"{stem}.caffemodel", fed)
        for stem in ("net1", "net1_merged")
    )  # fmt: skip
    assert_equal(before, after, 1e-5)
    assert np.ptp(after["fc"]) > 0


def test_dead_branches_and_layers_without_bottom_or_top(merged: Merger) -> None:
    """What goes nowhere is folded as well, and what Silence reads stays read."""
    result = merged(
        "data 2 3 6 6",
        "noise: DummyData -> noise { dummy_data_param { shape { dim: 2 dim: 4 dim: 4 dim: 4 }"
        " data_filler { type: 'constant' value: 0.5 } } }",
        "bias: Parameter -> bias { parameter_param { shape { dim: 4 } } }",
        *block("c", "data", "c"),
        "sum: Eltwise c noise -> sum",
        "out: Bias sum bias -> out",
        *block("dead", "data", "dead"),
        "s: Silence dead -> ",
        *block("end", "data", "end"),
        "d: Dropout end -> end",
    )
    assert result.names == [
        "noise", "bias", "c", "c_relu", "sum", "out", "dead", "dead_relu", "s", "end", "end_relu",
    ]  # fmt: skip


def test_a_top_named_like_another_layer(merged: Merger) -> None:
    """Names of layers and of blobs have nothing to do with each other."""
    result = merged(
        "x 2 3 6 6",
        f"a: {CONV.format('x', 'b')}",
        "b: BatchNorm b -> c",
        f"c: Scale c -> a {SCALE}",
        "e: Power a -> out { power_param { scale: 3 } }",
        f"out: {CONV.format('out', 'd')}",
        "d: Scale d -> e",
    )
    assert result.names == ["a", "out"]
    assert [list(layer.param.top) for layer in result.after.layers] == [["x"], ["out"], ["e"]]


def test_one_name_twice_once_per_phase(merged: Merger) -> None:
    """The layer of the phase is merged, the other stays in the text for its own."""
    norm = 'layer {{ name: "bn" type: "BatchNorm" bottom: "c" top: "c"\n  include {{ phase: {} }}\n'
    norm += "  batch_norm_param {{ use_global_stats: {} }} }}\n"
    text = prototxt("data 2 3 6 6", f"c: {CONV.format('data', 'c')}")
    text += norm.format("TRAIN", "false") + norm.format("TEST", "true")
    text += prototxt(f"s: Scale c -> c {SCALE}", "r: ReLU c -> c")
    result = merged(text)
    assert result.names == ["c", "r"]
    assert [layer.name for layer in result.after.all_layers] == ["data", "c", "bn", "r"]
    assert result.text.count("phase: TRAIN") == 1
    assert "phase: TEST" not in result.text


def test_a_bottom_that_nothing_produces(
    tmp_path: Path, capsys: pytest.CaptureFixture, real_caffe: RealCaffe
) -> None:
    text = prototxt("data 2 3 6 6", *block("c", "dta", "c"))
    prototxt_path, weights = write_pair(tmp_path, text, {"data": []})
    assert "Unknown bottom blob 'dta'" in real_caffe.error(text)
    with pytest.raises(NetError, match="layer 'c': bottom 'dta' is the top of no layer before it"):
        caffe_merge.merge(caffe_merge.load(str(prototxt_path), str(weights)))
    assert merge_bn(["--model", str(prototxt_path), "--weights", str(weights)]) == 2
    assert "'dta'" in capsys.readouterr().err
    assert not (tmp_path / "net_merged.prototxt").exists()


def test_a_text_cut_short_is_an_error_with_its_place(tmp_path: Path) -> None:
    """Wherever it is cut but behind a whole layer; and that says that the net ends there."""
    text = prototxt("data 2 3 6 6", *block("c", "data", "c"))
    path = tmp_path / "cut.prototxt"
    whole = [at for at in range(1, len(text)) if text[:at].rstrip("\n").endswith("\n}")]
    for at in set(range(1, len(text))) - set(whole):
        path.write_text(text[:at])
        with pytest.raises(TextError) as caught:
            caffe_merge.load(str(path), None)
        line, column = map(int, str(caught.value)[len(f"{path}:") :].split(":")[:2])
        lines = text[:at].split("\n")
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    assert len(whole) == 2 * 5 - 1  # before and behind the last line end of each layer


NAMES = [
    "plain", "a b", "a/b:c", "卷积层_1", "Straße", "émoji 😀", "\u202eright to left", "it's",
    'say "x"', "back\\slash", "tab\there", "two\nlines", "{ brace", "# no comment", "\x01\x7f", "",
    "\ufeff",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quote", ['"', "'", "octal"])
def test_names_of_any_kind(merged: Merger, name: str, quote: str) -> None:
    """Layers and blobs may be called anything, in either quotes or in escapes of bytes."""
    written = "".join(f"\\{byte:03o}" for byte in name.encode())
    if quote != "octal":
        written = name.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n")
    mark = "'" if quote == "'" else '"'
    text = prototxt("data 2 3 6 6", *block("NAME", "data", "TOP"), "end: TanH TOP -> TOP")
    text = text.replace('"NAME"', f"{mark}{written}{mark}").replace("NAME", "c")
    text = text.replace('"TOP"', f"{mark}{written}t{mark}")
    result = merged(text)
    assert [layer.name for layer in result.after.layers] == ["data", name, "c_relu", "end"]
    assert result.after.layers[-1].param.top == [name + "t"]
    assert result.text.count(f"{mark}{written}{mark}") == 1
    assert result.text.count(f"{mark}{written}t{mark}") == 5


# pycaffe cannot say such names, so the blobs are taken by number.
LAST_BLOB = """
import json, sys, caffe, numpy as np
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
fed = net._blobs[0].data
fed[...] = np.sin(np.arange(fed.size)).reshape(fed.shape)
net._forward(0, len(net.layers) - 1)
print(json.dumps(net._blobs[len(net._blobs) - 1].data.ravel().tolist()))
"""


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("name", ["Fl\xf6t".encode("latin-1"), "卷积".encode("gbk")])
def test_names_that_are_not_utf_8(
    tmp_path: Path, real_caffe: RealCaffe, name: bytes, hdf5: bool
) -> None:
    """Caffe takes names as bytes. They come back as they were, and weights find their layers."""
    text = prototxt(
        "data 1 2 6 6",
        *block("NAME", "data", "NAMEt"),
        "tan: TanH NAMEt -> NAMEu",
        "sum: Eltwise NAMEt NAMEu -> NAMEv",
        "NAMEp: Power NAMEv -> NAMEw { power_param { scale: 3 } }",  # becomes a Scale of its own
        "NAMEq: Power NAMEw -> NAMEx { power_param { shift: 1 } }",
    )
    blobs = {name: held for name, held in seeded(text).items() if name[-1] not in "pq"}
    pair = write_pair(tmp_path, text, blobs)
    for path in pair:  # as long as NAME: no length of the wire format changes
        path.write_bytes(path.read_bytes().replace(b"NAME", name))
    after = tmp_path / "net_merged.prototxt", tmp_path / "net_merged.caffemodel"
    if hdf5:
        h5py = pytest.importorskip("h5py")
        pair, after = ((text, file.with_suffix(".h5")) for text, file in (pair, after))
        with h5py.File(pair[1], "w") as file:
            for blob, held in blobs.items():
                group = file.require_group("data").create_group(
                    blob.encode().replace(b"NAME", name)
                )
                for number, array in enumerate(held):
                    group[str(number)] = np.asarray(array, np.float32)
    assert merge_bn(["--model", str(pair[0]), "--weights", str(pair[1]), "-q"]) == 0
    said = after[0].read_bytes()
    assert b'name: "' + name + b'"\n  type: "Convolution"' in said
    assert said.count(b"layer {") == 6 < pair[0].read_bytes().count(b"layer {")
    outputs = [last_blob(real_caffe.python, *files) for files in (pair, after)]
    assert np.ptp(outputs[0]) > 0
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    net = load_pair(after)
    assert not [note for note in net.notes if "weights" in note.kind]


def last_blob(python: str, *pair: Path) -> List[float]:
    """What real Caffe makes of the net."""
    done = subprocess.run([python, "-c", LAST_BLOB, *map(str, pair)], capture_output=True)
    assert done.returncode == 0, done.stderr[-600:]
    values: List[float] = json.loads(done.stdout.splitlines()[-1])
    return values

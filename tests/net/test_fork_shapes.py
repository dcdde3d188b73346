"""Layers whose bottoms break a shape rule of BVLC's: told, kept as they are, the rest is merged."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import merge_bn
from caffe_merge.errors import NetError, UsageError
from caffe_merge.net import saving
from caffe_merge.net.graph import Graph
from tests.nets import load, load_pair, parse, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe

DATA = "data 2 3 9 8"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }"
PRODUCT = "conv: InnerProduct data -> conv { inner_product_param { num_output: 4 } }"
BN = "bn: BatchNorm conv -> bn"
SMALL = "small: Pooling data -> small { pooling_param { kernel_size: 2 stride: 2 } }"
VOLUME = "data 2 3 9 8 7"

# The data, a layer that BVLC refuses behind conv and bn, and what it expects.
MISFITS: Dict[str, Any] = {
    "Concat of sizes that a fork crops": (DATA, "it: Concat bn small -> it", "every bottom like"),
    "Eltwise that broadcasts": (DATA, "it: Eltwise bn small -> it", "every bottom of shape"),
    "PReLU over 5 axes": (VOLUME, "it: PReLU bn -> it", "at most 4 axes"),
    "LRN over 5 axes": (VOLUME, "it: LRN bn -> it", "a 4-D bottom"),
    "MVN over 5 axes": (VOLUME, "it: MVN bn -> it", "at most 4 axes"),
    "Interp over 5 axes": (
        VOLUME, "it: Interp bn -> it { interp_param { zoom_factor: 2 } }", "a 4-D bottom"
    ),
    "Convolution by height and width over 5 axes": (
        VOLUME, "it: Convolution bn -> it { convolution_param { num_output: 4 kernel_h: 1 "
        "kernel_w: 1 } }", "kernel_h and kernel_w with 2 spatial axes only",
    ),
    "group that does not divide": (
        DATA, "it: Convolution bn -> it { convolution_param { num_output: 3 group: 3 "
        "kernel_size: 1 } }", "channels to be a multiple of group 3",
    ),
    "Scale of another shape": (
        DATA, "it: Scale bn small -> it { scale_param { axis: 0 } }", "a second bottom of shape"
    ),
    "Crop beyond the borders": (
        DATA, "it: Crop bn data -> it { crop_param { axis: 2 } }", "a second bottom of at most"
    ),
    "Slice that does not divide": (
        DATA, "it: Slice bn -> it other more", "axis 1 to be a multiple of 3"
    ),
    "Reshape to another number": (
        DATA, "it: Reshape bn -> it { reshape_param { shape { dim: 5 dim: 7 } } }", "values"
    ),
    "an axis that old blobs had": (
        "data 2 3", "it: Softmax bn -> it { softmax_param { axis: 2 } }", "an axis of a 2-D blob"
    ),
    "ShuffleChannel that does not divide": (
        DATA, "it: ShuffleChannel bn -> it { shuffle_channel_param { group: 3 } }",
        "channels to be a multiple of group 3",
    ),
}  # fmt: skip


def lines(data: str, layer: str) -> List[str]:
    """The net around ``layer``: a fold before it, perhaps a second bottom, a reader."""
    linear = CONV if len(data.split()) > 4 else PRODUCT
    small = [SMALL] if " small " in layer else []
    return [data, linear, BN, *small, layer, "end: ReLU it -> end"]


@pytest.mark.parametrize("case", MISFITS)
def test_the_rest_is_merged(case: str, tmp_path: Path) -> None:
    data, layer, expected = MISFITS[case]
    body = lines(data, layer)
    text = prototxt(*body)
    net = load(tmp_path, text, seeded(prototxt(*body[:-2])))
    (note,) = [note for note in net.notes if note.kind == "fork-shape"]
    assert note.layer == "it"
    assert expected in note.text
    report = caffe_merge.merge(net)
    assert "bn" not in [layer.name for layer in net.layers]
    assert [note for note in report.notes if note.kind == "fork-shape"] == [note]
    block = text[text.index('  name: "it"') : text.index('  name: "end"')]
    assert block in saving.text(net).decode()


@pytest.mark.parametrize("case", MISFITS)
def test_bvlc_refuses_it(case: str, real_caffe: RealCaffe) -> None:
    assert real_caffe.error(prototxt(*lines(*MISFITS[case][:2])))


def test_nothing_goes_through_it(tmp_path: Path) -> None:
    """A Scale behind a PReLU of a fork's shape would else go back through it."""
    scale = "scale: Scale it -> scale"
    text = prototxt(VOLUME, CONV, "it: PReLU conv -> it", scale, "end: TanH scale -> end")
    weights = seeded(prototxt(VOLUME, CONV))
    vector = [np.array([2.0, 1, 0.5, 3])]
    known_shapes = text.replace("dim: 9 dim: 8 dim: 7", "dim: 9 dim: 8")
    for name, body, changes in (("five", text, 0), ("four", known_shapes, 1)):
        kernel = weights["conv"] if name == "five" else seeded(prototxt(DATA, CONV))["conv"]
        blobs = {"conv": kernel, "it": vector, "scale": vector}
        net = load_pair(write_pair(tmp_path, body, blobs, name))
        report = caffe_merge.merge(net)
        assert len(report.changes) == changes
        assert "proof" not in [refusal.kind for refusal in report.refusals]


def test_what_is_before_it_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = lines(DATA, "it: Eltwise bn small -> it")
    pair = write_pair(tmp_path, prototxt(*body), seeded(prototxt(*body[:-2])))
    flags = ["--model", str(pair[0]), "--weights", str(pair[1])]
    assert merge_bn(flags) == 0
    out = capsys.readouterr().out
    assert "passed, 1 blob compared" in out or "passed, 2 blobs compared" in out
    assert "layer 'it': Eltwise: expected every bottom of shape (2, 4, 7, 6)" in out
    assert "not judged ('end')" in out or "not judged: layer 'it'" in out


def test_shapes_that_only_the_merge_is_given(tmp_path: Path) -> None:
    text = 'input: "data"\n' + prototxt(CONV, BN, "it: PReLU bn -> it", "end: ReLU it -> end")
    weights = seeded(prototxt(VOLUME, CONV, BN))
    net = load(tmp_path, text, weights)
    assert not [note for note in net.notes if note.kind == "fork-shape"]
    report = caffe_merge.merge(net, input_shapes={"data": (2, 3, 9, 8, 7)})
    assert [note.layer for note in report.notes if note.kind == "fork-shape"] == ["it"]


CONTRADICTIONS = {
    "no output": ("num_output: 0 kernel_size: 1", "num_output larger than 0"),
    "no kernel": ("num_output: 4", "kernel_size once or 2 times"),
    "kernel 0": ("num_output: 4 kernel_size: 0", "a kernel larger than 0"),
    "two kernels": ("num_output: 4 kernel_size: 1 kernel_h: 1", "kernel_size or kernel_h"),
    "larger than the input": ("num_output: 4 kernel_size: 99", "no negative dimension"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_no_fork_takes_is_an_error(case: str) -> None:
    fields, message = CONTRADICTIONS[case]
    text = prototxt(DATA, f"c: Convolution data -> c {{ convolution_param {{ {fields} }} }}")
    with pytest.raises(NetError, match=message):
        Graph(parse(text).layers, {})


def test_the_size_of_what_nobody_knows_can_be_given(tmp_path: Path) -> None:
    """As validation says: the text gives no shape for such a blob, so ``input_shapes`` may."""
    lines = DATA, "tanh: TanH data -> t", "odd: Mystery t -> odd", "end: Dropout odd -> end"
    pair = write_pair(tmp_path, prototxt(*lines), {"none": []})
    net = load_pair(pair, input_shapes={"odd": (2, 3, 5, 4)})
    assert net.graph().outputs[0].shape == (2, 3, 5, 4)
    with pytest.raises(UsageError, match="the net has no input 't'"):
        load_pair(pair, input_shapes={"t": (2, 3, 5, 4)})

"""Training files made ones to deploy, whole: by the commands, validated, and published ones."""

import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

import caffe_merge
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.layers.state import State
from caffe_merge.merging.originals import original
from caffe_merge.net import saving
from tests.merger import Merger
from tests.net.test_deployment import CONV, shown
from tests.nets import load_pair, prototxt, seeded, write_pair

# -- whole files -------------------------------------------------------------------------------

CORPUS = os.environ.get("CAFFE_MERGE_CORPUS")
TRAINED = (
    "data: Data -> data label { include { phase: TRAIN } transform_param { crop_size: 8 } }",
    "data: Data -> data label { include { phase: TEST } transform_param { crop_size: 8 }"
    " data_param { batch_size: 3 } }",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
    "sc: Scale bn -> sc { scale_param { bias_term: true } }",
    "fc: InnerProduct sc -> fc { inner_product_param { num_output: 5 } }",
    "loss: SoftmaxWithLoss fc label -> loss",
    "acc: Accuracy fc label -> acc { include { phase: TEST } }",
)


@pytest.fixture
def trained(tmp_path: Path) -> List[str]:
    """Flags for a training file and its weights."""
    deploy = ["data 1 3 8 8", *TRAINED[2:6]]
    pair = write_pair(tmp_path, prototxt(*TRAINED), seeded(prototxt(*deploy)))
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
def test_a_merge_is_validated_as_deployed(
    trained: List[str], tmp_path: Path, capsys: Any, real_caffe: Any, engine: str
) -> None:
    assert merge_bn([*trained, "--deploy", "--validate", engine]) == 0
    out = capsys.readouterr().out
    assert f"validation ({engine}): passed, 3 blobs compared" in out
    assert "note: layer 'loss': SoftmaxWithLoss became Softmax, its output is 'prob'" in out
    text = (tmp_path / "net_merged.prototxt").read_text()
    assert real_caffe.error(text) == ""
    assert "bn" not in text
    assert main(["validate", *trained, "--deploy", "--engine", engine]) == 0


def test_what_it_is_compared_with_is_the_text_as_deployed(trained: List[str]) -> None:
    """Not the user's file, whose outputs and inputs are others."""
    net = caffe_merge.load(trained[1], trained[3], deploy=True)
    with original(net) as (text, _):
        assert text != trained[1]
        assert shown(caffe_merge.load(text, None)) == shown(net)
    with original(caffe_merge.load(trained[1], trained[3])) as (text, _):
        assert text == trained[1]


def test_inspect_and_plan(trained: List[str], capsys: Any) -> None:
    assert main(["inspect", *trained, "--deploy"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["prob", "Softmax", "1x5"] in [row[:3] for row in rows]
    assert main(["plan", *trained, "--deploy"]) == 0
    assert "fold-affine" in capsys.readouterr().out


def test_without_it_a_training_file_says_so_and_is_judged(trained: List[str], capsys: Any) -> None:
    """Its data have a shape: crop_size, and the channels that the weights want."""
    assert merge_bn(trained) == 0
    out = capsys.readouterr().out
    assert "note: a training file (data 'data'; losses 'loss', 'acc'), merged as it is; " in out
    assert "--deploy makes Input of data layers and Softmax of SoftmaxWithLoss" in out
    assert "validation (reference): passed, 2 blobs compared" in out
    assert main(["inspect", *trained]) == 0
    assert "3x3x8x8, ?" in capsys.readouterr().out  # the batch that it has


def test_data_of_another_stage(tmp_path: Path) -> None:
    lines = 'data: Data -> data label { include { stage: "val" } }', CONV
    pair = write_pair(tmp_path, prototxt(*lines), {"data": []})
    net = load_pair(pair)
    with pytest.raises(caffe_merge.CaffeMergeError, match="'data' is the top of data layers of o"):
        caffe_merge.merge(net)
    caffe_merge.merge(caffe_merge.load(*map(str, pair), State(stages=["val"])))


def test_nothing_is_said_of_a_net_that_is_deployed(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, prototxt("data 1 3 8 8", CONV), {"data": []})
    net = load_pair(pair)
    assert [note for note in net.notes if note.kind == "training-net"] == []


FILES: Dict[str, Tuple[Dict[str, Tuple[int, ...]], str, int]] = {
    "resnet20-cifar": ({"Data1": (1, 3, 32, 32)}, "prob", 95),
    "bvlc-caffenet-trainval": ({"data": (1, 3, 227, 227)}, "prob", 24),
    "inception-v3-digits": ({"data": (1, 3, 299, 299)}, "softmax", 312),
    "densenet40-liuzhuang": ({"Data1": (1, 3, 32, 32)}, "prob", 236),
    "nv-resnet50-fp16": ({"data": (1, 3, 224, 224)}, "prob", 176),
    "intel-resnet50-fb": ({}, "prob", 229),
    "bvlc-siamese": ({"pair_data": (1, 2, 28, 28)}, "feat_p", 18),
    "bvlc-mnist-autoencoder": ({"data": (1, 1, 28, 28)}, "decode1neuron", 17),
}
FORKS = ("inception-v3-digits", "nv-resnet50-fp16", "intel-resnet50-fb")
LARGE = (*FORKS, "bvlc-caffenet-trainval", "resnet20-cifar")  # of the last there are real weights


@pytest.mark.skipif(not CORPUS, reason="CAFFE_MERGE_CORPUS names no folder")
@pytest.mark.parametrize("name", FILES)
def test_published_files(name: str, merged: Merger, real_caffe: Any) -> None:
    shapes, output, layers = FILES[name]
    path = str(Path(str(CORPUS), f"{name}.prototxt"))
    net = caffe_merge.load(path, None, State(), shapes, deploy=True)
    assert net.layers[-1].param.top[0] == output
    assert len(net.all_layers) == len(net.layers) == layers
    text = saving.text(net).decode()
    if name not in FORKS:
        assert real_caffe.error(text) == ""
    if name not in LARGE:
        merged(text)

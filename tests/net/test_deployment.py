"""--deploy: training files made ones to deploy, and what is said of those that are not."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main
from caffe_merge.errors import UsageError
from caffe_merge.net import saving
from caffe_merge.net.loading import Net
from tests.nets import load_pair, prototxt, write_pair

SIZE = {"data": (1, 3, 8, 8)}


def load(folder: Path, text: str, weights: Optional[Dict[str, Any]] = None, **how: Any) -> Net:
    """The net of ``text``, made one to deploy."""
    pair = write_pair(folder, text, weights or {"data": []})
    return load_pair(pair, deploy=True, **how)


def shown(net: Net) -> List[str]:
    """Each layer in a line, as `prototxt` takes it."""
    lines = []
    for layer in net.layers:
        bottoms, tops = " ".join(layer.param.bottom), " ".join(layer.param.top)
        lines.append(f"{layer.name}: {layer.type} {bottoms} -> {tops}".replace("  ", " "))
    return lines


DATA = "data: Data -> data label"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 2 kernel_size: 3 } }"
STAYS = ["data: Input -> data", "conv: Convolution data -> conv"]
PROB = "prob: Softmax conv -> prob"

NETS: Dict[str, Tuple[Sequence[str], Sequence[str]]] = {
    "labels made by a Python layer, which reads predictions too": (
        ("data: Python -> data boxes info { python_param { layer: 'RoIDataLayer' } }", CONV,
         "targets: Python conv boxes info data -> y t { python_param { layer: 'AnchorTarget' } }",
         "l: SoftmaxWithLoss conv y -> l", "b: SmoothL1Loss conv t -> b"),
        (*STAYS, PROB),
    ),
    "a Python layer that is a loss by its class": (
        (DATA, CONV, "l: Python conv label -> l { python_param { layer: 'TripletLossLayer' } }"),
        STAYS,
    ),
    "a Python layer that is a loss by its weight": (
        (DATA, CONV, "l: Python conv label -> l { loss_weight: 1 }"), STAYS,
    ),
    "a Python layer that is none": (
        (DATA, CONV, "p: Python conv -> p", "l: SoftmaxWithLoss p label -> l"),
        (*STAYS, "p: Python conv -> p", "prob: Softmax p -> prob"),
    ),
    "labels prepared by a fork's layer, of HDF5": (
        ("data: HDF5Data -> data y z", "h: OneHot y -> h", CONV, "l: SoftmaxWithLoss conv h -> l",
         "m: EuclideanLoss conv z -> m"),
        (*STAYS, PROB),
    ),
    "a classifier": (
        (DATA, CONV, "loss: SoftmaxWithLoss conv label -> loss", "acc: Accuracy conv label -> acc"),
        [*STAYS, PROB],
    ),
    "rules": (
        (
            DATA + " { include { phase: TRAIN } transform_param { crop_size: 4 } }",
            DATA + " { include { phase: TEST } }",
            CONV,
            "drop: Dropout conv -> conv { include { phase: TRAIN } }",
            "relu: ReLU conv -> conv { exclude { phase: TRAIN } }",
        ),
        [*STAYS, "relu: ReLU conv -> conv"],
    ),
    "prob is taken": (
        (DATA, CONV, "prob: ReLU conv -> prob", "l: SoftmaxWithLoss prob label -> loss"),
        [*STAYS, "prob: ReLU conv -> prob", "prob_prob: Softmax prob -> prob_prob"],
    ),
    "several heads, the last is the main one": (
        (
            DATA,
            CONV,
            "l1: SoftmaxWithLoss conv label -> l1 { loss_weight: 0.3 }",
            "fc: Power conv -> fc",
            "l2: SoftmaxWithLoss fc label -> l2 { softmax_param { axis: 2 } }",
        ),
        [*STAYS, "conv_prob: Softmax conv -> conv_prob", "fc: Power conv -> fc",
         "prob: Softmax fc -> prob"],
    ),
    "a loss with its softmax": (
        (DATA, CONV, "loss: SoftmaxWithLoss conv label -> loss sm", "am: ArgMax sm -> am",
         "acc: Accuracy am label -> acc"),
        [*STAYS, "sm: Softmax conv -> sm", "am: ArgMax sm -> am"],
    ),
    "sigmoid": (
        (DATA, CONV, "loss: SigmoidCrossEntropyLoss conv label -> loss"),
        [*STAYS, "prob: Sigmoid conv -> prob"],
    ),
    "the head is there": (
        (DATA, CONV, "loss: SoftmaxWithLoss conv label -> loss", "s: Softmax conv -> s"),
        [*STAYS, "s: Softmax conv -> s"],
    ),
    "other losses": (
        (DATA, CONV, "l1: EuclideanLoss conv label -> l1", "l2: HingeLoss conv label -> l2",
         "l3: SmoothL1LossOHEM conv label -> l3", "e: DetectionEvaluate conv label -> e"),
        STAYS,
    ),
    "losses are summed": (
        (DATA, CONV, "a: EuclideanLoss conv label -> a", "b: HingeLoss conv label -> b",
         "sum: Eltwise a b -> sum", "s: Silence sum -> "),
        STAYS,
    ),
    "labels are worked on": (
        (DATA, "cut: Slice label -> one two", CONV, "diff: Eltwise conv one -> diff",
         "l: SoftmaxWithLoss conv two -> l", "s: Silence one diff conv -> "),
        [*STAYS, PROB, "s: Silence conv -> "],
    ),
    "the label comes alone": (
        ("data: ImageData -> data", "gt: ImageData -> gt", CONV,
         "l: SoftmaxWithLoss conv gt -> l"),
        [*STAYS, PROB],
    ),
    "the input is what it is compared with": (
        ("data: Data -> data", CONV, "f: Flatten data -> f", "l: EuclideanLoss conv f -> l"),
        [*STAYS, "f: Flatten data -> f"],
    ),
    "data only in other stages": (
        (
            "data: Data -> data label { include { phase: TRAIN } data_param { batch_size: 7 } }",
            'data: Data -> data label { include { phase: TEST stage: "a" } }',
            CONV,
            "l: EuclideanLoss conv label -> l",
        ),
        STAYS,
    ),
    "a stage of its own": (
        (
            'data: Data -> data label { include { stage: "val" } }',
            CONV,
            'l: SoftmaxWithLoss conv label -> l { exclude { stage: "deploy" } }',
            'sm: Softmax conv -> sm { include { stage: "deploy" } }',
        ),
        [*STAYS, "sm: Softmax conv -> sm"],
    ),
    "constants": (
        (DATA, "c: DummyData -> c { dummy_data_param { shape { dim: 1 } } }", CONV,
         "s: Scale conv c -> s { scale_param { axis: 0 } }"),
        [STAYS[0], "c: DummyData -> c", STAYS[1], "s: Scale conv c -> s"],
    ),
    "a net of constants": (
        ("data: DummyData -> data label { dummy_data_param { shape { dim: 5 dim: 3 dim: 8 dim: 8 }"
         " shape { dim: 5 } } }", CONV, "l: EuclideanLoss conv label -> l"),
        STAYS,
    ),
    "a layer of a fork, and Python": (
        ("data: Python -> data roi", "gen: Anchors -> gen", CONV, "l: MyLoss conv roi -> l",
         "u: Concat gen -> u"),
        [STAYS[0], "gen: Anchors -> gen", STAYS[1], "u: Concat gen -> u"],
    ),
    "nothing to do": (
        ("data 1 3 8 8", CONV, "s: Softmax conv -> s"), [*STAYS, "s: Softmax conv -> s"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NETS)
def test_layers(tmp_path: Path, case: str) -> None:
    lines, expected = NETS[case]
    net = load(tmp_path, prototxt(*lines), input_shapes=SIZE)
    assert shown(net) == list(expected)
    assert not any(layer.param.include or layer.param.exclude for layer in net.all_layers)
    shapes = [list(layer.dim) for layer in net.layers[0].param.input_param.shape]
    assert shapes == [[1, 3, 8, 8]]
    assert [note for note in net.notes if note.kind == "training-net"] == []
    assert ("nothing" in case) == (not any(note.kind == "deploy" for note in net.notes))


def test_several_inputs_of_one_layer(tmp_path: Path) -> None:
    text = prototxt("h: HDF5Data -> data cont gt", CONV, "p: Power cont -> p",
                    "l: EuclideanLoss conv gt -> l")  # fmt: skip
    net = load(tmp_path, text, {"h": []}, input_shapes={**SIZE, "cont": (4, 1)})
    assert shown(net)[0] == "h: Input -> data cont"
    assert [list(layer.dim) for layer in net.layers[0].param.input_param.shape] == [
        [1, 3, 8, 8],
        [4, 1],
    ]


def test_parameters_of_the_head(tmp_path: Path) -> None:
    text = prototxt(DATA, CONV, "l: SoftmaxWithLoss conv label -> l { loss_weight: 2 "
                    "softmax_param { axis: 2 } loss_param { ignore_label: 3 } }")  # fmt: skip
    param = load(tmp_path, text, input_shapes=SIZE).layers[-1].param
    assert param.softmax_param.axis == 2
    assert not param.loss_weight
    assert not param.HasField("loss_param")


def test_a_blob_that_nothing_made_before_is_still_an_error(tmp_path: Path) -> None:
    text = prototxt(DATA, CONV, "e: Eltwise conv gone -> e")
    net = load(tmp_path, text, input_shapes=SIZE)
    with pytest.raises(caffe_merge.CaffeMergeError, match="bottom 'gone' is the top of no layer"):
        caffe_merge.merge(net)


TEXT = """# A file of somebody's.
name: "n"

# What we train on.
layer {
  name: "data"
  type: "Data"
  top: "data"
  top: "label"
  include { phase: TRAIN }
}
# What we test on.
layer {
  name: "data"
  type: "Data"  # LMDB
  top: "data"
  top: "label"
  include { phase: TEST }
  # The mean is subtracted.
  transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }
  data_param { source: "x" batch_size: 50 }
  fork_param { a: 1 }
}

layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } include { phase: TEST } }  # the stem

layer {
  name: "loss"  # and its softmax
  type: "SoftmaxWithLoss"
  bottom: "conv"
  bottom: "label"
  top: "loss"
}
# How good it is.
layer { name: "acc" type: "Accuracy" bottom: "conv" bottom: "label" top: "acc" }
"""

DEPLOYED = """# A file of somebody's.
name: "n"

# What we test on.
layer {
  name: "data"
  type: "Input"  # LMDB
  top: "data"
  input_param {
    shape {
      dim: 1
      dim: 3
      dim: 8
      dim: 8
    }
  }
  # The mean is subtracted.
}

layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } }  # the stem

layer {
  name: "prob"  # and its softmax
  type: "Softmax"
  bottom: "conv"
  top: "prob"
}
"""


def test_what_stays_keeps_its_text(tmp_path: Path) -> None:
    net = load(tmp_path, TEXT)
    written = saving.text(net).decode()
    assert written == DEPLOYED
    message = {note.layer: note.text for note in net.notes if note.kind == "deploy" and note.layer}
    assert message == {
        "data": "Data became Input, 'data' is 1x3x8x8",
        "loss": "SoftmaxWithLoss became Softmax, its output is 'prob'",
    }


WEIGHTS = {
    "conv": [np.zeros((2, 2, 3, 3)), np.zeros(2)],
    "fc": [np.zeros((2, 12))],
    "bn": [np.zeros(5), np.zeros(5), np.zeros(1)],
    "a": [np.zeros((2, 1, 1, 1))],
    "b": [np.zeros((2, 3, 1, 1))],
}
CROP = "data: Data -> data { transform_param { crop_size: 8 %s } data_param { batch_size: 9 } }"
POOL = "p: Pooling data -> p { pooling_param { kernel_size: 2 } }"
INTO_ONE = "{ convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }"
FC = "{ inner_product_param { num_output: 2 bias_term: false } }"

SHAPES: Dict[str, Tuple[Sequence[str], Optional[Sequence[int]]]] = {
    "crop, and the weights' channels": (
        (CROP % "", "conv: Convolution data -> c { convolution_param { num_output: 2 kernel_size: 3"
         " group: 2 } }"), (1, 4, 8, 8),
    ),
    "through a layer": ((CROP % "", POOL, "b: Convolution p -> c " + INTO_ONE), (1, 3, 8, 8)),
    "in place": (
        (CROP % "", "r: ReLU data -> data", "b: Convolution data -> c " + INTO_ONE), (1, 3, 8, 8),
    ),
    "a normalisation": ((CROP % "", "bn: BatchNorm data -> n"), (1, 5, 8, 8)),
    "sliced": (
        (CROP % "", "s: Slice data -> x y { slice_param { slice_point: 1 } }",
         "a: Convolution x -> c " + INTO_ONE, "b: Convolution y -> d " + INTO_ONE), (1, 4, 8, 8),
    ),
    "sliced elsewhere": (
        (CROP % "", "s: Slice data -> x y { slice_param { axis: 2 } }",
         "b: Convolution x -> c " + INTO_ONE), None,
    ),
    "mean values": ((CROP % "mean_value: 1 mean_value: 2 mean_value: 3", POOL), (1, 3, 8, 8)),
    "grey": ((CROP % "force_gray: true", POOL), (1, 1, 8, 8)),
    "values alone": (
        ("data: Data -> data", "f: Flatten data -> f", "fc: InnerProduct f -> y " + FC), (1, 12),
    ),
    "values of anything": (("data: HDF5Data -> data", "fc: InnerProduct data -> y " + FC), (1, 12)),
    "values of a known size": (
        ("data: Data -> data { transform_param { crop_size: 2 } }",
         "fc: InnerProduct data -> y " + FC), (1, 3, 2, 2),
    ),
    "resized": (
        ("data: ImageData -> data { image_data_param { new_height: 6 new_width: 7 } }", POOL),
        (1, 3, 6, 7),
    ),
    "a fork's resize": (
        ("data: AnnotatedData -> data { transform_param { resize_param { height: 300 width: 200 } }"
         " }", "b: Convolution data -> c " + INTO_ONE), (1, 3, 300, 200),
    ),
    "memory": (
        ("data: MemoryData -> data { memory_data_param { batch_size: 4 channels: 2 height: 6 width:"
         " 7 } }", POOL), (1, 2, 6, 7),
    ),
    "dummy, the old way": (
        ("data: DummyData -> data { dummy_data_param { num: 4 channels: 2 height: 6 width: 7 } }",
         POOL), (1, 2, 6, 7),
    ),
    "no size": (("data: Data -> data", "b: Convolution data -> c " + INTO_ONE), None),
    "video": (("data: VideoData -> data { transform_param { crop_size: 8 } }",
               "b: Convolution data -> c " + INTO_ONE), None),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
def test_the_shape_of_an_input(tmp_path: Path, case: str) -> None:
    lines, expected = SHAPES[case]
    if expected is None:
        with pytest.raises(UsageError, match="deploy cannot tell the shape of input 'data' "):
            load(tmp_path, prototxt(*lines), WEIGHTS)
        return
    net = load(tmp_path, prototxt(*lines), WEIGHTS)
    assert tuple(net.layers[0].param.input_param.shape[0].dim) == tuple(expected)


def test_the_error_says_what_is_known(tmp_path: Path, capsys: Any) -> None:
    lines = "data: Data -> data", "b: Convolution data -> c " + INTO_ONE
    pair = write_pair(tmp_path, prototxt(*lines), WEIGHTS)
    assert main(["plan", "--model", str(pair[0]), "--weights", str(pair[1]), "--deploy"]) == 2
    assert "give --input-shape data=1,3,HEIGHT,WIDTH" in capsys.readouterr().err
    lines = CROP % "", POOL
    with pytest.raises(UsageError, match="give input_shape data=1,CHANNELS,8,8"):
        load(tmp_path, prototxt(*lines), WEIGHTS)

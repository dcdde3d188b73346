"""V0 text: real Caffe's own upgrade is the judge of every type and field, also of wrong ones."""

from pathlib import Path
from typing import List

import pytest

from caffe_merge.errors import TextError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.upgrade.v0 import KINDS
from tests.formats.text.upgrade.support import caffes, messages, ours, upgraded
from tests.real_caffe import RealCaffe

V0 = NetParameter().layers.add().layer.DESCRIPTOR

VALUES = {
    "num_output": "7", "biasterm": "false", "weight_filler": "{ type: 'xavier' std: 2 }",
    "bias_filler": "{ value: 0. }", "pad": "2", "kernelsize": "0x5", "group": "3", "stride": "4",
    "pool": "STOCHASTIC", "dropout_ratio": "0.3", "local_size": "9", "alpha": "1e-4",
    "beta": ".25", "k": "2", "source": "'s'", "scale": "0.5", "meanfile": '"m"',
    "batchsize": "11", "cropsize": "12", "mirror": "true", "blobs": "{ num: 1 data: 3 }",
    "blobs_lr": "1.5", "weight_decay": "2", "rand_skip": "13", "det_fg_threshold": "0.6",
    "det_bg_threshold": "0.4", "det_fg_fraction": "0.1", "det_context_pad": "16",
    "det_crop_mode": "'square'", "new_num": "1", "new_channels": "2", "new_height": "3",
    "new_width": "4", "shuffle_images": "true", "concat_dim": "0",
    "hdf5_output_param": "{ file_name: 'f' }",
}  # fmt: skip
EVERYTHING = "".join(
    f" {name} {value}" if "{" in value else f" {name}: {value}" for name, value in VALUES.items()
)


def layer(kind: str, more: str = "", name: str = "l", bottom: str = "a", top: str = "b") -> str:
    """A V0 layer."""
    inner = f'layer {{ name: "{name}" type: "{kind}" {more} }}'
    return f'layers {{ {inner} bottom: "{bottom}" top: "{top}" }}\n'


INPUT = 'input: "a" input_dim: [1, 1, 9, 9]\n'


@pytest.mark.parametrize("fields", [EVERYTHING, ""], ids=["every field", "no field"])
def test_every_type(fields: str, real_caffe: RealCaffe, tmp_path: Path) -> None:
    assert {*VALUES, "name", "type"} == {field.name for field in V0.fields}
    text = INPUT + "".join(layer(kind, fields, kind) for kind in KINDS)
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert len(theirs) == 1 + len(KINDS)
    assert ours(text) == theirs


ODD = {
    "no type": 'layers { layer { name: "l" } bottom: "a" top: "b" }',
    "no name": 'layers { layer { type: "relu" } bottom: "a" top: "b" }',
    "empty": 'layers { layer { } bottom: "a" }',
    "nothing but the layer": 'layers { layer { type: "relu" } }',
    "fields of V1 beside it": 'layers { layer { type: "relu" } name: "x" type: TANH blobs_lr: 1 '
    'bottom: "a" top: "b" include { phase: TRAIN } relu_param { negative_slope: 1 } }',
    "specs": layer("conv", "blobs_lr: [1, 2] weight_decay: 0 weight_decay: 3 weight_decay: 4"),
    "a number for the pooling": layer("pool", "pool: 1"),
    "state": "state { phase: TRAIN stage: 's' } debug_info: true " + layer("relu"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_layers(case: str, real_caffe: RealCaffe, tmp_path: Path) -> None:
    text = INPUT + layer("relu", "", "first") + ODD[case]
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert len(theirs) == 3
    assert ours(text) == theirs


PADDED = {
    "conv": layer("padding", "pad: 2", "p", "a", "q") + layer("conv", "num_output: 3", "c", "q"),
    "pool": layer("padding", "pad: 1", "p", "a", "q") + layer("pool", "pool: AVE", "c", "q"),
    "over a pad of its own": layer("padding", "pad: 2", "p", "a", "q")
    + layer("conv", "pad: 7 kernelsize: 3", "c", "q"),
    "by nothing": layer("padding", "", "p", "a", "q") + layer("conv", "pad: 3", "c", "q"),
    "in place": layer("relu", "", "r", "a", "r") + layer("padding", "pad: 4", "p", "r", "r")
    + layer("conv", "", "c", "r", "c"),
    "twice read": layer("padding", "pad: 2", "p", "a", "q") + layer("conv", "", "c", "q", "x")
    + layer("pool", "", "d", "q", "y"),
    "unread": layer("padding", "pad: 2", "p", "a", "q") + layer("conv", "", "c", "a", "x"),
    "its name written again": layer("padding", "pad: 2", "p", "a", "q")
    + layer("relu", "", "r", "a", "q") + layer("conv", "", "c", "q", "x"),
}  # fmt: skip


@pytest.mark.parametrize("case", PADDED)
def test_padding_layers(case: str, real_caffe: RealCaffe, tmp_path: Path) -> None:
    text = INPUT + PADDED[case]
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert len(theirs) == text.count("layer {")  # one went, the input came
    assert ours(text) == theirs
    assert messages(text)[1] == "padding layers 'p' are now the `pad` of the layers that they fed"


WRAPPED = {
    "lines": (
        "# net\nlayers {\n  # about c\n  layer { # in\n    name: 'c'  # its name\n"
        "    type: 'conv'\n    # the window\n    kernelsize: 3 # k\n    weight_filler {\n"
        "      type: 'xavier' # f\n    }\n\n    blobs_lr: 1.\n    blobs_lr: 2. # b\n    # late\n"
        "    stride: 2\n    # foot\n  }  # out\n  bottom: 'a' # from\n  top: 'c'\n}\n# end",
        "# net\nlayer {\n  # about c\n  # in\n  name: 'c'  # its name\n  type: 'Convolution'\n"
        "  # the window\n  convolution_param {\n    kernel_size: 3 # k\n    weight_filler {\n"
        "      type: 'xavier' # f\n    }\n    # late\n    stride: 2\n  }\n\n"
        "  param {\n    lr_mult: 1.\n  }\n  param {\n    lr_mult: 2.\n  }\n  # b\n  # foot\n"
        "  # out\n  bottom: 'a' # from\n  top: 'c'\n}\n# end",
    ),
    "one line": (
        'layers { layer { name: "p" type: "pool" pool: MAX kernelsize: 2 } top: "x" } # p',
        'layer { name: "p" type: "Pooling" '
        'pooling_param { pool: MAX kernel_size: 2 } top: "x" } # p',
    ),
    "two messages on a line": (
        "layers { layer { type: 'data' scale: 2 source: 's' mirror: true batchsize: 3 } }",
        "layer { type: 'Data' transform_param { scale: 2 mirror: true } "
        "data_param { source: 's' batch_size: 3 } }",
    ),
    "no gaps": (
        "layers<layer<type:'lrn'k:2;name:'n'alpha:3>top:'t'>",
        "layer<type:'LRN' lrn_param { k:2;alpha:3 }name:'n' top:'t'>",
    ),
    "the block opens on its layer's line": (
        "layers { layer {\r\n    name: 'c' # c\r\n    type: 'lrn'\r\n    k: 3\r\n  }\r\n"
        "  top: 't'\r\n}\r\n",
        "layer {\r\n  name: 'c' # c\r\n  type: 'LRN'\r\n  lrn_param {\r\n    k: 3\r\n"
        "  }\r\n  top: 't'\r\n}\r\n",
    ),
    "fields in the first line": (
        "layers {\n  layer { name: 'c' type: 'conv'\n    group: 2 # g\n    stride: 3 }\n"
        "  top: 't'\n}",
        "layer {\n  name: 'c' type: 'Convolution'\n  convolution_param { group: 2 # g\n"
        "  stride: 3 }\n  top: 't'\n}",
    ),
    "what does not belong": (
        "layers {\n  name: 'outer' # o\n  layer {\n    name: 'r' type: 'relu' stride: 2\n"
        "    # about g\n    group: 3 # g\n    fork_param { x: 1 }\n  }\n}",
        "layer {\n  # o\n  name: 'r' type: 'ReLU'\n  # about g\n  # g\n  fork_param { x: 1 }\n}",
    ),
    "padding goes with its comments": (
        "layers {\n  layer { type: 'relu' name: 'r' }\n  top: 'r'\n}\n\n# pads\nlayers {\n"
        "  layer { type: 'padding' name: 'p' pad: 1 }\n  bottom: 'r' top: 'p' # p\n}\n\n# c\n"
        "layers {\n  layer {\n    type: 'conv'\n    kernelsize: 3\n  }\n  bottom: 'p' # of p\n"
        "  top: 'c'\n}\n",
        "layer {\n  type: 'ReLU' name: 'r'\n  top: 'r'\n}\n\n# c\nlayer {\n"
        "  type: 'Convolution'\n  convolution_param {\n    pad: 1\n    kernel_size: 3\n  }\n"
        "  bottom: 'r' # of p\n  top: 'c'\n}\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED)
def test_text_is_kept(case: str) -> None:
    text, expected = WRAPPED[case]
    assert upgraded(text) == expected
    assert upgraded(expected) == expected


def test_what_is_left_out_is_told() -> None:
    text = INPUT + "debug_info: true\n" + layer("relu", "num_output: 3 new_num: 4", "r")
    assert messages(text) == [
        "the text is of the V0 format: its layers are written in the current one",
        "left out, as Caffe's own upgrade does it: 'debug_info', 'r: num_output', 'r: new_num'",
    ]
    assert upgraded(text) == INPUT + 'layer { name: "r" type: "ReLU" bottom: "a" top: "b" }\n'


def test_a_type_of_a_fork_keeps_its_name_and_fields() -> None:
    text = layer("dropmax", "stride: 2 rate: 3", "d")
    assert upgraded(text) == (
        'layer { name: "d" type: "dropmax" stride: 2 rate: 3 bottom: "a" top: "b" }\n'
    )
    assert "dropmax is a fork's type" in messages(text)[1]


REFUSED: List[List[str]] = [
    [layer("relu") + "layers { type: RELU }", "3:8: expected a V0 layer as the net's others"],
    [layer("relu", "num_output: -3"), "2:53: expected a 32-bit integer of at least 0"],
    [layer("relu", "alpha: 1 alpha: 2"), "2:50: expected 'alpha' once in its block"],
    [layer("a b"), "2:34: expected a V0 layer type, found 'a b'"],
    [
        layer("padding", "", "p", "a", "q") + layer("relu", "", "r", "q"),
        "3:8: layer 'r' reads padding layer 'p': expected a conv or pool of one bottom, "
        "found 'relu' of 1",
    ],
    [
        layer("padding", "", "p", "a", "q") + layer("conv", "", "c", 'a" bottom: "q'),
        "3:8: layer 'c' reads padding layer 'p': expected a conv or pool of one bottom, "
        "found 'conv' of 2",
    ],
    [
        layer("padding", "", "p", 'a" bottom: "a', "q") + layer("conv", "", "c", "q"),
        "3:8: layer 'c' reads padding layer 'p': expected one bottom and one top of the latter",
    ],
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_caffe_refuses(text: str, message: str, real_caffe: RealCaffe, tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        ours(INPUT + text)
    assert str(caught.value).startswith("net.prototxt:" + message)
    theirs = caffes(real_caffe.python, INPUT + text, tmp_path)
    assert len(theirs) in (0, 3)  # 3: V1 among V0 has no type for Caffe, which stops at it
    assert all(layer.type for layer in theirs) == (not theirs)

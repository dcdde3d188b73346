"""V1 text: real Caffe's own upgrade is the judge of every type, field and number."""

from pathlib import Path
from typing import Dict, List

import pytest

from caffe_merge.errors import TextError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.upgrade.v1 import FORK_TYPES, SPECS, TYPES
from tests.formats.text.upgrade.support import caffes, messages, ours, upgraded
from tests.real_caffe import RealCaffe

V1 = NetParameter().layers.add().DESCRIPTOR

PARAMS: Dict[str, str] = {
    "ACCURACY": "accuracy_param { top_k: 5 ignore_label: 255 }",
    "ARGMAX": "argmax_param { out_max_val: true top_k: 0x3 }",
    "BNLL": "loss_weight: 0.5",
    "CONCAT": "concat_param { concat_dim: 1 axis: 2 }",
    "CONTRASTIVE_LOSS": "contrastive_loss_param { margin: 1.f legacy_version: true }",
    "CONVOLUTION": "blobs_lr: 1. blobs_lr: 2e-1 weight_decay: .5 param: 'w' param: \"b\" "
    "blob_share_mode: PERMISSIVE blob_share_mode: 0 convolution_param { num_output: 64 "
    "kernel_h: 3 kernel_w: 1 pad: 3 engine: CAFFE weight_filler { type: 'xavier' std: 0.1 } }",
    "DATA": "data_param { source: 'x' backend: LMDB scale: 0.00390625 mean_file: 'm' "
    "crop_size: 227 mirror: true batch_size: 3 }",
    "DECONVOLUTION": "blobs_lr: 0 convolution_param { num_output: 2 kernel_size: 4 stride: 2 }",
    "DROPOUT": "dropout_param { dropout_ratio: 0.3 }",
    "DUMMY_DATA": "dummy_data_param { num: 1 channels: 2 height: 3 width: 4 }",
    "ELTWISE": "eltwise_param { operation: SUM coeff: 1 coeff: -1 }",
    "EUCLIDEAN_LOSS": "loss_weight: 1 loss_weight: 0",
    "EXP": "exp_param { base: 2 scale: -3 shift: 1e9 }",
    "HDF5_DATA": "hdf5_data_param { source: 'x' batch_size: 2 }",
    "HDF5_OUTPUT": "hdf5_output_param { file_name: 'x' }",
    "HINGE_LOSS": "hinge_loss_param { norm: L2 }",
    "IMAGE_DATA": "image_data_param { source: 'l' crop_size: 8 new_height: 9 scale: 2 } "
    "transform_param { scale: 3 mean_value: 4 }",
    "INFOGAIN_LOSS": "infogain_loss_param { source: 'x' } loss_param { normalize: false }",
    "INNER_PRODUCT": "param: 'w' inner_product_param { num_output: 3 bias_term: false axis: 2 }",
    "LRN": "lrn_param { local_size: 3 alpha: 1e-4 beta: 0.75 k: 2 norm_region: WITHIN_CHANNEL }",
    "MEMORY_DATA": "memory_data_param { batch_size: 1 channels: 2 height: 3 width: 4 }",
    "MVN": "mvn_param { normalize_variance: false eps: 1e-3 }",
    "POOLING": "pooling_param { pool: AVE kernel_size: 3 stride_h: 2 global_pooling: false }",
    "POWER": "power_param { power: 2 scale: 3 shift: 4 }",
    "RELU": "relu_param { negative_slope: 0.1 engine: CAFFE }",
    "SIGMOID": "sigmoid_param { engine: CUDNN }",
    "SLICE": "slice_param { slice_dim: 2 slice_point: 1 slice_point: 3 }",
    "SOFTMAX": "softmax_param { engine: CAFFE axis: 2 }",
    "SOFTMAX_LOSS": "loss_param { ignore_label: 255 } exclude { phase: TRAIN stage: 'q' }",
    "SPLIT": "include { phase: TEST min_level: -1 not_stage: 'z' }",
    "TANH": "tanh_param { engine: CAFFE }",
    "THRESHOLD": "threshold_param { threshold: 0.25 }",
    "WINDOW_DATA": "window_data_param { source: 'w' mirror: false fg_fraction: 0.5 }",
}


def layer(kind: str, more: str = "", name: str = "l") -> str:
    """A V1 layer."""
    return f'layers {{ name: "{name}" type: {kind} bottom: "a" top: "b" {more} }}\n'


def test_every_type_with_odd_parameters(real_caffe: RealCaffe, tmp_path: Path) -> None:
    assert set(PARAMS) < set(TYPES)
    numbers = {value.name: value.number for value in V1.fields_by_name["type"].enum_type.values}
    assert set(TYPES) == set(numbers)
    text = "".join(layer(kind, PARAMS.get(kind, ""), kind.lower()) for kind in TYPES)
    text += "".join(layer(str(number), "", f"n{number}") for number in numbers.values())
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert len(theirs) == 2 * len(TYPES)
    assert ours(text) == theirs


# What a layer says of its blobs, in lists of any length and order.
SPECS_OF_BLOBS = [
    "",
    "blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0",
    "weight_decay: 3",
    "blobs_lr: [1, 2.5, -3] param: 'only'",
    "param: '' param: 'b' weight_decay: 16 weight_decay: 8.f",
    "param: 'two' \"parts\" blobs_lr: 1",
    "param: 'caf\\303\\251 \\'\\\"' blobs_lr: inf",
    "blob_share_mode: [STRICT, PERMISSIVE, 1] param: ['x', 'y']",
    "blobs_lr: 1; blob_share_mode: 1, weight_decay: 2; blobs_lr: 3",
    "blobs_lr:[] weight_decay:[1]",
    "blobs_lr: []",
]


def test_specs_of_blobs(real_caffe: RealCaffe, tmp_path: Path) -> None:
    text = "".join(layer("CONVOLUTION", specs) for specs in SPECS_OF_BLOBS)
    theirs = caffes(real_caffe.python, text, tmp_path)
    assert [len(layer.param) for layer in theirs] == [0, 2, 1, 3, 2, 1, 1, 3, 2, 1, 0]
    assert ours(text) == theirs


def test_all_other_fields_have_kept_name_and_kind() -> None:
    new = LayerParameter.DESCRIPTOR.fields_by_name
    for field in V1.fields:
        if field.name not in (*SPECS, "layer", "type"):
            assert new[field.name].message_type is field.message_type, field.name
            assert new[field.name].type == field.type, field.name


STYLES = {
    "lines": (
        'layers {\n  name: "c"  # the first\n  type: CONVOLUTION # t\n  blobs_lr: 1 # w\n'
        "  blobs_lr: 2\n  # decay\n  weight_decay: 1\n  weight_decay: 0 # b\n  bottom: 'x' }\n",
        'layer {\n  name: "c"  # the first\n  type: "Convolution" # t\n'
        "  param {\n    lr_mult: 1\n    decay_mult: 1\n  }\n"
        "  param {\n    lr_mult: 2\n    decay_mult: 0\n  } # w\n"
        "  # decay\n  # b\n  bottom: 'x' }\n",
    ),
    "one line": (
        "layers { type: RELU weight_decay: .5  top: 't' }# end",
        "layer { type: 'ReLU' param { decay_mult: .5 }  top: 't' }# end",
    ),
    "two on a line": (
        "layers {\r\n\tblobs_lr: 1 weight_decay: 1\r\n\tblobs_lr: 2 weight_decay: 0\r\n"
        "\ttype: TANH\r\n}\r\n",
        "layer {\r\n\tparam {\r\n\t\tlr_mult: 1\r\n\t\tdecay_mult: 1\r\n\t}\r\n"
        "\tparam {\r\n\t\tlr_mult: 2\r\n\t\tdecay_mult: 0\r\n\t}\r\n"
        '\ttype: "TanH"\r\n}\r\n',
    ),
    "no gaps": (
        "layers<type:RELU;blobs_lr:[1]top:'a'weight_decay:[2]bottom:'b'>",
        "layer<type:'ReLU';param { lr_mult: 1 decay_mult: 2 }top:'a' bottom:'b'>",
    ),
    "in a list": (
        "layers: [ { type: EXP }, # e\n { type: 23 } ]",
        'layer: [ { type: "Exp" }, # e\n { type: "TanH" } ]',
    ),
    "comments inside": (
        "layers { # a\n  blobs_lr: # b\n    [1, # c\n 2] # d\n}\n",
        "layer { # a\n  # b\n  # c\n  param {\n    lr_mult: 1\n  }\n  param {\n    lr_mult: 2\n"
        "  } # d\n}\n",
    ),
    "comments inside, on a line": (
        "layers { blobs_lr: 1 weight_decay: # x\n 1 top: 'a' weight_decay: # y\r\n 2 top: 'b' }",
        "layer { # x\nparam { lr_mult: 1 decay_mult: 1 } param { decay_mult: 2 } top: 'a' # y\n"
        "  top: 'b' }",
    ),
    "nothing to do": ("# only\nname: 'x'\n", "# only\nname: 'x'\n"),
    "no layers": ("layers: []", "layer: []"),
}


@pytest.mark.parametrize("case", STYLES)
def test_text_is_kept(case: str) -> None:
    text, expected = STYLES[case]
    assert upgraded(text) == expected
    assert upgraded(expected) == expected


def test_types_of_forks_are_kept_and_told() -> None:
    text = layer("CROP") + layer("CROP") + layer("BN", "bn_param { bn_mode: INFERENCE }")
    text += layer("MY_OWN") + layer("4711")
    assert [item.type for item in ours(text)] == ["Crop", "Crop", "BN", "MY_OWN", "4711"]
    assert "bn_param { bn_mode: INFERENCE }" in upgraded(text)
    assert messages(text) == [
        "the text is of the V1 format: its layers are written in the current one",
        "CROP is a fork's type, in no V1 format of BVLC's; written as 'Crop'",
        "BN is a fork's type, in no V1 format of BVLC's; written as 'BN'",
        "MY_OWN is a fork's type, in no V1 format of BVLC's; written as 'MY_OWN'",
        "4711 is a fork's type, in no V1 format of BVLC's; written as '4711'",
    ]
    assert not set(FORK_TYPES) & set(TYPES)


def test_text_of_today_is_not_touched() -> None:
    text = 'layer { name: "l" type: "ReLU" blobs_lr: 1 } # layers { }\n'
    assert messages(text) == []
    assert upgraded(text) == text


REFUSED: List[List[str]] = [
    ["layers { } layer { }", "1:12: expected `layer` or `layers`, found both in one net"],
    ['layer { }\nlayers { type: RELU }', "2:1: expected `layer` or `layers`, found both"],
    ["layers {\n type: 'Convolution' }", "2:8: expected one of NONE, ABSVAL"],
    ["layers {\n param { lr_mult: 1 } }", "2:8: expected text in quotes for 'param'"],
    ["layers {\n blobs_lr: x }", "2:12: expected a number for 'blobs_lr', found 'x'"],
    ["layers {\n type: RELU type: RELU }", "2:13: expected 'type' once in its block"],
    ["layers: 5", "1:9: expected a { block } for 'layers'"],
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_caffe_refuses(text: str, message: str, real_caffe: RealCaffe, tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        ours(text)
    assert str(caught.value).startswith("net.prototxt:" + message)
    assert caffes(real_caffe.python, text, tmp_path) == []

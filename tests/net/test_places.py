"""Faults of the net say where in the text they are: file:line:column."""

from pathlib import Path

import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers.state import State
from tests.nets import load_pair, parse, write_pair

DATA = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }\n'
FAULTS = {
    "a bottom that nothing produces": (
        DATA + 'layer {\n  name: "r" type: "Eltwise"\n  bottom: "d"\n  bottom: "z" top: "r" }',
        "5:11: layer 'r': bottom 'z' is the top of no layer before it",
    ),
    "twin producers": (
        DATA + 'layer { name: "a" type: "ReLU" bottom: "d" top: "a" }\n'
        'layer { name: "b" type: "Split" bottom: "d" top: ["c",\n "a"] }',
        "4:2: layer 'b': top 'a' is a top of layer 'a' already, and not written in place",
    ),
    "read and overwritten": (
        DATA + 'layer { name: "a" type: "ReLU" bottom: "d" top: "a" }\n'
        'layer { name: "b" type: "ReLU" bottom: "d" top: "d" }',
        "1:7: layers 'a', 'b' read 'd', and one of them writes it in place",
    ),
    "too few bottoms": (
        DATA + '# the fault\nlayer { name: "a" type: "Crop" bottom: "d" top: "a" }',
        "3:7: layer 'a' (Crop): expected at least 2 bottoms, found 1",
    ),
    "too many tops": (
        DATA + '\nlayer { name: "a" type: "ReLU" bottom: "d" top: "a" top: "b" }',
        "3:7: layer 'a' (ReLU): expected at most 1 top, found 2",
    ),
    "a bad number, in an old text": (
        'input: "d" input_dim: [1, 2, 3, 4]\n'
        'layers { name: "a" type: CONVOLUTION bottom: "d" top: "a"\n'
        "convolution_param { kernel_size: 1 } }",
        "2:8: layer 'a' (Convolution): expected num_output larger than 0, found 0",
    ),
    "too many param": (
        DATA + 'layer { name: "a" type: "InnerProduct" bottom: "d" top: "a" param { } param { }\n'
        "param { } inner_product_param { num_output: 3 } }",
        "3:7: layer 'a' (InnerProduct): expected at most 2 param, one for each of its blobs, "
        "found 3",
    ),
    "no blob of a filler": (
        DATA + 'layer { name: "a" type: "InnerProduct" bottom: "d" top: "a"\n'
        'inner_product_param { num_output: 3 weight_filler { type: "bilinear" } } }',
        "2:7: bilinear filler: expected a square 4-D blob, found shape (3, 2)",
    ),
    "shared blobs of other shapes": (
        DATA + 'layer { name: "a" type: "InnerProduct" bottom: "d" top: "a" param { name: "w" }\n'
        "inner_product_param { num_output: 3 bias_term: false } }\n"
        'layer { name: "b" type: "InnerProduct" bottom: "d" top: "b"\nparam { name: "w" }\n'
        "inner_product_param { num_output: 4 bias_term: false } }",
        "5:7: layer 'b': blob 0 has shape (4, 2) and shares 'w' with layer 'a', where it has "
        "shape (3, 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_has_its_place(case: str, tmp_path: Path) -> None:
    text, message = FAULTS[case]
    path = write_pair(tmp_path, text, {})[0]
    with pytest.raises(NetError) as caught:
        load_pair((path, None)).graph()
    assert str(caught.value) == f"{path}:{message}"


def test_rules_of_both_kinds() -> None:
    with pytest.raises(NetError) as caught:
        parse(DATA + '\nlayer { name: "a" include { } exclude { } }', State())
    expected = "layer 'a': expected include or exclude rules, found both"
    assert str(caught.value) == f"net.prototxt:3:7: {expected}"


def test_data_of_another_phase(tmp_path: Path) -> None:
    text = DATA.replace('top: "d"', 'top: "d" include { phase: TRAIN }').replace("Input", "Data")
    text += 'layer { name: "a" type: "ReLU"\n bottom: "d" top: "a" }'
    path = write_pair(tmp_path, text, {})[0]
    with pytest.raises(NetError) as caught:
        load_pair((path, None)).graph()
    start = f"{path}:3:10: layer 'a': bottom 'd' is the top of data layers of other phases"
    assert str(caught.value) == f"{start} or stages: deploy makes it an Input"


def test_a_layer_that_has_no_text_has_the_file(tmp_path: Path) -> None:
    text = (
        'input: "d" input_shape { dim: -1 }\nlayer { name: "a" type: "ReLU" bottom: "d" top: "a"}'
    )
    path = write_pair(tmp_path, text, {})[0]
    with pytest.raises(NetError) as caught:
        load_pair((path, None))
    message = "layer 'input' (Input): expected no negative dimension, found shape (-1,)"
    assert str(caught.value) == f"{path}: {message}"

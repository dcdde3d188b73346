"""A Net: input fields, list forms, what a fork added, and what no net is; real Caffe judges."""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import pytest

from caffe_merge import load
from caffe_merge.errors import CaffeMergeError, NetError, TextError
from caffe_merge.net import saving
from caffe_merge.net.propagation import top_shapes
from tests.nets import parse, write_pair
from tests.real_caffe import RealCaffe


def shapes(text: str) -> Dict[str, Optional[Tuple[int, ...]]]:
    """Blob name -> shape, as the net's layers make them."""
    layers = parse(text).layers
    out: Dict[str, Optional[Tuple[int, ...]]] = {}
    for layer, tops in zip(layers, top_shapes(layers, {})):
        out.update(zip(layer.param.top, tops))
    return out


RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
POWER = 'layer { name: "p" type: "Power" bottom: "y" top: "p" }'
INPUTS = {
    "input_dim": ('input: "x" input_dim: [2, 3, 4, 5]' + RELU, ["input", "r"]),
    "input_shape": ('input: "x" input_shape { dim: 2 dim: 3 }' + RELU, ["input", "r"]),
    "input_shape is preferred": (
        'input: "x" input_shape { dim: 7 } input_dim: [2, 3, 4, 5]' + RELU,
        ["input", "r"],
    ),
    "several": (
        'input: ["x", "y"] input_dim: [1, 2, 3, 4, 5, 6, 7, 8]' + RELU + POWER,
        ["input", "r", "p"],
    ),
    "several shapes": (
        'input: "x" input: "y" input_shape { dim: 3 } input_shape { }' + RELU + POWER,
        ["input", "r", "p"],
    ),
    "more shapes than inputs": (
        'input: "x" input_shape { dim: 3 } input_shape { dim: 4 }' + RELU,
        ["input", "r"],
    ),
    "more dims than inputs": ('input: "x" input_dim: [1, 2, 3, 4, 5]' + RELU, ["input", "r"]),
    "behind the layers": (RELU + 'input_shape { dim: 3 } input: "x"', ["input", "r"]),
    "an Input layer": (
        'layer { name: "i" type: "Input" top: "x" top: "z" input_param { shape { dim: 3 } } }'
        + RELU,
        ["i", "r"],
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_input_fields_are_an_input_layer_as_in_caffe(case: str, real_caffe: RealCaffe) -> None:
    text, names = INPUTS[case]
    assert [layer.name for layer in parse(text).layers] == names
    assert shapes(text) == real_caffe.top_shapes(text)


def test_an_input_without_shape_waits_for_one() -> None:
    assert shapes('input: "x"' + RELU) == {"x": None, "r": None}


NOT_A_NET = {
    "too few input_shape": (
        'input: ["x", "y"] input_shape { dim: 3 }' + RELU,
        "net.prototxt:1:19: expected 2 input_shape, one for each input, found 1",
    ),
    "too few input_dim": (
        'input: ["x", "y"] input_dim: [1, 2, 3, 4]' + RELU,
        "net.prototxt:1:19: expected 8 input_dim, four for each input, found 4",
    ),
    "layer is no block": ("layer: 5", "net.prototxt:1:8: expected a { block } for 'layer'"),
    "twice": (
        'name: "a"\nname: "b"',
        "net.prototxt:2:1: expected 'name' once in its block, it is there at line 1",
    ),
}


@pytest.mark.parametrize("case", NOT_A_NET)
def test_what_is_no_net(case: str) -> None:
    text, message = NOT_A_NET[case]
    with pytest.raises((NetError, TextError)) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["", "# nothing\n", 'name: "n"', "layer { exclude { } }"])
def test_no_layers(text: str, tmp_path: Path) -> None:
    prototxt, _ = write_pair(tmp_path, text, {})
    with pytest.raises(NetError, match="no layers in it: not the text of a net"):
        load(str(prototxt), None)


FORK = """layer [{ name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } } },
  { name: "s" type: "Softmax" bottom: "x" top: "s" softmax_param { engine: MKL } spread: 2 }]
layer < name: 'a' type: "AxpyOfAFork" bottom: "s" top: "a" axpy_param { z: 1 } >
mkl: true
"""


def test_what_a_fork_added_is_noted_with_its_place_and_kept(tmp_path: Path) -> None:
    actual = parse(FORK)
    assert [(note.kind, note.layer, note.text) for note in actual.notes] == [
        ("unknown-field", "", "4:1: mkl is not a field of BVLC Caffe; kept as it is"),
        (
            "unknown-field",
            "s",
            "2:68: softmax_param.engine is not a field of BVLC Caffe; kept as it is",
        ),
        ("unknown-field", "s", "2:82: spread is not a field of BVLC Caffe; kept as it is"),
        ("unknown-field", "a", "3:60: axpy_param is not a field of BVLC Caffe; kept as it is"),
    ]
    assert [layer.type for layer in actual.layers] == ["Input", "Softmax", "AxpyOfAFork"]
    assert actual.layers[1].extra == {"softmax_param.engine": "MKL", "spread": "2"}
    assert saving.text(actual) == FORK.encode()


def test_a_layer_of_a_list_is_edited_in_it() -> None:
    actual = parse(FORK)
    actual.layers[1].param.top[0] = "t"
    actual.layers[2].param.bottom[0] = "t"
    expected = FORK.replace('top: "s"', 'top: "t"').replace('bottom: "s"', 'bottom: "t"')
    assert saving.text(actual) == expected.encode()
    actual.all_layers.remove(actual.layers[1])
    actual.layers[1].param.bottom[0] = "x"
    start, end = expected.index(",\n  { name"), expected.index("]\n")
    assert (
        saving.text(actual)
        == (expected[:start] + expected[end:]).replace('bottom: "t"', 'bottom: "x"').encode()
    )


def test_a_value_that_is_nan_does_not_stop_a_change() -> None:
    text = 'layer { name: "x" top: "a" loss_weight: nan }\nlayer { name: "y" loss_weight: nan }\n'
    actual = parse(text)
    actual.layers[0].param.top[0] = "b"
    assert saving.text(actual) == text.replace('"a"', '"b"').encode()


def test_layers_of_another_phase_stay_in_the_text() -> None:
    text = """layer { name: "d" type: "Data" top: "x" include { phase: TRAIN } }
layer { name: "d" type: "Input" top: "x" include { phase: TEST } }
# loss
layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" top: "l" exclude { phase: TEST } }
"""
    actual = parse(text)
    assert [layer.type for layer in actual.layers] == ["Input"]
    assert [layer.type for layer in actual.all_layers] == ["Data", "Input", "SoftmaxWithLoss"]
    actual.all_layers.remove(actual.layers[0])
    assert saving.text(actual).decode().count("layer {") == 2


TWO_INPUTS = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 3 } } }\n'
REFUSED: List[Tuple[str, str]] = [
    ("a bottom from nowhere", RELU),
    ("a top twice", TWO_INPUTS + TWO_INPUTS),
    ("a top twice, not in place", TWO_INPUTS + 'layer { name: "q" type: "Power" bottom: "x" '
     'top: "q" } layer { name: "r" type: "ReLU" bottom: "q" top: "x" }'),
    ("num_output 0", TWO_INPUTS + 'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" }'),
    ("a negative dim", TWO_INPUTS.replace("dim: 3", "dim: -3")),
]  # fmt: skip


@pytest.mark.parametrize(("case", "text"), REFUSED, ids=[case for case, _ in REFUSED])
def test_what_caffe_refuses_is_refused(case: str, text: str, real_caffe: RealCaffe) -> None:
    assert real_caffe.error(text) != ""
    from caffe_merge.net.graph import Graph

    with pytest.raises(CaffeMergeError):
        Graph(parse(text).layers, {})


def test_loading_reads_both_files_and_saving_gives_them_back(tmp_path: Path) -> None:
    text = TWO_INPUTS.replace("dim: 3", "dim: 1 dim: 3") + (
        'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f"\n'
        "  inner_product_param { num_output: 2 bias_term: false } } # f\n"
    )
    blobs = {"i": [], "f": [np.arange(6).reshape(2, 3)]}
    prototxt, weights = write_pair(tmp_path, text, blobs)
    actual = load(str(prototxt), str(weights))
    np.testing.assert_array_equal(actual.layers[1].blobs[0].array(), blobs["f"][0])
    saving.save(actual, str(tmp_path / "p"), str(tmp_path / "w"))
    assert (tmp_path / "p").read_bytes() == prototxt.read_bytes()
    assert (tmp_path / "w").read_bytes() == weights.read_bytes()

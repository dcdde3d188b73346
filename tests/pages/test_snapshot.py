"""A net at one moment, as pages know it."""

from pathlib import Path

import caffe_merge
from caffe_merge.pages.snapshot import Snapshots
from tests.nets import load, prototxt

NET = prototxt(
    "data 2 3 8 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 "
    'weight_filler { type: "xavier" } } param { lr_mult: 1 } }',
    "bn: BatchNorm conv -> bn",
    "relu: ReLU bn -> bn",
    "sum: Eltwise bn bn -> sum",
)


def test_what_is_told_of_a_layer(tmp_path: Path) -> None:
    data, conv, _, relu, total = Snapshots().take(load(tmp_path, NET).graph())
    assert (data.reads, data.outputs) == ((), ((2, 3, 8, 7),))
    assert conv.blobs == ((5, 3, 3, 3), (5,))
    assert (conv.values, conv.multiply_adds) == (140, 2 * 5 * 6 * 5 * 27)
    assert conv.parameters == (
        "convolution_param {",
        "  num_output: 5",
        "  kernel_size: 3",
        "}",
    ), "what is for training alone is left out"
    assert (relu.bottoms, relu.tops, relu.reads) == (("bn",), ("bn",), (2,))
    assert total.reads == (3,), "each layer once"


def test_a_layer_keeps_its_number(tmp_path: Path) -> None:
    net = load(tmp_path, NET)
    snapshots = Snapshots()
    before = {node.name: node.number for node in snapshots.take(net.graph())}
    caffe_merge.merge(net)
    after = {node.name: node.number for node in snapshots.take(net.graph())}
    assert "bn" not in after
    assert all(before[name] == number for name, number in after.items())


def test_fields_of_a_fork_and_names_of_shared_weights_are_told(tmp_path: Path) -> None:
    text = prototxt(
        "data 2 3 8 7",
        "p: Permute data -> p { permute_param { order: 0 order: 2 } }",
        'c: Convolution data -> c { param { name: "w" } convolution_param { num_output: 2 '
        "kernel_size: 1 } }",
    )
    _, permute, conv = Snapshots().take(load(tmp_path, text).graph())
    assert permute.parameters == ("permute_param", "permute_param.order: 0 2")
    assert conv.parameters[:3] == ("param {", '  name: "w"', "}")


def test_of_many_lines_the_first_are_told(tmp_path: Path) -> None:
    values = "mean_value: 1 " * 100
    text = prototxt("data 2 3 8 7", f"r: ReLU data -> r {{ transform_param {{ {values} }} }}")
    lines = Snapshots().take(load(tmp_path, text).graph())[1].parameters
    assert len(lines) == 61
    assert lines[-1] == "... and 42 more lines"

"""Layers that nobody here can run: which they are, and how large what they make has to be."""

from typing import Any, List, Optional, Sequence, Tuple

import pytest

from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.validation.black_boxes import sizes, unknown
from caffe_merge.validation.run import Program, program
from tests.nets import parse, prototxt, seeded

BOX = "u: Mystery data -> u"
CONV = "c: Convolution %s -> c { convolution_param { num_output: 4 kernel_size: 3 group: 2 } }"
FC = "f: InnerProduct %s -> f { inner_product_param { num_output: 5 } }"


def net(known_shapes: str, *lines: str, missing: Sequence[int] = ()) -> Program:
    """Layers behind a black box, with weights for the shape ``known_shapes`` of its top."""
    weights = seeded(prototxt("data 1 3 9 8", f"u {known_shapes}", *lines))
    layers = parse(prototxt("data 1 3 9 8", BOX, *lines)).layers
    for layer in layers:
        layer.load_blobs([Dense(blob) for blob in weights.get(layer.name, ())])
    for index in missing:
        layers[index].missing = True
    return program(layers)


@pytest.mark.parametrize(
    ("known_shapes", "lines", "shape"),
    [
        ("1 6 9 8", [CONV % "u"], (1, 6, 9, 8)),  # channels from the weights, sides of its bottom
        ("1 6 5 4", [CONV % "u", FC % "c"], (1, 6, 5, 4)),  # half of them, as f's weights want
        ("1 7", [FC % "u"], (1, 7)),
        ("1 6 7 7", ["p: ReLU u -> u", CONV % "u", FC % "c"], (1, 6, 7, 7)),
        ("1 6 9 8", ["s: Scale u -> u { scale_param { } }"], (1, 6, 9, 8)),
        ("1 6 9 8", ["s: Power u -> s"], None),  # nothing has weights
    ],
)
def test_a_size_is_found_from_the_weights_behind(
    known_shapes: str, lines: List[str], shape: Optional[Tuple[int, ...]]
) -> None:
    behind = net(known_shapes, *lines)
    assert unknown(behind) == {1}
    expected = {} if shape is None else {"u": shape}
    assert sizes(behind, {1}, {"data": (1, 3, 9, 8)}) == expected


def test_a_black_box_reads_a_constant() -> None:
    param = "shape { dim: 2 dim: 3 dim: 7 dim: 5 } data_filler { value: 1 }"
    lines = f"k: DummyData -> k {{ dummy_data_param {{ {param} }} }}", "u: Mystery k -> u"
    layers = parse(prototxt(*lines, CONV % "u")).layers
    layers[2].load_blobs([Dense(blob) for blob in seeded(prototxt("u 1 6 7 5", CONV % "u"))["c"]])
    assert sizes(program(layers), {1}, {}) == {"u": (2, 6, 7, 5)}


def test_what_the_user_gives_counts() -> None:
    behind = net("1 6 9 8", CONV % "u")
    arguments: Any = {"data": (1, 3, 9, 8), "u": (1, 6, 20, 20)}
    assert sizes(behind, unknown(behind), arguments) == {"u": (1, 6, 20, 20)}


def test_a_layer_without_weights_in_the_file_is_a_black_box() -> None:
    assert unknown(net("1 6 9 8", CONV % "u", missing=[2])) == {1, 2}

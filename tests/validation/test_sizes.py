"""The cost of a forward pass at other input shapes."""

import math
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.validation import validate
from caffe_merge.validation.registry import ENGINES
from caffe_merge.validation.sizes import Cost
from tests.nets import parse, prototxt, seeded, write_pair

CONV = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 64 dim: 64 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
"""
FULL = {"data": (2, 3, 64, 64)}


def cost(text: str) -> Cost:
    return Cost([spec_of(layer) for layer in parse(text).layers], FULL)


def test_a_convolutional_net_costs_by_its_area() -> None:
    model = cost(CONV)
    assert model(FULL) == 2 * 4 * 3 * 9 * 64 * 64
    assert model({"data": (1, 3, 32, 32)}) == 4 * 3 * 9 * 32 * 32


@pytest.mark.parametrize(
    "layer",
    [
        'type: "InnerProduct" inner_product_param { num_output: 2 }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 64 }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 4 dim: 4096 } }',
    ],
)
def test_a_layer_that_pins_the_size_forbids_another(layer: str) -> None:
    model = cost(CONV + f'layer {{ name: "x" bottom: "conv" top: "x" {layer} }}')
    assert model(FULL) is not None
    assert model({"data": (1, 3, 64, 64)}) is not None  # the batch may change
    assert model({"data": (2, 3, 32, 32)}) is None


def test_unknown_layers_count_nothing() -> None:
    text = CONV + 'layer { name: "x" type: "Foo" bottom: "conv" top: "x" top: "y" }'
    text += 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    text += 'layer { name: "q" type: "Silence" bottom: "y" }'
    assert cost(text)(FULL) == cost(CONV)(FULL)


def test_a_net_whose_declared_shape_is_itself_wrong_is_left_alone() -> None:
    model = Cost([spec_of(layer) for layer in parse(CONV).layers], {"data": (0, 3)})
    assert model({"data": (1, 3, 32, 32)}) is None


def test_the_largest_blob_and_all_shapes_are_told() -> None:
    model = cost(CONV)
    assert model.tops(FULL) == {("conv", 1): (2, 4, 64, 64)}
    assert model.tops({"data": (2,)}) == {}
    assert model.largest(FULL) == 2 * 4 * 64 * 64  # the convolution's, not the input's
    assert model.largest({"data": (1, 3, 20_000, 20_000)}) == 4 * 20_000**2


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets of 101x101 are run smaller, to save time."""
    monkeypatch.setitem(ENGINES, "reference", ENGINES["reference"]._replace(most=1e5))


POOLED = (
    'layer { name: "data" type: "Input" top: "data"'
    " input_param { shape { dim: 2 dim: 3 dim: 101 dim: 101 } } }"
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
    " convolution_param { num_output: 4 kernel_size: 3 } }"
    'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"'
    " pooling_param { pool: MAX kernel_size: 2 stride: 2 } }"
    'layer { name: "out" type: "%s" bottom: "pool" top: "out" }'
)


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("kind", ["ReLU", "Mystery"])
def test_shapes_are_compared_at_the_declared_size_if_nets_run_smaller(
    tmp_path: Path, kind: str
) -> None:
    """At 32x32 there is no last window that fits in part, at 101x101 there is one."""
    blobs = {"conv": [np.ones((4, 3, 3, 3)), np.ones(4)]}
    text = POOLED % kind
    before = write_pair(tmp_path, text, blobs, "before")
    after = write_pair(
        tmp_path, text.replace("stride: 2", "stride: 2 ceil_mode: false"), blobs, "after"
    )
    assert validate(before, before).ok
    comparison = validate(before, after)
    assert comparison.inputs[0].shape[2:] == (32, 32)
    assert comparison.status == "failed"
    sizes = "at the declared size its shape was (2, 4, 50, 50) and is (2, 4, 49, 49)"
    assert comparison.reason.endswith(sizes), comparison.reason
    assert comparison.first_beyond == ("pool", math.inf)  # which no noise explains


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize(
    "box", ["PriorBox pool data -> box { prior_box_param { min_size: 3 mystery: 4 } }",
            "Crop data pool -> box { crop_param { axis: 2 mystery: 1 } }"],
)  # fmt: skip
def test_what_a_black_box_reads_has_the_same_shape_at_the_declared_size(
    tmp_path: Path, box: str
) -> None:
    """It reads a shape alone, and at 32x32 both nets have the same."""
    lines = (
        "data 2 3 101 101",
        "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
        "conv2: Convolution conv -> out { convolution_param { num_output: 2 kernel_size: 1 } }",
        "pool: Pooling conv -> pool { pooling_param { pool: MAX kernel_size: 2 stride: 2 %s } }",
        f"box: {box}",
    )
    blobs = seeded(prototxt(*lines[:3]))
    before, after = (
        write_pair(tmp_path, prototxt(*lines) % ceil, blobs, stem)
        for ceil, stem in (("", "before"), ("ceil_mode: false", "after"))
    )
    assert validate(before, before).ok
    comparison = validate(before, after)
    assert comparison.inputs[0].shape[2:] == (32, 32)
    assert comparison.status != "passed", comparison.summary()


SIZED = (  # of an input of 101x101; at the same layers another script may have written the numbers
    ("i: Interp pool -> i { interp_param { zoom_factor: 2 } }",
     "i: Interp pool -> i { interp_param { height: 97 width: 97 } }"),
    ("g: Pooling pool -> g { pooling_param { pool: AVE global_pooling: true } }",
     "g: Pooling pool -> g { pooling_param { pool: AVE kernel_size: 49 } }"),
    ("p: PriorBox pool data -> p { prior_box_param { min_size: 9 step: 4 } }",
     "p: PriorBox pool data -> p { prior_box_param { min_size: 9 step: 4 img_size: 101 } }"),
    ("m: Reduction pool -> m { reduction_param { operation: MEAN axis: 2 } }",
     "m: Reduction pool -> m { reduction_param { operation: SUM axis: 2 coeff: 4.164931279e-4 } }"),
    ("r: Reshape pool -> r { reshape_param { shape { dim: 0 dim: 4 dim: -1 } } }",
     "r: Reshape pool -> r { reshape_param { shape { dim: 0 dim: 4 dim: 2401 } } }"),
)  # fmt: skip


@pytest.mark.usefixtures("little_time")
@pytest.mark.parametrize("either_way", [False, True])
@pytest.mark.parametrize("forms", SIZED)
def test_a_size_that_one_of_the_nets_writes_as_a_number_is_kept(
    tmp_path: Path, forms: Tuple[str, str], either_way: bool
) -> None:
    head = (
        "data 1 3 101 101",
        "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
        "pool: Pooling conv -> pool { pooling_param { kernel_size: 3 stride: 2 } }",
    )
    blobs = seeded(prototxt(*head))
    name = forms[0][0]
    before, after = (
        write_pair(tmp_path, prototxt(*head, form, f"t: TanH {name} -> t"), blobs, stem)
        for form, stem in zip(forms[::-1] if either_way else forms, ("before", "after"))
    )
    comparison = validate(before, after)
    assert comparison.status == "passed", comparison.summary()
    assert comparison.inputs[0].shape[2:] == (101, 101)

"""The proof on the net's own shapes: what no small patch can run is proved all the same."""

from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.merging.proof import prove
from caffe_merge.net.graph import Graph
from caffe_merge.options import Options
from caffe_merge.passes import PASSES
from caffe_merge.passes.rewriting.rewrite import Rewrite
from tests.merger import Merger
from tests.nets import load, prototxt

IN = "data 2 3 8 5"
CONV = "c: Convolution data -> c { convolution_param { num_output: 6 %s } }"
# Larger than any patch that can be made: a second place would lie two thousand million further on.
STRIDE = CONV % "kernel_size: 3 stride: 2147483647"
NORM = "b: BatchNorm c -> b"


def rewrite_of(folder: Path, *lines: str) -> Tuple[Graph, Rewrite]:
    """The first rewrite that any pass finds in the net of ``lines``."""
    text = prototxt(IN, *lines)
    net = load(folder, text)
    graph = Graph(net.layers, {})
    tried = [listed for listed in PASSES if listed.is_asked_for(Options())]
    items = [item for listed in tried for item in listed().find(graph)]
    return graph, next(item for item in items if isinstance(item, Rewrite))


@pytest.mark.parametrize("wrong", [1.0, 1.01])
def test_it_disproves(tmp_path: Path, wrong: float) -> None:
    """One weight off by a hundredth is seen on the net's own shapes too."""
    graph, rewrite = rewrite_of(tmp_path, STRIDE, NORM)
    changes = dict(rewrite.changes)
    head = next(layer for layer in changes if layer.type == "Convolution")
    param, (weights, *rest) = changes[head]
    values = np.array(weights.array())
    values[2, 1] *= wrong
    changes[head] = param, (Dense(values), *rest)
    failure = prove(graph, rewrite.layers, changes, rewrite.reads)
    assert (failure is None) == (wrong == 1.0)


def test_a_stride_larger_than_any_patch(merged: Merger) -> None:
    result = merged(IN, STRIDE, NORM)
    assert "b" not in result.names


@pytest.mark.parametrize("axis", [0, 1])
def test_a_product_along_the_batch(merged: Merger, axis: int) -> None:
    """An InnerProduct of axis 0 has one row, whatever the batch: its outputs are no channels."""
    product = f"i: InnerProduct b -> i {{ inner_product_param {{ num_output: 3 axis: {axis} }} }}"
    result = merged(IN, "b: Bias data -> b { bias_param { num_axes: -1 } }", product)
    assert ("b" in result.names) == (axis == 0)


def test_a_blob_without_channels(merged: Merger) -> None:
    """Small patches have channels: a Flatten of the batch leaves none of them."""
    result = merged(
        "data 2 1 8 4",
        "f: Flatten data -> f { flatten_param { axis: 0 end_axis: 3 } }",
        "p: BNLL f -> p",
        "r: Reshape p -> r { reshape_param { axis: 1 num_axes: 0 shape { dim: 1 } } }",
        "c: Concat r r -> c",
        "a: AbsVal c -> a",
        "end: TanH a -> end",
    )
    assert result.names == ["f", "p", "r", "c", "end"]


def test_shapes_that_nobody_knows(tmp_path: Path) -> None:
    """Without a shape there is no other way to run it, and the reason says so."""
    text = prototxt(IN, CONV % "kernel_size: 1", NORM)
    net = load(tmp_path, text)
    graph = Graph(net.layers)
    conv, norm = net.layers[-2:]
    param = type(conv.param)()
    param.CopyFrom(conv.param)
    param.convolution_param.bias_term = False  # the blobs have one
    failure = prove(graph, (conv, norm), {conv: (param, conv.blobs)}, {})
    assert failure == "it cannot be run: the shape of 'data' is not known"

"""Layers that work along axis 1, the channels of their bottoms, and how many channels there are."""

from __future__ import annotations

from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS, LINEAR_TYPES, Output, output_channels
from caffe_merge.layers.matrices import inputs_axis
from caffe_merge.net.graph import Graph, Version


def channels(version: Version) -> int:
    """The channels of ``version``, on axis 1; 0 where they are not known."""
    return 0 if version.shape is None or len(version.shape) < 2 else version.shape[1]


def is_depthwise(graph: Graph, layer: Layer) -> bool:
    """Whether ``layer`` is a convolution of as many groups as channels, bottom and top."""
    if layer.type not in CONVOLUTIONS or not _is_known(graph, layer):
        return False
    size = channels(graph.tops[layer][0])
    shape = layer.blobs[0].shape
    return channels(graph.bottoms[layer][0]) == size > 1 and shape[:2] == (size, 1)


def is_dense(graph: Graph, layer: Layer) -> bool:
    """Whether ``layer`` is linear along channels and not grouped."""
    if layer.type not in LINEAR_TYPES or not _is_known(graph, layer):
        return False
    inputs, size = layer.blobs[0].shape[inputs_axis(layer)], channels(graph.bottoms[layer][0])
    if layer.type == "InnerProduct":
        return inputs % size == 0
    return inputs == size and layer.param.convolution_param.group == 1


def _is_known(graph: Graph, layer: Layer) -> bool:
    """Whether the weights of a linear layer are known, and its channels lie on axis 1."""
    if not all(map(channels, (*graph.bottoms[layer], *graph.tops[layer]))):
        return False
    output = output_channels(layer, graph.tops[layer][0].rank)
    return isinstance(output, Output) and output.axis == 1


def joins_channels(graph: Graph, layer: Layer) -> bool:
    """Whether ``layer`` is a Concat of the channels of several blobs."""
    return len(layer.param.bottom) > 1 and layer.type == "Concat" and moves_channels(graph, layer)


def moves_channels(graph: Graph, layer: Layer) -> bool:
    """Whether ``layer``, a Concat or Slice, joins channels or cuts them apart."""
    rank = graph.bottoms[layer][0].rank
    return axis_of(layer.param, rank) == 1 and unknown_fields(layer) is None


def reads_twice(graph: Graph) -> bool:
    """Whether a Concat has a blob twice."""
    bottoms = (graph.bottoms[layer] for layer in graph.layers if layer.type == "Concat")
    return any(len(set(versions)) < len(versions) for versions in bottoms)

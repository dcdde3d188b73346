"""What a net costs: the multiply-adds of a layer, the memory of all blobs."""

from __future__ import annotations

from typing import Optional

from caffe_merge.arrays import count
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.fork_fields import has_unknown, spec_of
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.net.graph import Graph

_FLOAT = 4  # bytes of a value in Caffe


def multiply_adds(graph: Graph, layer: Layer) -> Optional[int]:
    """Multiply-adds of one forward pass of ``layer``; None if they are not known."""
    bottoms = [version.shape for version in graph.bottoms[layer]]
    tops = [version.shape for version in graph.tops[layer]]
    if has_unknown(layer) or None in bottoms or None in tops:
        return None
    return shapes.multiply_adds(spec_of(layer), bottoms, tops)  # type: ignore[arg-type]


def activation_bytes(graph: Graph) -> Optional[int]:
    """Bytes that Caffe holds for blobs and what has their size; None if a shape is not known.

    A blob has memory of its own unless it is written in place or shares its bottom's. BatchNorm
    holds two more of the size of its bottom (batch_norm_layer.cpp), MVN and LRN one (mvn_layer.cpp,
    lrn_layer.cpp), within a channel three, a maximum the place of each value (pooling_layer.cpp,
    eltwise_layer.cpp), and Scale and PReLU keep a copy of what they write over (scale_layer.cpp,
    prelu_layer.cpp).
    """
    total = 0
    for layer in graph.layers:
        row = CATALOGUE.get(layer.type)
        for top in graph.tops[layer]:
            blobs = row.buffers + _more_buffers(layer) if row is not None else 0
            if graph.overwritten_by(top) is not None:
                blobs += row is not None and row.copies
            elif not shares_memory(layer):
                blobs += 1
            if top.shape is not None:
                total += blobs * _FLOAT * count(top.shape)
            elif blobs:
                return None
    return total


def _more_buffers(layer: Layer) -> int:
    """How many blobs of its top's size a layer holds for what its parameters ask of it."""
    param = layer.param
    if layer.type == "Pooling":
        return int(param.pooling_param.pool == param.pooling_param.MAX and len(param.top) == 1)
    if layer.type == "Eltwise":
        return int(param.eltwise_param.operation == param.eltwise_param.MAX)
    lrn = param.lrn_param  # within a channel it has a square, its mean and a power of that
    return 2 if layer.type == "LRN" and lrn.norm_region == lrn.WITHIN_CHANNEL else 0

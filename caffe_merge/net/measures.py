"""What a net costs: the multiply-adds of a layer, the memory of all blobs."""

from typing import Optional

from caffe_merge.arrays import count
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import that
from caffe_merge.layers.fork_fields import described, has_unknown
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.net.graph import Graph

COPIES = that("copies")
_FLOAT = 4  # bytes of a value in Caffe


def multiply_adds(graph: Graph, layer: Layer) -> Optional[int]:
    """Multiply-adds of one forward pass of ``layer``; None if they are not known."""
    bottoms = [version.shape for version in graph.bottoms[layer]]
    tops = [version.shape for version in graph.tops[layer]]
    if has_unknown(layer) or None in bottoms or None in tops:
        return None
    return shapes.multiply_adds(described(layer), bottoms, tops)  # type: ignore[arg-type]


def activation_bytes(graph: Graph) -> Optional[int]:
    """Bytes that Caffe holds for the values of all blobs; None if the shape of one is not known.

    A blob has memory of its own unless it is written in place or shares its bottom's. Some layers
    keep a copy of what they write over (scale_layer.cpp, prelu_layer.cpp), so nothing is gained.
    """
    total = 0
    for layer in graph.layers:
        for top in graph.tops[layer]:
            in_place = graph.overwritten_by(top) is not None and layer.type not in COPIES
            if in_place or shares_memory(layer):
                continue
            if top.shape is None:
                return None
            total += _FLOAT * count(top.shape)
    return total

"""Layers of forks that resize images or move their values: the shapes of their tops."""

from math import prod
from typing import Dict, List, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.fork_fields import fork_values
from caffe_merge.layers.shapes.geometry import Layer, Rule, canonical, error, four_axes, size_error

RESIZES = {
    "ResizeBilinear": "resize_bilinear_param.",
    "ResizeNearestNeighbor": "resize_nearest_neighbor_param.",
}


def spatial_axes(layer: Layer) -> Optional[Tuple[int, int]]:
    """Where a resize of Synopsys' has its height and width; None for three spatial axes."""
    layout = fork_values(layer).word(RESIZES[layer.type] + "data_format").strip("\"'") or "NHWC"
    return {"NHWC": (1, 2), "NCHW": (2, 3)}.get(layout)


def _resize(layer: Layer, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """To a given size, or scaled and rounded down (resize_bilinear_layer.cpp)."""
    axes, top = spatial_axes(layer), list(four_axes(layer, bottoms[0]))
    fields, block = fork_values(layer), RESIZES[layer.type]
    if axes is None:
        return None
    for axis, side in zip(axes, ("height", "width")):
        scale = fields.number(f"{block}scale_{side}", 1.0)
        scaled = float(np.floor(np.float32(top[axis]) * np.float32(scale)))
        top[axis] = fields.integer(f"{block}output_{side}", int(min(max(scaled, 0), 2**31)))
        if top[axis] < 1:
            raise size_error(layer, f"a {side} larger than 0", top[axis])
    return [tuple(top)]


def _reorg(layer: Layer, bottoms: List[Shape]) -> List[Shape]:
    """Blocks of stride x stride become channels, or with ``reverse`` back (reorg_layer.cpp)."""
    num, channels, height, width = four_axes(layer, bottoms[0])
    stride = fork_values(layer).integer("reorg_param.stride", 0)
    if stride < 1:
        raise error(layer, "a stride larger than 0", stride)
    if fork_values(layer).flag("reorg_param.reverse", False):
        if channels % stride**2:
            raise size_error(layer, f"channels to be a multiple of {stride**2}", channels)
        return [(num, channels // stride**2, height * stride, width * stride)]
    if height % stride or width % stride:
        raise size_error(layer, f"a height and width that stride {stride} divides", (height, width))
    return [(num, channels * stride**2, height // stride, width // stride)]


def pads(layer: Layer) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """What a Padding adds: (above, below), (left, right)."""
    top, bottom, left, right = (
        fork_values(layer).integer(f"padding_param.pad_{side}", 0) for side in "tblr"
    )
    return (top, bottom), (left, right)


def _padding(layer: Layer, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """A border of one value (sophgo, padding_layer.cpp)."""
    rows, columns = pads(layer)
    if fork_values(layer).word("padding_param.pad_method") not in ("", "CONSTANT", "0"):
        return None
    if min(*rows, *columns) < 0:
        raise error(layer, "no negative pad", (*rows, *columns))
    num, channels, height, width = four_axes(layer, bottoms[0])
    return [(num, channels, height + sum(rows), width + sum(columns))]


def _unpooling(layer: Layer, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """To the size that the text says (DeconvNet, unpooling_layer.cpp)."""
    fields = fork_values(layer)
    both = fields.integer("unpooling_param.unpool_size", 0)
    height, width = (fields.integer(f"unpooling_param.unpool_{side}", both) for side in "hw")
    num, channels, *pooled = four_axes(layer, bottoms[0])
    if min(height, width) < 1 or fields.integer("unpooling_param.pad", 0):
        return None
    if len(bottoms) > 1 and prod(bottoms[1]) != num * channels * prod(pooled):
        raise size_error(layer, f"a mask of shape {bottoms[0]}", bottoms[1])
    return [(num, channels, height, width)]


def _reverse(layer: Layer, bottoms: List[Shape]) -> List[Shape]:
    canonical(layer, fork_values(layer).integer("reverse_param.axis", 0), len(bottoms[0]))
    return [bottoms[0]]


RULES: Dict[str, Rule] = {
    "Padding": Rule(_padding),
    "Reorg": Rule(_reorg),
    "Reverse": Rule(_reverse),
    "Unpooling": Rule(_unpooling, bottoms=(1, 2)),
    **dict.fromkeys(RESIZES, Rule(_resize)),
}

"""Layers of forks that resize images or move their values: the shapes of their tops."""

from __future__ import annotations

from math import prod
from typing import Dict, List, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.geometry import (
    Rule,
    canonical,
    error,
    four_axes,
    misfit,
    size_error,
)
from caffe_merge.layers.spec import LayerSpec

RESIZES = {
    "ResizeBilinear": "resize_bilinear_param.",
    "ResizeNearestNeighbor": "resize_nearest_neighbor_param.",
}


def spatial_axes(layer: LayerSpec) -> Optional[Tuple[int, int]]:
    """Where a resize of Synopsys' has its height and width; None for three spatial axes."""
    layout = layer.fork.word(RESIZES[layer.type] + "data_format").strip("\"'") or "NHWC"
    return {"NHWC": (1, 2), "NCHW": (2, 3)}.get(layout)


def _resize(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """To a given size, or scaled and rounded down (resize_bilinear_layer.cpp)."""
    axes, top = spatial_axes(layer), list(four_axes(layer, bottoms[0]))
    fields, block = layer.fork, RESIZES[layer.type]
    if axes is None:
        return None
    for axis, side in zip(axes, ("height", "width")):
        scale = fields.number(f"{block}scale_{side}", 1.0)
        scaled = float(np.floor(np.float32(top[axis]) * np.float32(scale)))
        top[axis] = fields.integer(f"{block}output_{side}", int(min(max(scaled, 0), 2**31)))
        if top[axis] < 1:
            raise size_error(layer, f"a {side} larger than 0", top[axis])
    return [tuple(top)]


def _reorg(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """Blocks of stride x stride become channels, or with ``reverse`` back (reorg_layer.cpp)."""
    num, channels, height, width = four_axes(layer, bottoms[0])
    stride = layer.fork.integer("reorg_param.stride", 0)
    if stride < 1:
        raise error(layer, "a stride larger than 0", stride)
    if layer.fork.flag("reorg_param.reverse", False):
        if channels % stride**2:
            raise size_error(layer, f"channels to be a multiple of {stride**2}", channels)
        return [(num, channels // stride**2, height * stride, width * stride)]
    if height % stride or width % stride:
        raise size_error(layer, f"a height and width that stride {stride} divides", (height, width))
    return [(num, channels * stride**2, height // stride, width // stride)]


def pads(layer: LayerSpec) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """What a Padding adds: (above, below), (left, right)."""
    top, bottom, left, right = (
        layer.fork.integer(f"padding_param.pad_{side}", 0) for side in "tblr"
    )
    return (top, bottom), (left, right)


def _padding(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """A border of one value (sophgo, padding_layer.cpp)."""
    rows, columns = pads(layer)
    if layer.fork.word("padding_param.pad_method") not in ("", "CONSTANT", "0"):
        return None
    if min(*rows, *columns) < 0:
        raise error(layer, "no negative pad", (*rows, *columns))
    num, channels, height, width = four_axes(layer, bottoms[0])
    return [(num, channels, height + sum(rows), width + sum(columns))]


_INTERP_SIZES = ("height", "width", "shrink_factor", "zoom_factor")


def crop(layer: LayerSpec, bottom: Shape) -> Shape:
    """What an Interp takes of (H, W): its pads are not positive and cut the borders off."""
    begin = layer.fork.integer("interp_param.pad_beg", 0)
    end = layer.fork.integer("interp_param.pad_end", 0)
    height, width = (dim + begin + end for dim in four_axes(layer, bottom)[2:])
    if begin > 0 or end > 0 or height < 1 or width < 1:
        raise misfit(layer, "pads that cut off less than there is", (begin, end))
    return (height, width)


def _interp(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """Shrunk, zoomed, or to a given size: that of the second bottom (DeepLab's forks), if any."""
    fields, name = layer.fork, "interp_param."
    if len(layer.param.top) > 1:
        return None
    if len(bottoms) > 1:
        has_size = any(name + field in fields for field in _INTERP_SIZES)
        if has_size or bottoms[1][:1] != bottoms[0][:1]:
            return None  # forks refuse that, or go by the text
        crop(layer, bottoms[0])
        return [(*bottoms[0][:2], *four_axes(layer, bottoms[1])[2:])]
    shrink = fields.integer(name + "shrink_factor", 1)
    zoom = fields.integer(name + "zoom_factor", 1)
    sizes = crop(layer, bottoms[0])
    scales = name + "shrink_factor" in fields, name + "zoom_factor" in fields
    if any(scales) and min(shrink, zoom) < 1:
        raise error(layer, "factors larger than 0", (shrink, zoom))
    if name + "height" in fields and name + "width" in fields and scales in ((0, 0), (1, 1)):
        sizes = (fields.integer(name + "height", 0), fields.integer(name + "width", 0))
    elif any(scales):
        shrunk = ((size - 1) // shrink + 1 for size in sizes)
        sizes = tuple(size + (size - 1) * (zoom - 1) for size in shrunk)
    else:
        raise error(layer, "a height and width or a factor", "neither")
    if min(sizes) < 1:
        raise misfit(layer, "a height and width larger than 0", sizes)
    return [(*bottoms[0][:2], *sizes)]


def _upsample(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """To a given size, or scaled (2 if no scale is given) less a pad (SegNet, upsample_layer.cpp).

    Without a mask as second bottom it is another fork's (eric612's), and has a scale alone.
    """
    fields, name = layer.fork, "upsample_param."
    height, width = four_axes(layer, bottoms[0])[2:]
    if len(bottoms) == 1:
        scale = fields.integer(name + "scale", 0)
        of_segnet = any(name + other in fields for other in ("scale_h", "pad_out_h", "upsample_h"))
        return (
            None if of_segnet or not scale else [(*bottoms[0][:2], height * scale, width * scale)]
        )
    if bottoms[1] != bottoms[0] or len(bottoms) > 2:
        return None
    size = tuple(fields.integer(name + side, 0) for side in ("upsample_h", "upsample_w"))
    if 0 in size:
        both = fields.integer(name + "scale", 2)
        scales = (fields.integer(name + side, both) for side in ("scale_h", "scale_w"))
        pads = (fields.flag(name + side, False) for side in ("pad_out_h", "pad_out_w"))
        size = tuple(n * k - pad for n, k, pad in zip((height, width), scales, pads))
    return [(*bottoms[0][:2], *size)]


def _unpooling(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """To the size that the text says (DeconvNet, unpooling_layer.cpp)."""
    fields = layer.fork
    both = fields.integer("unpooling_param.unpool_size", 0)
    height, width = (fields.integer(f"unpooling_param.unpool_{side}", both) for side in "hw")
    num, channels, *pooled = four_axes(layer, bottoms[0])
    if min(height, width) < 1 or fields.integer("unpooling_param.pad", 0):
        return None
    if len(bottoms) > 1 and prod(bottoms[1]) != num * channels * prod(pooled):
        raise size_error(layer, f"a mask of shape {bottoms[0]}", bottoms[1])
    return [(num, channels, height, width)]


def _reverse(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    canonical(layer, layer.fork.integer("reverse_param.axis", 0), len(bottoms[0]))
    return [bottoms[0]]


RULES: Dict[str, Rule] = {
    "Interp": Rule(_interp, bottoms=(1, 2), tops=(1, 2)),
    "Padding": Rule(_padding),
    "Reorg": Rule(_reorg),
    "Reverse": Rule(_reverse),
    "Unpooling": Rule(_unpooling, bottoms=(1, 2)),
    "Upsample": Rule(_upsample, bottoms=(1, None)),
    **dict.fromkeys(RESIZES, Rule(_resize)),
}

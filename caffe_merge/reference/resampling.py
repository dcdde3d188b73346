"""Layers of forks that resize images, or move their values; shapes.resampling has their fields."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes import resampling
from caffe_merge.layers.shapes.geometry import canonical
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes, Unsupported

# For each place of the output: the input places around it, and the weight of the second.
Places = Tuple[np.ndarray, np.ndarray, np.ndarray]


def _between(x: np.ndarray, axis: int, places: Places) -> np.ndarray:
    """Interpolate linearly along one axis."""
    low, high, share = places
    share = share.reshape(-1, *[1] * (x.ndim - axis - 1))
    y: np.ndarray = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return y


def _interp(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Bilinear with aligned corners: place i reads from i (in - 1) / (out - 1) (interp.cpp)."""
    begin = -layer.fork.integer("interp_param.pad_beg", 0)
    height, width = resampling.crop(layer, bottoms[0].shape)
    x = bottoms[0][:, :, begin : begin + height, begin : begin + width]
    for axis in (2, 3):
        length, size = x.shape[axis], tops[0][axis]
        position = np.arange(size) * ((length - 1) / (size - 1) if size > 1 else 0.0)
        low = np.minimum(position.astype(np.intp), length - 1)
        x = _between(x, axis, (low, np.minimum(low + 1, length - 1), position - low))
    return [x]


def _positions(layer: LayerSpec, length: int, size: int) -> np.ndarray:
    """Where each of ``size`` places reads from, in float32 as in the fork; jumps depend on it.

    Scaled from corner to corner with align_corners, else by length / size, from pixel centres on
    with one of the half_pixel fields.
    """
    fields, block = layer.fork, resampling.RESIZES[layer.type]
    places = np.arange(size, dtype=np.float32)
    if fields.flag(block + "align_corners", False) and size > 1:
        return places * (np.float32(length - 1) / np.float32(size - 1))
    scale = np.float32(length) / np.float32(size)
    if fields.flag(block + "half_pixel_centers", False):
        bilinear = layer.type == "ResizeBilinear"
        return (places + np.float32(0.5)) * scale - np.float32(0.5 if bilinear else 0)
    for name in ("half_pixel_onnx", "pytorch_half_pixel"):
        if fields.flag(block + name, False):
            return (places + np.float32(0.5)) * scale - np.float32(0.5)
    return places * scale


def _bilinear(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Between the places around a position (Synopsys, resize_bilinear_layer.cpp)."""
    x = bottoms[0]
    for axis in resampling.spatial_axes(layer) or ():
        last = x.shape[axis] - 1
        position = _positions(layer, x.shape[axis], tops[0][axis])
        floor = np.floor(position)
        low, high = np.clip(floor, 0, last), np.clip(np.ceil(position), 0, last)
        share = (position - floor).astype(np.float64)
        x = _between(x, axis, (low.astype(np.intp), high.astype(np.intp), share))
    return [x]


def _nearest(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The place before a position, or nearest to it with align_corners (Synopsys)."""
    x = bottoms[0]
    aligned = layer.fork.flag("resize_nearest_neighbor_param.align_corners", False)
    for axis in resampling.spatial_axes(layer) or ():
        position = _positions(layer, x.shape[axis], tops[0][axis])
        places = np.floor(position + np.float32(0.5) if aligned else position)
        x = np.take(x, np.clip(places, 0, x.shape[axis] - 1).astype(np.intp), axis)
    return [x]


def _upsample(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Each value ``scale`` times along both axes, or where the mask says (upsample_layer.cpp)."""
    x = bottoms[0]
    if len(bottoms) > 1:
        return [_scattered(layer, x, bottoms[1], tops[0][2:])]
    scale = layer.fork.integer("upsample_param.scale", 1)
    return [x.repeat(scale, axis=2).repeat(scale, axis=3)]


def _scattered(layer: LayerSpec, x: np.ndarray, mask: np.ndarray, size: Shape) -> np.ndarray:
    """Each value of x (N, C, H, W) at the place y * width + x in its image that the mask names."""
    images = x.reshape(x.shape[0] * x.shape[1], -1)
    places = mask.astype(np.int64).reshape(images.shape)
    y = np.zeros((len(images), size[0] * size[1]))
    if places.size and not 0 <= places.min() <= places.max() < y.shape[1]:
        raise Unsupported(layer, f"its mask names places outside an image of {size[0]}x{size[1]}")
    y[np.arange(len(images))[:, np.newaxis], places] = images
    return y.reshape(*x.shape[:2], *size)


def _unpooling(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Each value where the mask says, at the begin of its window, or all over it (DeconvNet)."""
    fields, size = layer.fork, tops[0][2:]
    method = fields.word("unpooling_param.unpool")
    if method in ("AVE", "TILE"):
        return [_spread(layer, bottoms[0], size, method == "AVE")]
    if method not in ("", "MAX", "0"):
        raise Unsupported(layer, f"no such way to unpool here: {method}")
    if len(bottoms) > 1:
        return [_scattered(layer, bottoms[0], bottoms[1], size)]
    both = fields.integer("unpooling_param.stride", 1)
    rows, columns = (
        np.minimum(np.arange(n) * fields.integer(f"unpooling_param.stride_{side}", both), most - 1)
        for n, side, most in zip(bottoms[0].shape[2:], "hw", size)
    )
    y = np.zeros(tops[0])
    y[:, :, rows[:, np.newaxis], columns] = bottoms[0]
    return [y]


def _spread(layer: LayerSpec, x: np.ndarray, size: Shape, mean: bool) -> np.ndarray:
    """Each value of x (N, C, H, W) all over its window, or its share there; windows add up.

    Of a window that sticks out only the part inside counts (DeconvNet, unpooling_layer.cpp).
    """
    fields, name = layer.fork, "unpooling_param."
    both = fields.integer(name + "kernel_size", 0), fields.integer(name + "stride", 1)
    y = x
    for axis, side in ((2, "h"), (3, "w")):
        kernel = fields.integer(f"{name}kernel_{side}", both[0])
        if kernel < 1:
            raise Unsupported(layer, "the size of its windows is not given")
        begin = np.arange(x.shape[axis]) * fields.integer(f"{name}stride_{side}", both[1])
        end = np.minimum(begin + kernel, size[axis - 2])
        places = np.arange(size[axis - 2])[:, np.newaxis]
        inside = ((begin <= places) & (places < end)).astype(np.float64)
        if mean:
            inside /= np.maximum(end - begin, 1)
        y = np.moveaxis(np.tensordot(inside, y, (1, axis)), 0, axis)
    return y


def _reorg(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The place within a block of stride x stride is the slower part of the channel."""
    x, stride = bottoms[0], layer.fork.integer("reorg_param.stride", 1)
    if layer.fork.flag("reorg_param.reverse", False):
        num, channels, height, width = tops[0]
        blocks = x.reshape(num, stride, stride, channels, *x.shape[2:])
        return [blocks.transpose(0, 3, 4, 1, 5, 2).reshape(tops[0])]
    num, _, height, width = tops[0]
    blocks = x.reshape(num, x.shape[1], height, stride, width, stride)
    return [blocks.transpose(0, 3, 5, 1, 2, 4).reshape(tops[0])]


def _padding(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    value = float(layer.fork.integer("padding_param.pad_value", 0))
    return [np.pad(bottoms[0], ((0, 0), (0, 0), *resampling.pads(layer)), constant_values=value)]


def _reverse(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    axis = layer.fork.integer("reverse_param.axis", 0)
    return [np.flip(bottoms[0], canonical(layer, axis, bottoms[0].ndim))]


FUNCTIONS: Dict[str, Function] = {
    "Interp": _interp,
    "Padding": _padding,
    "Reorg": _reorg,
    "ResizeBilinear": _bilinear,
    "ResizeNearestNeighbor": _nearest,
    "Reverse": _reverse,
    "Unpooling": _unpooling,
    "Upsample": _upsample,
}

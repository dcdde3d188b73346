"""Layers that copy or move values without changing them."""

from __future__ import annotations

from itertools import accumulate
from typing import Dict, List

import numpy as np

from caffe_merge.layers.shapes.geometry import canonical
from caffe_merge.layers.shapes.outputs import crop_offsets, part_axis
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes, Unsupported


def _concat(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    axis = part_axis(layer, bottoms[0].ndim)
    return [np.concatenate(bottoms, axis=axis)]


def _slice(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    axis = part_axis(layer, bottoms[0].ndim)
    ends = list(accumulate(top[axis] for top in tops))
    return np.split(bottoms[0], ends[:-1], axis=axis)


def _crop(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    _, offsets = crop_offsets(layer, bottoms[0].shape)
    return [bottoms[0][tuple(slice(o, o + size) for o, size in zip(offsets, tops[0]))]]


def _reshaped(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    return [bottoms[0].reshape(tops[0])]


def _split(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    return [bottoms[0]] * len(tops)


def _tile(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    axis = canonical(layer, layer.param.tile_param.axis, bottoms[0].ndim)
    return [np.concatenate([bottoms[0]] * layer.param.tile_param.tiles, axis=axis)]


def _embed(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """For each value the row of blob 0 with that index, + blob 1 (embed_layer.cpp)."""
    places = bottoms[0].astype(np.int64)
    if places.size and not 0 <= places.min() <= places.max() < len(blobs[0]):
        raise Unsupported(layer, f"an index outside 0 to {len(blobs[0]) - 1} names no row")
    rows = blobs[0][places]
    return [rows + blobs[1] if len(blobs) > 1 else rows]


def _parameter(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    return [blobs[0]]


def _silence(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    return []


FUNCTIONS: Dict[str, Function] = {
    "Concat": _concat,
    "Crop": _crop,
    "Embed": _embed,
    "Flatten": _reshaped,
    "Parameter": _parameter,
    "Reshape": _reshaped,
    "Silence": _silence,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
}

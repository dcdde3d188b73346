"""Where the values of a layer's tops come from, along one axis: layers that only move values.

The channels of a Concat's top are those of its bottoms one after the other, a Permute's lie on
another axis, a Tile's come several times. A Link says so in numbers, so that a map per channel can
be followed through any such layer, forwards and backwards. Layers that compute each channel by
itself (ReLU, Pooling, Interp) leave it where it is; whether a map goes through what they compute is
the business of who asks.
"""

from math import prod
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from caffe_merge.arrays import Indices, Shape
from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import CATALOGUE, that
from caffe_merge.layers.fork_fields import spec_of, unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.forks import order
from caffe_merge.layers.shapes.geometry import canonical
from caffe_merge.layers.shapes.outputs import crop_offsets, part_axis
from caffe_merge.notes import SHAPE, Reason

Shapes = Sequence[Optional[Shape]]


class Link(NamedTuple):
    """Top ``top`` has at ``places`` of its axis ``top_axis`` what comes from a bottom.

    It comes from ``origins`` of the axis ``bottom_axis`` of bottom number ``bottom``: two arrays of
    one length, or None each where both axes are the same all along.
    """

    bottom: int
    top: int
    bottom_axis: int
    top_axis: int
    origins: Optional[Indices] = None
    places: Optional[Indices] = None


MASKED = that("masked")
Links = Union[List[Link], Reason]

_UNKNOWN = Reason("its shapes are not known", SHAPE)


def links(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """The links from ``axis``, 1 or more, of the bottoms of ``layer``, a type of RULES.

    Every top is linked at all its places or at none. A bottom without a link is a mask, or read for
    its shape alone. Of a layer of several bottoms the axis is that of the first.
    """
    if bottoms[0] is not None and axis >= len(bottoms[0]):
        return Reason(f"what it reads has no axis {axis}")
    return RULES[layer.type](layer, bottoms, tops, axis)


def _same(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    return [Link(n, 0, axis, axis) for n in range(len(bottoms))]


def _first(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """The channels of the first bottom; a second one may be a mask, of where the values come to."""
    if axis != 1:
        return Reason(f"it mixes what lies along axis {axis}")
    if len(tops) != 1 or (len(bottoms) > 1 and layer.type not in MASKED):
        return Reason("it has not one bottom and one top")
    if tops[0] is None and layer.type != "Pooling":
        return _UNKNOWN
    return [Link(0, 0, 1, 1)]


def _resized(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    from caffe_merge.layers.shapes.resampling import spatial_axes  # few nets have such a layer

    mixed = spatial_axes(spec_of(layer))
    if tops[0] is None or mixed is None or axis in mixed:
        return Reason(f"it mixes what lies along axis {axis}")
    return [Link(0, 0, axis, axis)]


def _concat(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    rank = _rank([*bottoms, *tops])
    if rank is None:
        return _UNKNOWN
    if part_axis(layer, rank) != axis:
        return _same(layer, bottoms, tops, axis)
    sizes = [None if shape is None else shape[axis] for shape in bottoms]
    if len(sizes) == 1:
        return [Link(0, 0, axis, axis)]
    return _side_by_side(sizes, axis, joined=True)


def _slice(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    rank = _rank([*bottoms, *tops])
    if rank is None:
        return _UNKNOWN
    if part_axis(layer, rank) != axis:
        return [Link(0, n, axis, axis) for n in range(len(tops))]
    return _side_by_side([None if shape is None else shape[axis] for shape in tops], axis)


def _side_by_side(sizes: Sequence[Optional[int]], axis: int, joined: bool = False) -> Links:
    """Blobs of ``sizes`` along ``axis`` that are parts of one: of a top if ``joined``."""
    out: List[Link] = []
    start = 0
    for number, size in enumerate(sizes):
        if size is None:
            return _UNKNOWN
        part, whole = np.arange(size), np.arange(start, start + size)
        if joined:
            out.append(Link(number, 0, axis, axis, part, whole))
        else:
            out.append(Link(0, number, axis, axis, whole, part))
        start += size
    return out


def _crop(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """The second bottom says how large a part of the first is taken."""
    bottom, top = bottoms[0], tops[0]
    if bottom is None or top is None:
        return _UNKNOWN
    places = np.arange(top[axis])
    _, offsets = crop_offsets(layer, bottom)
    return [Link(0, 0, axis, axis, places + offsets[axis], places)]


def _tile(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    bottom = bottoms[0]
    if bottom is None:
        return _UNKNOWN
    if canonical(layer, layer.param.tile_param.axis, len(bottom)) != axis:
        return [Link(0, 0, axis, axis)]
    origins = np.tile(np.arange(bottom[axis]), layer.param.tile_param.tiles)
    return [Link(0, 0, axis, axis, origins, np.arange(len(origins)))]


def _reshaped(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """Values stay in their order: place f // I mod n of an axis of n is that of value f.

    I is the number of values behind the axis. On a top axis with I' behind and n' places, each has
    values of one origin if I' divides I, and they repeat with the origins if n I divides n' I'.
    """
    bottom, top = bottoms[0], tops[0]
    if bottom is None or top is None:
        return _UNKNOWN
    if not keeps_images(layer, bottom, top):
        return Reason("it moves values from image to image")
    size, inner = bottom[axis], prod(bottom[axis + 1 :])
    for top_axis in range(1, len(top)):
        places, top_inner = np.arange(top[top_axis]), prod(top[top_axis + 1 :])
        if not top_inner or inner % top_inner or len(places) * top_inner % max(size * inner, 1):
            continue
        origins = places // (inner // top_inner) % size
        return [Link(0, 0, axis, top_axis, origins, places)]
    return Reason(f"it spreads axis {axis} over several axes")


def keeps_order(layer: Layer) -> bool:
    """Whether it gives out the values that it reads in their order, in another shape."""
    return RULES.get(layer.type) is _reshaped and unknown_fields(layer) is None


def keeps_images(layer: Layer, bottom: Shape, top: Shape) -> bool:
    """Whether twice as many images, where it takes them, come out as twice as many."""
    try:
        larger = shapes.tops(spec_of(layer), [(2 * bottom[0], *bottom[1:])])
    except NetError:
        larger = None
    return bottom[0] == top[0] and larger in (None, [(2 * top[0], *top[1:])])


def _permute(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    rank = _rank([*bottoms, *tops])
    if rank is None:
        return _UNKNOWN
    return [Link(0, 0, axis, order(spec_of(layer), rank).index(axis))]


def _shuffle_channel(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """Channel i C/g + j comes to j g + i (shuffle_channel_layer.cpp)."""
    bottom = bottoms[0]
    if axis != 1:
        return [Link(0, 0, axis, axis)]
    if bottom is None:
        return _UNKNOWN
    group = spec_of(layer).fork.integer("shuffle_channel_param.group", 1)
    origins = np.arange(bottom[1]).reshape(group, -1).T.ravel()
    return [Link(0, 0, 1, 1, origins, np.arange(bottom[1]))]


def _reverse(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    bottom = bottoms[0]
    if bottom is None:
        return _UNKNOWN
    reversed_axis = spec_of(layer).fork.integer("reverse_param.axis", 0)
    if canonical(layer, reversed_axis, len(bottom)) != axis:
        return [Link(0, 0, axis, axis)]
    places = np.arange(bottom[axis])
    return [Link(0, 0, axis, axis, places[::-1], places)]


def _reorg(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """The place within a block is the slower part of the channel (reorg_layer.cpp)."""
    bottom, top = bottoms[0], tops[0]
    if axis != 1:
        return Reason(f"it mixes what lies along axis {axis}")
    if bottom is None or top is None:
        return _UNKNOWN
    pairs = np.arange(max(bottom[1], top[1]))
    return [Link(0, 0, 1, 1, pairs % bottom[1], pairs % top[1])]


def _broadcast(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """A Scale by its second bottom, whose axes are those of the first from the Scale's own on."""
    if len(bottoms) != 2 or bottoms[0] is None or bottoms[1] is None:
        return Reason("its factor is no other blob of a shape that is known")
    start = canonical(layer, layer.param.scale_param.axis, len(bottoms[0]))
    out = [Link(0, 0, axis, axis)]
    if 0 <= axis - start < len(bottoms[1]):
        out.append(Link(1, 0, axis - start, axis))
    return out


def _none(layer: Layer, bottoms: Shapes, tops: Shapes, axis: int) -> Links:
    """It reads shapes alone."""
    return []


def _rank(shapes: Shapes) -> Optional[int]:
    return next((len(shape) for shape in shapes if shape is not None), None)


RULES: Dict[str, Callable[[Layer, Shapes, Shapes, int], Links]] = {
    "Concat": _concat,
    "Crop": _crop,
    "Eltwise": _same,
    "Flatten": _reshaped,
    "Interp": _first,
    "PReLU": _same,
    "Padding": _first,
    "Permute": _permute,
    "Pooling": _first,
    "PriorBox": _none,
    "PriorBoxClustered": _none,
    "ReLU": _same,
    "Reorg": _reorg,
    "Reshape": _reshaped,
    "ResizeBilinear": _resized,
    "ResizeNearestNeighbor": _resized,
    "Reverse": _reverse,
    "Scale": _broadcast,
    "ShuffleChannel": _shuffle_channel,
    "Slice": _slice,
    "Tile": _tile,
    "Unpooling": _first,
    "Upsample": _first,
}


def reads_shape_only(layer: Layer, number: int) -> bool:
    """Whether ``layer`` reads of bottom ``number`` its shape and no values."""
    row = CATALOGUE.get(layer.type)
    return row is not None and number in row.shapes_of

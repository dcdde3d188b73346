"""How large a blob is along one axis, whatever the size of the net's input is."""

from typing import List, NamedTuple, Optional, Tuple

from caffe_merge.algebra.sizes import Floor, Size, then
from caffe_merge.errors import NetError
from caffe_merge.layers import windows
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import (
    CATALOGUE,
    CONVOLUTION,
    DECONVOLUTION,
    DEPTHWISE,
    POOLING,
)
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import linear_param
from caffe_merge.net.graph import Graph, Version


class Origin(NamedTuple):
    """A size is ``size`` of that of ``version`` along an axis; without a version, of any."""

    version: Optional[Version]
    size: Size


def size_of(graph: Graph, version: Version, axis: int) -> Origin:
    """The size of ``version`` along ``axis``, by that of the first blob on the way up to it.

    That is one of which no rule here knows how large it is.
    """
    steps: List[Floor] = []
    start: Optional[Version] = version
    while start is not None:
        before, step = _step(graph, start, axis)
        if step is None:
            break
        steps.append(step)
        start = before
    size = Size()
    for step in reversed(steps):
        size = then(size, step)
    return Origin(start, size)


def _step(graph: Graph, version: Version, axis: int) -> Tuple[Optional[Version], Optional[Floor]]:
    """The blob whose size tells that of ``version``, if any, and how; None if it is not known."""
    layer, rank = version.producer, version.rank
    bottoms, row = graph.bottoms[layer], CATALOGUE.get(layer.type)
    same = Floor(1, 0, 1)
    if row is None or rank is None or not bottoms or unknown_fields(layer) is not None:
        return None, None
    if layer.type == "Crop":
        start = axis_of(layer.param, rank)
        return bottoms[int(start is not None and axis >= start)], None if start is None else same
    if row.same_shape or layer.type == "Eltwise":
        return bottoms[0], same
    if row.side_by_side:
        return bottoms[0], None if axis_of(layer.param, rank) in (axis, None) else same
    linear = row.family in (CONVOLUTION, DEPTHWISE, DECONVOLUTION)
    if not linear and row.family != POOLING:
        return None, None
    if axis < 2:
        return _channels(layer, bottoms[0], axis, linear)
    if row.family == POOLING and layer.param.pooling_param.global_pooling:
        return None, Floor(0, 1, 1)
    try:
        return bottoms[0], _window(layer, axis - 2, rank - 2, row.family)
    except NetError:
        return None, None


def _channels(
    layer: Layer, bottom: Version, axis: int, linear: bool
) -> Tuple[Optional[Version], Optional[Floor]]:
    if linear and axis == 1:
        outputs = linear_param(layer.param).num_output
        return None, Floor(0, outputs, 1) if outputs else None
    return bottom, Floor(1, 0, 1)


def _window(layer: Layer, axis: int, spatial: int, family: str) -> Optional[Floor]:
    """What a window makes of a size (conv_layer.cpp, deconv_layer.cpp, pooling_layer.cpp)."""
    if family != POOLING:
        if axis_of(layer.param, spatial + 2) != 1:
            return None
        window = windows.convolution(layer, spatial)
        over = window.pad[axis] + window.pad_end[axis] - window.extent[axis]
        stride = window.stride[axis]
        if family == DECONVOLUTION:
            return Floor(stride, -over - stride, 1)
        return Floor(1, over + stride, stride)
    window = windows.pooling(layer, (1,) * spatial)
    if window.pad != window.pad_end:
        return None
    stride, pad = window.stride[axis], window.pad[axis]
    shift = 2 * pad - window.kernel[axis] + stride
    if windows.rounds_up(layer):
        shift += stride - 1
    if any(window.pad):  # then the last window starts inside
        shift = min(shift, pad + stride - 1)
    return Floor(1, shift, stride)

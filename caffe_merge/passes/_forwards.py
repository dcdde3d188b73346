"""Affine maps per channel moved forwards, through layers or into the weights of linear ones.

A layer whose bottom is ``scale x + shift`` per channel is to read x instead. A linear layer can
have the map folded into its weights (folded_forward). For others, the old top may be an affine map
of the new top: the map has gone through the layer (propagated). Else there is a Reason.
"""

from typing import Callable, Dict, List, Optional, Sequence, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.exact import product, row_products
from caffe_merge.arrays import Float64, Shape, count
from caffe_merge.layers import windows
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS, add_bias, linear_param, output_channels
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.layers.shapes.geometry import sticks_out
from caffe_merge.notes import Reason
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import BLOCK, Blob, Dense, Scaled

Shapes = Sequence[Optional[Shape]]


def why_not_folded(layer: Layer, before: Affine, bottom: Optional[Shape]) -> Optional[Reason]:
    """Why ``before`` cannot be folded into the linear ``layer`` that reads it; None if it can.

    ``before`` is the map of its bottom, vectors over the channels on axis 1; ``bottom`` its shape.
    """
    output = output_channels(layer, None if bottom is None else len(bottom))
    if isinstance(output, Reason):
        return output
    axis = linear_param(layer.param).axis
    if axis != 1 and layer.type != DEPTHWISE:
        return Reason(f"its axis is {axis}, not 1")
    if not before.shift.any() or layer.type == "InnerProduct":
        return None
    if layer.type == "Deconvolution":
        return Reason("not all of its outputs see as many inputs, so a shift is no bias of it")
    odd = unknown_fields(layer)  # for a shift the window matters
    if odd is not None:
        return odd
    window = windows.convolution(layer, len(layer.blobs[0].shape) - 2)
    if bottom is not None and sticks_out(window, bottom[2:]):
        return Reason("its kernel is larger than its input, and the shift does not reach beyond")
    if layer.type == DEPTHWISE or any(window.pads):
        return Reason("it pads with 0, which the shift does not reach: the border would differ")
    return None


def folded_forward(layer: Layer, before: Affine) -> New:
    """New parameters and blobs of the linear ``layer``, with ``before`` folded into its weights.

    Only where why_not_folded gives None.
    """
    if layer.type == "InnerProduct":
        return _product(layer, before)
    return (_convolution if layer.type in CONVOLUTIONS else _deconvolution)(layer, before)


def _convolution(layer: Layer, before: Affine) -> New:
    """W'[o, i] = W[o, i] scale[i], b' = b + sum over i, t of W[o, i, t] shift[i]."""
    weights = layer.blobs[0]
    per_group = weights.shape[1]
    group = len(before.scale) // per_group
    shift = before.shift.reshape(group, per_group)
    per_row = np.arange(weights.shape[0]) // (weights.shape[0] // group)
    tail = [1] * (len(weights.shape) - 2)
    multiplier = before.scale.reshape(group, per_group)
    factors = multiplier[per_row] if group > 1 else multiplier

    def sums(rows: slice, values: Float64) -> Float64:
        taps = count(values.shape[2:])
        return row_products(values, np.repeat(shift[per_row[rows]], taps, axis=1))

    return _with_bias(layer, Scaled(weights, factors.reshape(*factors.shape, *tail)), before, sums)


def _product(layer: Layer, before: Affine) -> New:
    """W'[o, k] = W[o, k] scale[c of k], b' = b + W shift; each channel is some columns of W."""
    param, weights = layer.param.inner_product_param, layer.blobs[0]
    width = weights.shape[0 if param.transpose else 1]
    repeat = width // len(before.scale)
    scale, shift = np.repeat(before.scale, repeat), np.repeat(before.shift, repeat)
    if param.transpose:
        new = Scaled(weights, scale[:, np.newaxis])
        return _with_bias(
            layer, new, before, lambda rows, values: product(shift[np.newaxis, rows], values)[0]
        )
    new = Scaled(weights, scale[np.newaxis, :])
    return _with_bias(
        layer, new, before, lambda rows, values: product(values, shift[:, np.newaxis])[:, 0]
    )


def _deconvolution(layer: Layer, before: Affine) -> New:
    """W'[i] = W[i] scale[i]."""
    weights = layer.blobs[0]
    multiplier = before.scale.reshape(-1, *[1] * (len(weights.shape) - 1))
    return copied(layer.param), (Scaled(weights, multiplier), *layer.blobs[1:])


def _with_bias(
    layer: Layer, new: Blob, before: Affine, sums: Callable[[slice, Float64], Float64]
) -> New:
    """The layer with weights ``new`` and, added to its bias, its old weights times the shift.

    ``sums`` computes that product for a block of rows: bounded memory, whatever the weights' size.
    """
    param, old = copied(layer.param), layer.blobs[0]
    if not before.shift.any():
        return param, (new, *layer.blobs[1:])
    step = max(BLOCK // max(count(old.shape[1:]), 1), 1)
    parts = []
    for start in range(0, old.shape[0], step):
        rows = slice(start, start + step)
        parts.append(sums(rows, np.asarray(old.rows(rows), np.float64)))
    transposed = layer.type == "InnerProduct" and param.inner_product_param.transpose
    bias = np.sum(parts, axis=0) if transposed else np.concatenate(parts)
    if len(layer.blobs) > 1:
        bias = bias + layer.blobs[1].float64()
    else:
        add_bias(param)
    return param, (new, Dense(bias, old.dtype))


# -- layers that a map goes through ----------------------------------------------------------

Maps = List[Optional[Affine]]  # of each bottom or top; None is the identity


def propagated(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    """The map of each top of ``layer`` whose bottoms have ``maps``."""
    rule = _RULES.get(layer.type)
    if rule is None:
        return Reason("it cannot take it in, nor hand it on")
    odd = unknown_fields(layer)
    return odd if odd is not None else rule(layer, maps, bottoms, tops)


def _rectifier(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    """ReLU(s x) = s ReLU(x) for s >= 0, whatever the slope below 0."""
    (affine,) = maps
    assert affine is not None
    if affine.shift.any():
        return Reason("a shift does not go through it")
    if (affine.scale < 0).any():
        return Reason("a negative multiplier does not go through it")
    return [affine]


def _pooling(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    (affine,) = maps
    assert affine is not None
    param = layer.param.pooling_param
    if len(tops) > 1 or param.pool not in (param.AVE, param.MAX):
        return Reason("only one mean or maximum hands it on")
    (bottom,) = bottoms
    if windows.overruns(layer, None if bottom is None else len(bottom) - 2):
        return Reason("its last window may hold nothing, and Caffe's value there takes no part")
    if param.pool == param.MAX and (affine.scale < 0).any():
        return Reason("a negative multiplier does not go through a maximum")
    if param.pool == param.AVE and affine.shift.any() and windows.pads(layer):
        return Reason("it counts the zeros of its padding, which the shift does not reach")
    if param.pool == param.AVE and affine.shift.any() and windows.has_ceil_mode(layer):
        return Reason("forks with ceil_mode differ in the mean of a window that sticks out")
    return [affine]


def _flatten(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    (affine,), (shape,), (flat,) = maps, bottoms, tops
    assert affine is not None
    param = layer.param.flatten_param
    if shape is None or flat is None or (param.axis, param.end_axis) != (1, -1):
        return Reason("it does not flatten each image whole")
    repeat = count(shape[2:])
    return [Affine(np.repeat(affine.scale, repeat), np.repeat(affine.shift, repeat), 1)]


def _concat(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    param = layer.param.concat_param
    if param.axis != 1 or param.concat_dim != 1:
        return Reason("it joins along another axis")
    scales, shifts = [], []
    for affine, shape in zip(maps, bottoms):
        if affine is None and shape is None:
            return Reason("its shapes are not known")
        channels = len(affine.scale) if affine is not None else shape[1]  # type: ignore[index]
        scales.append(np.ones(channels) if affine is None else affine.scale)
        shifts.append(np.zeros(channels) if affine is None else affine.shift)
    return [Affine(np.concatenate(scales), np.concatenate(shifts), 1)]


def _slice(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    (affine,) = maps
    assert affine is not None
    param = layer.param.slice_param
    if param.axis != 1 or param.slice_dim != 1 or None in tops:
        return Reason("it cuts along another axis")
    slices: Maps = []
    start = 0
    for shape in tops:
        stop = start + shape[1]  # type: ignore[index]
        slices.append(Affine(affine.scale[start:stop], affine.shift[start:stop], 1))
        start = stop
    return slices


_RULES: Dict[str, Callable[[Layer, Maps, Shapes, Shapes], Union[Maps, Reason]]] = {
    "Concat": _concat,
    "Flatten": _flatten,
    "PReLU": _rectifier,
    "Pooling": _pooling,
    "ReLU": _rectifier,
    "Slice": _slice,
}

"""Affine maps per channel folded forwards, into the weights of the linear layers that read them.

A layer whose bottom is ``scale x + shift`` per channel is to read x instead, with the map in its
weights (folded_forward); else there is a Reason (why_not_folded).
"""

from __future__ import annotations

from typing import Callable, Optional, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.exact import product, row_products
from caffe_merge.arrays import Float64, Shape, count
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import BLOCK, Blob, Dense, Scaled
from caffe_merge.layers import windows
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS, add_bias, linear_param, output_channels
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.layers.shapes.geometry import sticks_out
from caffe_merge.notes import BORDER, Reason


def along_channels(layer: Layer, before: Affine, bottom: Optional[Shape]) -> Union[Affine, Reason]:
    """``before``, the map of the bottom of ``layer``, as one along axis 1, its channels.

    An InnerProduct has a channel for each value of an image, so a map along any axis is one.
    """
    if before.axis == 1:
        return before
    if layer.type != "InnerProduct" or bottom is None or not before.axis:
        return Reason(f"the map acts along axis {before.axis}, its channels lie on axis 1")
    shape = [-1 if axis == before.axis else 1 for axis in range(1, len(bottom))]
    scale, shift = (
        np.broadcast_to(values.reshape(shape), bottom[1:]).ravel()
        for values in (before.scale, before.shift)
    )
    return Affine(scale, shift, 1)


def why_not_folded(layer: Layer, before: Affine, bottom: Optional[Shape]) -> Optional[Reason]:
    """Why ``before`` cannot be folded into the linear ``layer`` that reads it; None if it can.

    ``before`` is the map of its bottom, vectors over the channels on axis 1; ``bottom`` its shape.
    """
    rank = None if bottom is None else len(bottom)
    output = output_channels(layer, rank)
    if isinstance(output, Reason):
        return output
    if layer.type != DEPTHWISE and axis_of(layer.param, rank) != 1:
        return Reason(f"its axis is {linear_param(layer.param).axis}, not 1")
    if not before.shift.any() or layer.type == "InnerProduct":
        return None
    if layer.type == "Deconvolution":
        return Reason("not all of its outputs see as many inputs, so a shift is no bias of it")
    reason = unknown_fields(layer)  # for a shift the window matters
    if reason is not None:
        return reason
    window = windows.convolution(layer, len(layer.blobs[0].shape) - 2)
    if bottom is not None and sticks_out(window, bottom[2:]):
        return Reason("its kernel is larger than its input, and the shift does not reach beyond")
    if layer.type == DEPTHWISE or any(window.pads):
        return Reason(
            "it pads with 0, which the shift does not reach: the border would differ", BORDER
        )
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

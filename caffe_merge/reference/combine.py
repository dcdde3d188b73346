"""Layers that combine blobs element by element, or reduce many values to one."""

from __future__ import annotations

from typing import Dict, List

import numpy as np

from caffe_merge.layers.shapes.geometry import canonical
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes


def _broadcastable(layer: LayerSpec, axis: int, blob: np.ndarray, rank: int) -> np.ndarray:
    """``blob`` with trailing axes of 1, so that it broadcasts from ``axis`` of a bottom on."""
    if not blob.ndim:
        return blob
    return blob.reshape(*blob.shape, *[1] * (rank - canonical(layer, axis, rank) - blob.ndim))


def _scale(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Compute y = x factor + bias, with the second bottom as factor if any (scale_layer.cpp)."""
    param, x = layer.param.scale_param, bottoms[0]
    factor, *bias = (*bottoms[1:], *blobs)
    y = x * _broadcastable(layer, param.axis, factor, x.ndim)
    if bias:
        y += _broadcastable(layer, param.axis, bias[0], x.ndim)
    return [y]


def _bias(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Compute y = x + bias, with the second bottom as bias if any (bias_layer.cpp)."""
    bias = (*bottoms[1:], *blobs)[0]
    return [bottoms[0] + _broadcastable(layer, layer.param.bias_param.axis, bias, bottoms[0].ndim)]


def _eltwise(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The product, the maximum, or the sum with a coeff each (eltwise_layer.cpp)."""
    param = layer.param.eltwise_param
    y = bottoms[0]
    if param.operation == param.PROD:
        for x in bottoms[1:]:
            y = y * x
    elif param.operation == param.MAX:
        for x in bottoms[1:]:
            y = np.maximum(y, x)
    else:
        coeffs = list(param.coeff) or [1.0] * len(bottoms)
        y = y * coeffs[0]
        for x, coeff in zip(bottoms[1:], coeffs[1:]):
            y += x if coeff == 1 else x * coeff
    return [y]


def _reduction(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """The sum, sum of |x|, sum of x^2 or mean over all axes from ``axis`` on, times coeff.

    (reduction_layer.cpp)
    """
    param = layer.param.reduction_param
    x = bottoms[0].reshape(*tops[0], -1)
    if param.operation == param.ASUM:
        y = np.abs(x).sum(axis=-1)
    elif param.operation == param.SUMSQ:
        y = (x * x).sum(axis=-1)
    elif param.operation == param.MEAN:
        y = x.mean(axis=-1)
    else:
        y = x.sum(axis=-1)
    return [np.asarray(y * param.coeff)]


def _arg_max(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The places of the top_k largest values along an axis, or of each image (argmax_layer.cpp).

    With out_max_val: the values themselves (by axis), or places and values (by image). Of equal
    values Caffe takes the one of larger index first.
    """
    param, (x,) = layer.param.argmax_param, bottoms
    by_axis = param.HasField("axis")
    axis = canonical(layer, param.axis, x.ndim) if by_axis else 1
    if not by_axis:
        x = x.reshape(len(x), -1)
    last = x.shape[axis] - 1
    order = last - np.argsort(-np.flip(x, axis), axis=axis, kind="stable")
    order = np.take(order, range(param.top_k), axis=axis)
    if not param.out_max_val:
        return [order.astype(np.float64).reshape(tops[0])]
    values = np.take_along_axis(x, order, axis=axis)
    if by_axis:
        return [values]
    return [np.stack([order, values], axis=1).reshape(tops[0])]


FUNCTIONS: Dict[str, Function] = {
    "ArgMax": _arg_max,
    "Bias": _bias,
    "Eltwise": _eltwise,
    "Reduction": _reduction,
    "Scale": _scale,
}

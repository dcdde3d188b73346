"""Layers that only forks of Caffe have; see caffe_merge.layers.shapes.forks for their fields."""

from __future__ import annotations

from typing import Dict, List

import numpy as np

from caffe_merge.layers.shapes.forks import NORMALISED, order
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes


def _normalised(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Compute y = scale (x - mean) / sqrt(variance + eps) + bias per channel, axis 1.

    The blobs are mean, variance, scale, bias: each style of BatchNorm comes in this form (norms).
    """
    x = bottoms[0]
    shape = (-1, *[1] * (x.ndim - 2))
    mean, variance, scale, bias = (blob.reshape(shape) for blob in blobs)
    y = x - mean
    y *= scale / np.sqrt(variance + layer.param.batch_norm_param.eps)
    y += bias
    return [y]


def _axpy(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Compute factor x + y, a factor per image and channel (axpy_layer.cpp)."""
    factor, x, y = bottoms
    return [factor.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * x + y]


def _permute(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Transpose the axes (SSD, permute_layer.cpp)."""
    return [bottoms[0].transpose(order(layer, bottoms[0].ndim))]


def _shuffle(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Channel i C/g + j comes to j g + i (shuffle_channel_layer.cpp)."""
    x = bottoms[0]
    group = layer.fork.integer("shuffle_channel_param.group", 1)
    parts = x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:])
    return [parts.swapaxes(1, 2).reshape(x.shape)]


def _matmul(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The product of two matrices, each perhaps transposed (gnina, Synopsys, matmul_layer.cpp).

    With dim_1 to dim_3 a (dim_1, dim_2) times the transpose of a (dim_3, dim_2) (sophgo's fork).
    """
    fields, (first, second) = layer.fork, bottoms
    dims = [fields.integer(f"matmul_param.dim_{number}", 0) for number in (1, 2, 3)]
    if any(dims):
        return [first.reshape(dims[:2]) @ second.reshape(dims[2], dims[1]).T]
    first, second = (
        x.swapaxes(-1, -2) if fields.flag(f"matmul_param.transpose_{side}", False) else x
        for side, x in zip("ab", bottoms)
    )
    return [first @ second]


def _normalize(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """X / sqrt(sum of x^2 + eps) times a scale, by place or by image (normalize_layer.cpp)."""
    x = bottoms[0]
    fields = layer.fork
    axes = tuple(range(1, x.ndim)) if fields.flag("norm_param.across_spatial", True) else (1,)
    eps = float(np.float32(fields.number("norm_param.eps", 1e-10)))
    y = x / np.sqrt((x * x).sum(axis=axes, keepdims=True) + eps)
    y *= blobs[0].reshape(-1, *[1] * (x.ndim - 2))
    return [y]


FUNCTIONS: Dict[str, Function] = {
    "Axpy": _axpy,
    "MatMul": _matmul,
    NORMALISED: _normalised,
    "Normalize": _normalize,
    "Permute": _permute,
    "ShuffleChannel": _shuffle,
}

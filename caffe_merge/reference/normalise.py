"""BatchNorm, LRN, MVN, Softmax: values normalised by statistics of others."""

from __future__ import annotations

from typing import Dict, List

import numpy as np

from caffe_merge.layers.shapes.geometry import Window, canonical
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes, in_training
from caffe_merge.reference.pooling import average, slide


def _batch_norm(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """Compute y = (x - mean) / sqrt(variance + eps) per channel, axis 1 (batch_norm_layer.cpp).

    Mean and variance are the stored ones over their factor (a factor of 0 makes both 0), or, if
    use_global_stats is false, those of this batch.
    """
    param, (x,) = layer.param.batch_norm_param, bottoms
    use_stored = param.use_global_stats
    if not param.HasField("use_global_stats"):
        use_stored = not in_training(layer)
    if use_stored:
        factor = blobs[2][0]
        scale = 1 / factor if factor else 0.0
        mean, variance = blobs[0] * scale, blobs[1] * scale
    else:
        axes = (0, *range(2, x.ndim))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
    shape = (-1, *[1] * (x.ndim - 2))
    y = x - mean.reshape(shape)
    y *= 1 / np.sqrt(variance + param.eps).reshape(shape)
    return [y]


def _lrn(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Local response normalisation (lrn_layer.cpp).

    Across channels: y = x (k + alpha / size sum x^2)^-beta over ``size`` channels. Within one:
    y = x (1 + alpha mean x^2)^-beta over size x size pixels, padding included; k is not used.
    """
    param, (x,) = layer.param.lrn_param, bottoms
    size = param.local_size
    pad = (size - 1) // 2
    if param.norm_region == param.ACROSS_CHANNELS:
        total = slide(np.add, 0.0, x * x, 1, (size, 1, pad), x.shape[1])
        scale = param.k + param.alpha / size * total
    else:
        window = Window((size, size), (1, 1), (pad, pad), (pad, pad), (1, 1))
        scale = 1 + param.alpha * average(x * x, window, x.shape[2:])
    return [x * scale**-param.beta]


def _mvn(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Compute y = (x - mean) / (sqrt(variance) + eps) per image and channel (mvn_layer.cpp).

    With across_channels per image only; without normalize_variance there is no division.
    """
    param = layer.param.mvn_param
    x = bottoms[0].reshape(tops[0])
    axes = (1, 2, 3) if param.across_channels else (2, 3)
    y = x - x.mean(axis=axes, keepdims=True)
    if param.normalize_variance:
        y /= np.sqrt((y * y).mean(axis=axes, keepdims=True)) + param.eps
    return [y]


def _softmax(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """Compute e^x / sum of e^x along an axis, less the maximum for range (softmax_layer.cpp)."""
    axis = canonical(layer, layer.param.softmax_param.axis, bottoms[0].ndim)
    y = np.exp(bottoms[0] - bottoms[0].max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return [y]


FUNCTIONS: Dict[str, Function] = {
    "BatchNorm": _batch_norm,
    "LRN": _lrn,
    "MVN": _mvn,
    "Softmax": _softmax,
}

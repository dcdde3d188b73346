"""How much work a layer's forward pass is."""

from __future__ import annotations

from typing import Optional, Sequence

from caffe_merge.arrays import Shape, count
from caffe_merge.layers.catalogue import WINDOWED
from caffe_merge.layers.shapes.forks import DEPTHWISE, NORMS
from caffe_merge.layers.shapes.geometry import (
    canonical,
    convolution_channels,
    convolution_window,
)
from caffe_merge.layers.shapes.rules import rule_of
from caffe_merge.layers.spec import LayerSpec


def multiply_adds(
    layer: LayerSpec, bottoms: Sequence[Shape], tops: Sequence[Shape]
) -> Optional[int]:
    """Multiply-adds of one forward pass; None for an unknown type.

    Convolution, Deconvolution and InnerProduct count their products (the bias is free), BatchNorm
    and Scale and a fork's one per value, every other layer nothing.
    """
    if rule_of(layer.type) is None:
        return None
    if layer.type in ("BatchNorm", "Scale", *NORMS):
        return count(tops[0])
    if layer.type == "InnerProduct":
        axis = canonical(layer, layer.param.inner_product_param.axis, len(bottoms[0]))
        return count(tops[0]) * count(bottoms[0][axis:])
    if layer.type == DEPTHWISE:
        return count(tops[0]) * count(convolution_window(layer, 2).kernel)
    if layer.type not in WINDOWED:
        return 0
    return _window_products(layer, bottoms, tops)


def _window_products(layer: LayerSpec, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A Convolution's outputs, or a Deconvolution's inputs, each meet one kernel per channel."""
    axis = canonical(layer, layer.param.convolution_param.axis, len(bottoms[0]))
    outputs, group = convolution_channels(layer, bottoms[0][axis])
    kernel = count(convolution_window(layer, len(bottoms[0]) - axis - 1).kernel)
    if layer.type != "Deconvolution":
        return sum(map(count, tops)) * (bottoms[0][axis] // group) * kernel
    return sum(map(count, bottoms)) * (outputs // group) * kernel

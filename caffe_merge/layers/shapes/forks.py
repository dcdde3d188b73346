"""Layers that only forks of Caffe have: the top shapes and blobs of those that are certain.

The fields that BVLC's schema does not know are in ``layer.fork``; which of them are read, says
caffe_merge.layers.fork_fields.
"""

from __future__ import annotations

from math import prod
from typing import Callable, Dict, List, Optional

from caffe_merge.arrays import BlobShape, Shape
from caffe_merge.layers.catalogue import CATALOGUE, NORM, of_family
from caffe_merge.layers.shapes.geometry import (
    Rule,
    Window,
    convolution_window,
    convolved,
    four_axes,
    misfit,
)
from caffe_merge.layers.spec import LayerSpec

DEPTHWISE = "ConvolutionDepthwise"
SPATIAL_DROPOUT = ("spatial_dropout", "SpatialDropoutLayer")  # ENet's, by module and layer

# One bottom and one top of its shape; which blobs it has, its style says (layers.norms).
NORMS = tuple(name for name in of_family(NORM) if CATALOGUE[name].fork)


# What each of them is put as for the reference layers: mean, variance, scale and bias per channel.
NORMALISED = "caffe_merge.Normalised"


def _same(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    return [bottoms[0]] if len(layer.param.top) == 1 and len(bottoms) == 1 else None


def _axpy(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    """A factor per image and channel, (N, C) or (N, C, 1, 1), and two of one shape."""
    factor, x, y = bottoms
    if x != y or factor[:2] != x[:2] or any(dim != 1 for dim in factor[2:]):
        raise misfit(layer, f"a factor of shape {x[:2]} and a summand of shape {x}", (factor, y))
    return [x]


def _shuffle_channel(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    group = layer.fork.integer("shuffle_channel_param.group", 1)
    if len(bottoms[0]) < 2 or group < 1 or bottoms[0][1] % group:
        raise misfit(layer, f"channels to be a multiple of group {group}", f"shape {bottoms[0]}")
    return [bottoms[0]]


def order(layer: LayerSpec, rank: int) -> Shape:
    """The whole order of a Permute: axes that are not named follow in their own order."""
    named = layer.fork.integers("permute_param.order")
    if len(set(named)) < len(named) or not all(0 <= axis < rank for axis in named):
        raise misfit(layer, f"each of {rank} axes at most once", f"order {named}")
    return (*named, *(axis for axis in range(rank) if axis not in named))


def _permute(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    return [tuple(bottoms[0][axis] for axis in order(layer, len(bottoms[0])))]


def _matmul(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """Two matrices, or as many of both; of sizes that the text says in sophgo's fork."""
    if len(bottoms) != 2:
        return None  # one fork has the other matrix among its blobs
    fields, (first, second) = layer.fork, bottoms
    dims = [fields.integer(f"matmul_param.dim_{number}", 0) for number in (1, 2, 3)]
    turned = [fields.flag(f"matmul_param.transpose_{side}", False) for side in "ab"]
    if any(dims):
        rows, inner, columns = dims
        fits = prod(first) == rows * inner and prod(second) == columns * inner
        return [(rows, columns)] if fits and not any(turned) else None
    if len(first) != len(second) or len(first) not in (2, 3) or first[:-2] != second[:-2]:
        return None
    rows, inner = first[-2:][:: -1 if turned[0] else 1]
    other, columns = second[-2:][:: -1 if turned[1] else 1]
    return [(*first[:-2], rows, columns)] if other == inner else None


def _normalize(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    return [bottoms[0]] if 2 <= len(bottoms[0]) <= 4 else None


def depthwise_window(layer: LayerSpec) -> Optional[Window]:
    """The window of a ConvolutionDepthwise; None if it is given in a way in which forks differ.

    Of a pair such as stride_h and stride_w both must be there to count (conv_dw_layer.cpp).
    """
    param = layer.param.convolution_param
    for name in ("kernel", "stride", "pad"):
        if param.HasField(name + "_h") != param.HasField(name + "_w"):
            return None
    return convolution_window(layer, 2)


def _depthwise(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """As many channels as the bottom; num_output and group are not read (conv_dw_layer.cpp)."""
    bottom = four_axes(layer, bottoms[0])
    window = depthwise_window(layer)
    if window is None:
        return None
    return [(*bottom[:2], *convolved(window, bottom[2:]))]


def _is_spatial_dropout(layer: LayerSpec) -> bool:
    return (layer.param.python_param.module, layer.param.python_param.layer) == SPATIAL_DROPOUT


def _python(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    return _same(layer, bottoms) if _is_spatial_dropout(layer) else None


def _roi_pooling(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """A small image for each region; the second bottom has one a row (roi_pooling_layer.cpp)."""
    fields = layer.fork
    size = tuple(fields.integer(f"roi_pooling_param.pooled_{side}", 0) for side in "hw")
    if len(bottoms) != 2 or 0 in size:
        return None
    return [(bottoms[1][0], four_axes(layer, bottoms[0])[1], *size)]


RULES: Dict[str, Rule] = {
    "Axpy": Rule(_axpy, bottoms=(3, 3)),
    DEPTHWISE: Rule(_depthwise),
    "HSwish": Rule(_same),
    "HardSigmoid": Rule(_same),
    "HardSwish": Rule(_same),
    "MatMul": Rule(_matmul, bottoms=(1, 2)),
    "Mish": Rule(_same),
    "Normalize": Rule(_normalize),
    "Permute": Rule(_permute),
    "Python": Rule(_python, bottoms=(0, None), tops=(0, None)),
    "ROIPooling": Rule(_roi_pooling, bottoms=(1, None)),
    "ReLU6": Rule(_same),
    "SeLU": Rule(_same),
    "ShuffleChannel": Rule(_shuffle_channel),
    "Softplus": Rule(_same),
    "SpatialDropout": Rule(_same),
    NORMALISED: Rule(_same),
    **{kind: Rule(_same, tops=(1, 3)) for kind in NORMS},
}


def _depthwise_blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    window = depthwise_window(layer)
    if window is None:
        return None
    channels = None if bottom is None else four_axes(layer, bottom)[1]
    weights: BlobShape = (channels, 1, *window.kernel)
    return [weights, (channels,)] if layer.param.convolution_param.bias_term else [weights]


def _normalize_blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    if layer.fork.flag("norm_param.channel_shared", True):
        return [()]
    return [(None if bottom is None else bottom[1],)]


def _matmul_blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    return [] if len(layer.param.bottom) == 2 else None


def _python_blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    return [] if _is_spatial_dropout(layer) else None


def _normalised_blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    return [(None if bottom is None else bottom[1],)] * 4


_LEARNERS: Dict[str, Callable[[LayerSpec, Optional[Shape]], Optional[List[BlobShape]]]] = {
    DEPTHWISE: _depthwise_blobs,
    NORMALISED: _normalised_blobs,
    "MatMul": _matmul_blobs,
    "Normalize": _normalize_blobs,
    "Python": _python_blobs,
}


def blobs(layer: LayerSpec, bottom: Optional[Shape]) -> Optional[List[BlobShape]]:
    """The blobs of a fork's layer; None where their number is not certain."""
    if layer.type in NORMS:
        return None
    learned = _LEARNERS.get(layer.type)
    return [] if learned is None else learned(layer, bottom)

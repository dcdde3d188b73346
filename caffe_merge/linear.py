"""Convolution, Deconvolution and InnerProduct: their output channels, and an affine folded in."""

from typing import Any, NamedTuple, Optional, Tuple, Union

from caffe_merge.affine import Refusal, unknown_fields
from caffe_merge.errors import WeightsError
from caffe_merge.fold import (
    Affine,
    convolution_multiplier,
    deconvolution_multiplier,
    folded_bias,
    inner_product_multiplier,
)
from caffe_merge.layer import Layer
from caffe_merge.weights.blobs import Blob, Dense, Scaled

LINEAR_TYPES = ("Convolution", "Deconvolution", "InnerProduct")


class Output(NamedTuple):
    """Where a linear layer's output channels lie: how many, on which axis, of how many axes."""

    channels: int
    axis: int
    rank: Optional[int]


def own_param(layer: Layer) -> Any:
    """The sub-message with the layer's num_output and bias_term."""
    if layer.type == "InnerProduct":
        return layer.param.inner_product_param
    return layer.param.convolution_param


def output(layer: Layer, rank: Optional[int]) -> Union[Output, Refusal]:
    """The output channels of a linear layer, or why nothing can be folded into it.

    ``rank`` is the number of axes of its top, None if unknown.
    """
    if layer.type not in LINEAR_TYPES:
        return Refusal(f"layer {layer.name!r} is a {layer.type}")
    odd = unknown_fields(layer)
    if odd is not None:
        return odd
    if layer.missing:
        return Refusal("the file has no weights for it, and its fillers are random")
    if not layer.blobs:
        return Refusal("the file has no weights for it")
    if len(layer.param.top) != 1 or len(layer.param.bottom) != 1:
        return Refusal(f"it has {len(layer.param.top)} tops, which share its weights")
    param = own_param(layer)
    _check_shapes(layer, param.num_output)
    if param.axis < 0 and rank is None:
        return Refusal(f"its axis is {param.axis} and the rank of its bottom is not known")
    if layer.type == "InnerProduct":
        # The output axis is the last one, wherever a negative axis counts from.
        rank = param.axis + 1 if param.axis >= 0 else rank
        return Output(param.num_output, (rank or 0) - 1, rank)
    if param.axis >= 0:
        # Weights have an axis for each spatial axis, and two more.
        rank = len(layer.blobs[0].shape) - 1 + param.axis
        return Output(param.num_output, param.axis, rank)
    return Output(param.num_output, param.axis + (rank or 0), rank)


def _check_shapes(layer: Layer, channels: int) -> None:
    """Raise WeightsError unless weights and bias have ``channels`` outputs."""
    shape = layer.blobs[0].shape
    if layer.type == "Convolution":
        found = shape[0] if len(shape) >= 2 else -1
    elif layer.type == "Deconvolution":
        group = layer.param.convolution_param.group
        found = shape[1] * group if len(shape) >= 2 and group and shape[0] % group == 0 else -1
    else:
        found = shape[int(layer.param.inner_product_param.transpose)] if len(shape) == 2 else -1
    if found != channels:
        message = f"expected weights for num_output {channels}, found shape {shape}"
        raise WeightsError(message, layer=layer.name, blob=0)
    if len(layer.blobs) > 1 and layer.blobs[1].shape != (channels,):
        message = f"expected shape ({channels},), found {layer.blobs[1].shape}"
        raise WeightsError(message, layer=layer.name, blob=1)


def folded(layer: Layer, affine: Affine) -> Tuple[Any, Tuple[Blob, ...]]:
    """New parameters and blobs of a linear ``layer`` that does ``affine`` (a vector) as well."""
    weights = layer.blobs[0]
    param = type(layer.param)()
    param.CopyFrom(layer.param)
    if layer.type == "Convolution":
        multiplier = convolution_multiplier(affine.scale, len(weights.shape))
    elif layer.type == "Deconvolution":
        group = param.convolution_param.group
        multiplier = deconvolution_multiplier(affine.scale, weights.shape, group)
    else:
        multiplier = inner_product_multiplier(affine.scale, param.inner_product_param.transpose)
    old = layer.blobs[1].float64() if len(layer.blobs) > 1 else None
    bias = Dense(folded_bias(old, affine), weights.dtype)
    if old is None:
        _add_bias(param, layer.type)
    return param, (Scaled(weights, multiplier), bias)


def _add_bias(param: Any, kind: str) -> None:
    """Set bias_term, and a param spec for the bias where the weights have one.

    Its learning rate is twice the weights', without decay, as Caffe's own models have it; a frozen
    layer stays frozen. The bias_filler is the default, constant 0.
    """
    own = param.inner_product_param if kind == "InnerProduct" else param.convolution_param
    own.bias_term = True
    if len(param.param) == 1:
        rate = param.param[0].lr_mult
        param.param.add(lr_mult=2 * rate, decay_mult=0)

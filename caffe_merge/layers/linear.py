"""Convolution, Deconvolution, InnerProduct: their output channels, and an affine folded in."""

from typing import Any, NamedTuple, Optional, Tuple, Union

from caffe_merge.algebra.affine import (
    Affine,
    convolution_multiplier,
    deconvolution_multiplier,
    folded_bias,
    inner_product_multiplier,
)
from caffe_merge.arrays import Float64
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Blob, Dense, Scaled
from caffe_merge.layers import catalogue
from caffe_merge.layers.catalogue import of_family
from caffe_merge.layers.fork_fields import WINDOW, unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.forks import DEPTHWISE, depthwise_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.notes import SHAPE, UNKNOWN, Reason
from caffe_merge.wording import counted

CONVOLUTIONS = of_family(catalogue.CONVOLUTION, catalogue.DEPTHWISE)
LINEAR_TYPES = (*CONVOLUTIONS, *of_family(catalogue.DECONVOLUTION, catalogue.PRODUCT))


class Output(NamedTuple):
    """A linear layer's output channels: how many, on which axis of its top."""

    channels: int
    axis: int


def linear_param(param: Any) -> Any:
    """The sub-message with num_output and bias_term of a linear layer's LayerParameter."""
    return param.inner_product_param if param.type == "InnerProduct" else param.convolution_param


def output_channels(layer: Layer, rank: Optional[int]) -> Union[Output, Reason]:
    """The output channels of a layer of LINEAR_TYPES, or why nothing can be folded into it.

    Where its windows lie is of no matter to them: it may be a fork's, and not known.
    ``rank`` is the number of axes of its top, None if unknown.
    """
    reason = unknown_fields(layer, WINDOW)
    if reason is not None:
        return reason
    if layer.missing:
        return Reason("the file has no weights for it, and its fillers are random", UNKNOWN)
    misfit = odd_blobs(layer)
    if misfit is not None:
        return misfit
    if len(layer.param.top) != 1 or len(layer.param.bottom) != 1:
        return Reason(f"it has {counted(len(layer.param.top), 'top')}, which share its weights")
    if layer.type == DEPTHWISE:
        return Output(layer.blobs[0].shape[0], 1)
    param = linear_param(layer.param)
    if param.axis >= 0:
        return Output(param.num_output, param.axis)
    if rank is None:
        return Reason(f"its axis is {param.axis} and the rank of its bottom is not known", SHAPE)
    # InnerProduct's outputs take the place of all axes from its own on, so theirs is the last.
    return Output(param.num_output, rank + (-1 if layer.type == "InnerProduct" else param.axis))


def odd_blobs(layer: Layer) -> Optional[Reason]:
    """Why the blobs of a layer of LINEAR_TYPES are not BVLC's.

    A layer with fields of a fork that may matter is loaded with whatever blobs it has.
    """
    if not layer.blobs:
        return Reason("the file has no weights for it", UNKNOWN)
    if layer.type == DEPTHWISE:
        return _odd_depthwise(layer)
    param = linear_param(layer.param)
    channels = param.num_output
    shape = layer.blobs[0].shape
    outputs = 0
    if layer.type == "InnerProduct" and len(shape) == 2:
        outputs = shape[1 if param.transpose else 0]
    elif layer.type in CONVOLUTIONS and len(shape) >= 2:
        outputs = shape[0]
    elif layer.type == "Deconvolution" and len(shape) >= 2 and shape[0] % max(param.group, 1) == 0:
        outputs = shape[1] * param.group
    if outputs != channels:
        return Reason(f"its weights of shape {shape} do not make {counted(channels, 'channel')}")
    biases = [blob.shape for blob in layer.blobs[1:]]
    if biases != [(channels,)] * param.bias_term:
        return Reason(f"it has other blobs than its bias_term says, of shapes {biases}")
    return None


def _odd_depthwise(layer: Layer) -> Optional[Reason]:
    """As odd_blobs, of a ConvolutionDepthwise: its weights say how many, it reads no num_output."""
    if depthwise_window(LayerSpec(layer.param)) is None:
        return Reason("of a pair such as stride_h and stride_w it has one only")
    shape = layer.blobs[0].shape
    if len(shape) != 4 or shape[1] != 1:
        return Reason(f"its weights of shape {shape} are not (C, 1, height, width)")
    biases = [blob.shape for blob in layer.blobs[1:]]
    if biases != [shape[:1]] * layer.param.convolution_param.bias_term:
        return Reason(f"it has other blobs than its bias_term says, of shapes {biases}")
    return None


def output_multiplier(layer: Layer, vector: Float64) -> Float64:
    """``vector`` (C), a value for each output channel, shaped to multiply the layer's weights."""
    shape = layer.blobs[0].shape
    if layer.type in CONVOLUTIONS:
        return convolution_multiplier(vector, len(shape))
    if layer.type == "Deconvolution":
        return deconvolution_multiplier(vector, shape, layer.param.convolution_param.group)
    return inner_product_multiplier(vector, layer.param.inner_product_param.transpose)


def folded(layer: Layer, affine: Affine) -> Tuple[Any, Tuple[Blob, ...]]:
    """New parameters and blobs of a linear ``layer`` that does ``affine`` (a vector) as well."""
    weights = layer.blobs[0]
    param = copied(layer.param)
    multiplier = output_multiplier(layer, affine.scale)
    old = layer.blobs[1].float64() if len(layer.blobs) > 1 else None
    if old is None and not affine.shift.any():
        return param, (Scaled(weights, multiplier),)
    bias = Dense(folded_bias(old, affine), weights.dtype)
    if old is None:
        add_bias(param)
    return param, (Scaled(weights, multiplier), bias)


def add_bias(param: Any) -> None:
    """Set bias_term, and a param spec for the bias where the weights have one.

    Its learning rate is twice the weights', without decay, as Caffe's own models have it; a frozen
    layer stays frozen. The bias_filler is the default, constant 0.
    """
    linear_param(param).bias_term = True
    if len(param.param) == 1:
        rate = param.param[0].lr_mult
        param.param.add(lr_mult=2 * rate, decay_mult=0)

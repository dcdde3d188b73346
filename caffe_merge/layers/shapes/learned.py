"""The blobs each layer type learns: their number, order and shapes."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple

from caffe_merge.arrays import BlobShape, Shape, count
from caffe_merge.layers.catalogue import DEPTHWISE, of_family
from caffe_merge.layers.shapes import forks
from caffe_merge.layers.shapes.geometry import (
    MAX_AXES,
    canonical,
    checked,
    convolution_channels,
    convolution_window,
    covered,
    error,
)
from caffe_merge.layers.shapes.rules import rule_of
from caffe_merge.layers.spec import LayerSpec

_DEPTHWISE = of_family(DEPTHWISE)

Function = Callable[[LayerSpec, List[Optional[Shape]]], List[BlobShape]]


def blobs(
    layer: LayerSpec, bottoms: Optional[Sequence[Optional[Shape]]]
) -> Optional[List[BlobShape]]:
    """The blob shapes Caffe wants for ``layer``: [] if it learns nothing, None if it is unknown.

    A bottom shape that is not known (``bottoms`` or one of them is None) leaves None in the
    dimensions that depend on it, or for the whole blob when not even their number is certain.
    """
    if rule_of(layer.type) is None:
        return None
    bottom_shapes: List[Optional[Shape]] = [None] * len(layer.param.bottom)
    if bottoms is not None:
        bottom_shapes = list(bottoms)
    if layer.type in forks.RULES:
        shapes = forks.blobs(layer, (bottom_shapes or [None])[0])
    else:
        function = LEARNERS.get(layer.type)
        shapes = [] if function is None else function(layer, bottom_shapes or [None])
    if shapes is None:
        return None
    for shape in shapes:
        if shape is not None:
            checked(layer, tuple(1 if size is None else size for size in shape))
    return shapes


def _biased(term: bool, weights: BlobShape, bias: BlobShape) -> List[BlobShape]:
    return [weights, bias] if term else [weights]


def _convolution(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """(num_output, C / group, kernel), (num_output) (base_conv_layer.cpp)."""
    channels, kernel = _channels_and_kernel(layer, bottoms[0])
    outputs, group = convolution_channels(layer, channels)
    weights = None
    if kernel is not None:
        if layer.type in _DEPTHWISE and group == 1:
            channels = None  # such a type may do without group: its weights tell it
        weights = (outputs, None if channels is None else channels // group, *kernel)
    return _biased(layer.param.convolution_param.bias_term, weights, (outputs,))


def _deconvolution(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """(C, num_output / group, kernel), (num_output): the reverse of a Convolution."""
    channels, kernel = _channels_and_kernel(layer, bottoms[0])
    outputs, group = convolution_channels(layer, channels)
    weights = None if kernel is None else (channels, outputs // group, *kernel)
    return _biased(layer.param.convolution_param.bias_term, weights, (outputs,))


def _channels_and_kernel(
    layer: LayerSpec, bottom: Optional[Shape]
) -> Tuple[Optional[int], Optional[Shape]]:
    """What is known of (channels, kernel); one kernel_size alone does not tell how many axes."""
    param = layer.param.convolution_param
    if bottom is not None:
        axis = canonical(layer, param.axis, len(bottom))
        return bottom[axis], convolution_window(layer, len(bottom) - axis - 1).kernel
    if param.HasField("kernel_h") or param.HasField("kernel_w"):
        return None, convolution_window(layer, 2).kernel
    if len(param.kernel_size) > 1:
        return None, convolution_window(layer, len(param.kernel_size)).kernel
    return None, None


def _inner_product(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """(num_output, K), or (K, num_output) if transpose; (num_output)."""
    param, bottom = layer.param.inner_product_param, bottoms[0]
    if not param.num_output:
        raise error(layer, "num_output larger than 0", 0)
    inputs = None
    if bottom is not None:
        inputs = count(bottom[canonical(layer, param.axis, len(bottom)) :])
    weights = (inputs, param.num_output) if param.transpose else (param.num_output, inputs)
    return _biased(param.bias_term, weights, (param.num_output,))


def _embed(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """(input_dim, num_output), (num_output)."""
    param = layer.param.embed_param
    return _biased(param.bias_term, (param.input_dim, param.num_output), (param.num_output,))


def _batch_norm(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """Mean (C), variance (C), their common factor (1) (batch_norm_layer.cpp)."""
    bottom = bottoms[0]
    channels = None
    if bottom is not None:
        channels = bottom[canonical(layer, 1, len(bottom))]
    return [(channels,), (channels,), (1,)]


def _scale(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """Factor and bias of one shape; with two bottoms the second is the factor (scale_layer.cpp)."""
    param = layer.param.scale_param
    if len(bottoms) == 1:
        shape = _covered(layer, param.axis, param.num_axes, bottoms[0])
        return _biased(param.bias_term, shape, shape)
    if not param.bias_term:
        return []
    factor = bottoms[1]
    return [None if factor is None else _covered(layer, param.axis, len(factor), bottoms[0])]


def _bias(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """One blob, or none when the second bottom is the bias (bias_layer.cpp)."""
    if len(bottoms) > 1:
        return []
    return [
        _covered(layer, layer.param.bias_param.axis, layer.param.bias_param.num_axes, bottoms[0])
    ]


def _covered(layer: LayerSpec, axis: int, num_axes: int, bottom: Optional[Shape]) -> BlobShape:
    if bottom is not None:
        return covered(layer, axis, num_axes, bottom)
    if num_axes > MAX_AXES:
        raise error(layer, f"num_axes of at most {MAX_AXES}", num_axes)
    return None if num_axes < 0 else (None,) * num_axes


def _prelu(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """One slope per channel, or a scalar if channel_shared."""
    if layer.param.prelu_param.channel_shared:
        return [()]
    bottom = bottoms[0]
    return [(None if bottom is None else bottom[canonical(layer, 1, len(bottom))],)]


def _parameter(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    return [tuple(layer.param.parameter_param.shape.dim)]


def _recurrent(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    from caffe_merge.layers.shapes import recurrent  # few nets have one

    return recurrent.blobs(layer, bottoms)


LEARNERS: Dict[str, Function] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "DepthwiseConv": _convolution,
    "DepthwiseConvolution": _convolution,
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "LSTM": _recurrent,
    "PReLU": _prelu,
    "Parameter": _parameter,
    "RNN": _recurrent,
    "Scale": _scale,
}

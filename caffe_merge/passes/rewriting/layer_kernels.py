"""Layers as kernels and other linear maps, and linear maps as layers."""

from __future__ import annotations

from math import prod
from typing import Any, Optional, Sequence, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import DEEP, MAX_STRIDE, Axis, Kernel, diagonal, mean, widened
from caffe_merge.algebra.maps import LinearMap, Transposed
from caffe_merge.arrays import Shape
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import ALL, FLOAT, Blob, Computed, Dense, Rows
from caffe_merge.layers import windows
from caffe_merge.layers.layer import Layer, New, remembered
from caffe_merge.layers.linear import CONVOLUTIONS, add_bias, output_channels
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.shapes.geometry import Window, sticks_out
from caffe_merge.layers.standard import standard
from caffe_merge.net.graph import Graph
from caffe_merge.notes import SHAPE, Reason

MaybeKernel = Union[Kernel, Reason, None]


def map_of(graph: Graph, layer: Layer) -> Union[LinearMap, Reason, None]:
    """The linear map that ``layer`` computes: as kernel_of, and a Deconvolution's as well."""
    if layer.type != "Deconvolution":
        return kernel_of(graph, layer)
    if len(graph.bottoms[layer]) != 1 or len(graph.tops[layer]) != 1:
        return None
    kernel = _of_convolution(graph, layer)
    if isinstance(kernel, Kernel):
        return Transposed(kernel._replace(bias=None), kernel.bias)
    return kernel


def kernel_of(graph: Graph, layer: Layer) -> MaybeKernel:
    """The kernel that ``layer`` computes, channels on axis 1; None if it is of another type."""
    if len(graph.bottoms[layer]) != 1 or len(graph.tops[layer]) != 1:
        return None
    if layer.type in CONVOLUTIONS:
        return _of_convolution(graph, layer)
    if layer.type == "Pooling":
        return _mean(graph, layer)
    bottom = graph.bottoms[layer][0]
    affine = affine_of(layer, bottom.rank)
    if not isinstance(affine, Affine):
        return affine
    if bottom.shape is None or len(bottom.shape) < 2:
        return Reason("the shape of its bottom is not known", SHAPE)
    if affine.axis not in (None, 1):
        return Reason(f"it acts along axis {affine.axis}")
    per_channel = affine.over(bottom.shape[1], 1)
    return diagonal(per_channel.scale, per_channel.shift, len(bottom.shape) - 2)


def convolution_of(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The same of a layer that has one or is to have one; else why it has none."""
    return kernel_of(graph, layer) or Reason("it has not one bottom and one top")


def _of_convolution(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The kernel of a convolution, or the one that a Deconvolution is the transpose of."""
    return _convolution(layer, graph.tops[layer][0].rank, graph.bottoms[layer][0].shape)


@remembered
def _convolution(
    layer: Layer, rank: Optional[int], shape: Optional[Shape]
) -> Union[Kernel, Reason]:
    """The same for a top of that ``rank``, and a bottom of that ``shape``."""
    output = output_channels(layer, rank)
    if isinstance(output, Reason):
        return output
    standard_form = standard(layer)
    if isinstance(standard_form, Reason):
        return standard_form
    spec, (weights, *biases) = standard_form
    if output.axis != 1:
        return Reason(f"its channels lie on axis {output.axis}")
    group = spec.param.convolution_param.group
    window = windows.convolution(layer, len(weights.shape) - 2)
    if not windows.is_in_bvlc_fields(layer, len(weights.shape) - 2):
        return Reason("its window is given in a fork's fields, and stays as it is written")
    if 0 in window.dilation:
        return Reason("its dilation is 0")
    if max(window.stride, default=1) > MAX_STRIDE:
        return Reason(f"a stride of {max(window.stride)} is more than is looked into")
    if layer.type in CONVOLUTIONS and shape is not None and sticks_out(window, shape[2:]):
        return Reason("its kernel is larger than its input")
    kernel = Kernel(
        outputs=weights.shape[0],
        inputs=weights.shape[1] * group,
        group=group,
        axes=axes_of(window),
        weights=_reader(weights),
        depth=weights.depth,
    )
    return kernel._replace(bias=biases[0].float64) if biases else kernel


def _reader(blob: Blob) -> Any:
    def rows(selection: Rows) -> Any:
        return blob.rows(selection).astype("f8", copy=False)

    return rows


def axes_of(window: Window, ceil: bool = False) -> Tuple[Axis, ...]:
    """The axes of a kernel with this window; ``ceil`` as for a Pooling that rounds up."""
    return tuple(
        Axis(-pad, size, step, stride, ceil)
        for size, stride, pad, _, step in zip(*window)  # pads that differ are refused before
    )


def window_of(axes: Sequence[Axis]) -> Window:
    """The window of a convolution along ``axes``."""
    pad = tuple(-axis.start for axis in axes)
    return Window(
        kernel=tuple(axis.size for axis in axes),
        stride=tuple(axis.stride for axis in axes),
        pad=pad,
        pad_end=pad,
        dilation=tuple(axis.step for axis in axes),
    )


def _mean(graph: Graph, layer: Layer) -> MaybeKernel:
    """Average pooling: a kernel where its windows lie inside the padded input."""
    param = layer.param.pooling_param
    if param.pool != param.AVE:
        return None
    standard_form = standard(layer)
    if isinstance(standard_form, Reason):
        return standard_form
    shape = graph.bottoms[layer][0].shape
    if shape is None:
        return Reason("the shape of its bottom is not known", SHAPE)
    if param.global_pooling:
        return Reason("it is global")
    window = windows.pooling(layer, shape[2:])
    if window.pad != window.pad_end:
        return Reason("it pads otherwise at the end than at the beginning")
    return mean(shape[1], axes_of(window, windows.rounds_up(layer)))


def inner_product_kernel(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The kernel without spatial axes that an InnerProduct computes."""
    output = output_channels(layer, graph.tops[layer][0].rank)
    if isinstance(output, Reason):
        return output
    weights, *biases = layer.blobs
    transpose = layer.param.inner_product_param.transpose

    def rows(selection: Rows) -> Any:
        return weights.float64().T[selection] if transpose else read(selection)

    read = _reader(weights)
    outputs, inputs = weights.shape[::-1] if transpose else weights.shape
    kernel = Kernel(outputs, inputs, 1, (), rows, depth=weights.depth)
    return kernel._replace(bias=biases[0].float64) if biases else kernel


def full_input_kernel(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The kernel without spatial axes of a convolution whose one window is its whole input."""
    kernel = convolution_of(graph, layer)
    bottom, top = graph.bottoms[layer][0].shape, graph.tops[layer][0].shape
    if isinstance(kernel, Reason):
        return kernel
    if bottom is None or top is None:
        return Reason("the shape of its bottom is not known", SHAPE)
    for axis, size in zip(kernel.axes, bottom[2:]):
        if axis.start or axis.last != size - 1 or axis.step > 1 or axis.stride > 1:
            return Reason("the kernel of the first is not just as large as its input")
    inputs = prod(bottom[1:])

    def rows(selection: Rows) -> Any:
        dense = widened(kernel, 1, selection)
        return dense.reshape(len(dense), inputs)

    return Kernel(kernel.outputs, inputs, 1, (), rows, kernel.bias, kernel.depth)


def _blob(kernel: Kernel, shape: Tuple[int, ...], dtype: Any) -> Blob:
    """The weights of ``kernel``; computed at once where many kernels are nested in it."""
    if kernel.depth > DEEP:
        return Dense(kernel.weights(ALL), dtype)
    return Computed(shape, kernel.weights, dtype, kernel.depth)


def as_inner_product(layer: Layer, kernel: Kernel) -> New:
    """New parameters and blobs for the InnerProduct ``layer`` so that it computes ``kernel``."""
    param = copied(layer.param)
    inner_product_param = param.inner_product_param
    inner_product_param.num_output = kernel.outputs
    dtype = layer.blobs[0].dtype
    if inner_product_param.transpose:
        transposed = kernel._replace(weights=lambda rows: kernel.weights(ALL).T[rows])
        blob = _blob(transposed, kernel.shape[::-1], dtype)
    else:
        blob = _blob(kernel, kernel.shape, dtype)
    if kernel.bias is None:
        return param, (blob,)
    if not inner_product_param.bias_term:
        add_bias(param)
    return param, (blob, Dense(kernel.bias(), dtype))


def as_layer(layer: Layer, linear: LinearMap) -> New:
    """New parameters and blobs for a layer so that it computes ``linear``.

    ``layer`` is a Deconvolution where the map is a transpose, else an InnerProduct or convolution.
    """
    if isinstance(linear, Transposed):
        return _windowed(layer, copied(layer.param), linear, linear.of)
    return (as_inner_product if layer.type == "InnerProduct" else as_convolution)(layer, linear)


def as_convolution(layer: Layer, kernel: Kernel) -> New:
    """New parameters and blobs for the convolution ``layer`` so that it computes ``kernel``."""
    param = copied(layer.param)
    depthwise = kernel.group == kernel.inputs == kernel.outputs
    if layer.type != "Convolution" and not depthwise:
        param.type = "Convolution"  # the forks' own types are for depthwise ones alone
    return _windowed(layer, param, kernel, kernel)


def _windowed(layer: Layer, param: Any, linear: LinearMap, kernel: Kernel) -> New:
    """``param`` and blobs for the map ``linear``, whose weights are those of ``kernel``."""
    conv_param = param.convolution_param
    if conv_param.num_output != linear.outputs:
        conv_param.num_output = linear.outputs
    if conv_param.group != kernel.group:
        conv_param.group = kernel.group
    dtype = layer.blobs[0].dtype if layer.blobs else FLOAT
    windows.set_convolution(param, window_of(kernel.axes))
    blobs = [_blob(kernel, kernel.shape, dtype)]
    if linear.bias is None:
        return param, tuple(blobs)
    if not conv_param.bias_term:
        add_bias(param)
    return param, (*blobs, Dense(linear.bias(), dtype))

"""Layers as kernels, and a kernel as a layer."""

from math import prod
from typing import Any, Optional, Sequence, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import DEEP, MAX_STRIDE, Axis, Kernel, diagonal, mean, widened
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS, add_bias, output
from caffe_merge.layers.per_channel import affine
from caffe_merge.layers.shapes.geometry import (
    Window,
    convolution_window,
    pooling_window,
    sticks_out,
)
from caffe_merge.layers.standard import standard
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import ALL, FLOAT, Blob, Computed, Dense, Rows

Answer = Union[Kernel, Reason, None]


def kernel(graph: Graph, layer: Layer) -> Answer:
    """The kernel that ``layer`` is, over the channels on axis 1; None if its type is none."""
    if len(graph.bottoms[layer]) != 1 or len(graph.tops[layer]) != 1:
        return None
    if layer.type in CONVOLUTIONS:
        return _convolution(graph, layer)
    if layer.type == "Pooling":
        return _mean(graph, layer)
    bottom = graph.bottoms[layer][0]
    answer = affine(layer, bottom.rank)
    if not isinstance(answer, Affine):
        return answer
    if bottom.shape is None or len(bottom.shape) < 2:
        return Reason("the shape of its bottom is not known")
    if answer.axis not in (None, 1):
        return Reason(f"it acts along axis {answer.axis}")
    per_channel = answer.over(bottom.shape[1], 1)
    return diagonal(per_channel.scale, per_channel.shift, len(bottom.shape) - 2)


def _convolution(graph: Graph, layer: Layer) -> Answer:
    known = output(layer, graph.tops[layer][0].rank)
    if isinstance(known, Reason):
        return known
    answer = standard(layer)
    if isinstance(answer, Reason):
        return answer
    param, (weights, *biases) = answer
    if known.axis != 1:
        return Reason(f"its channels lie on axis {known.axis}")
    group = param.convolution_param.group
    window = convolution_window(param, len(weights.shape) - 2)
    if 0 in window.dilation:
        return Reason("its dilation is 0")
    if max(window.stride, default=1) > MAX_STRIDE:
        return Reason(f"a stride of {max(window.stride)} is more than is looked into")
    shape = graph.bottoms[layer][0].shape
    if shape is not None and sticks_out(window, shape[2:]):
        return Reason("its kernel is larger than its input")
    found = Kernel(
        outputs=weights.shape[0],
        inputs=weights.shape[1] * group,
        group=group,
        axes=_axes(window),
        weights=_reader(weights),
        depth=weights.depth,
    )
    return found._replace(bias=biases[0].float64) if biases else found


def _reader(blob: Blob) -> Any:
    def rows(selection: Rows) -> Any:
        return blob.rows(selection).astype("f8", copy=False)

    return rows


def _axes(window: Window, ceil: bool = False) -> Tuple[Axis, ...]:
    return tuple(Axis(-pad, size, step, stride, ceil) for size, stride, pad, step in zip(*window))


def _mean(graph: Graph, layer: Layer) -> Answer:
    """Average pooling: it is a kernel as far as its windows lie inside the padded input."""
    param = layer.param.pooling_param
    if param.pool != param.AVE:
        return None
    answer = standard(layer)
    if isinstance(answer, Reason):
        return answer
    shape = graph.bottoms[layer][0].shape
    if shape is None:
        return Reason("the shape of its bottom is not known")
    if param.global_pooling:
        return Reason("it is global")
    window = pooling_window(layer.param, shape[2:])
    return mean(shape[1], _axes(window, param.round_mode == param.CEIL))


def product(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The kernel without spatial axes that an InnerProduct is."""
    known = output(layer, graph.tops[layer][0].rank)
    if isinstance(known, Reason):
        return known
    weights, *biases = layer.blobs
    transpose = layer.param.inner_product_param.transpose

    def rows(selection: Rows) -> Any:
        return weights.float64().T[selection] if transpose else read(selection)

    read = _reader(weights)
    outputs, inputs = weights.shape[::-1] if transpose else weights.shape
    found = Kernel(outputs, inputs, 1, (), rows, depth=weights.depth)
    return found._replace(bias=biases[0].float64) if biases else found


def covering(graph: Graph, layer: Layer) -> Union[Kernel, Reason]:
    """The kernel without spatial axes that a convolution is whose one window is the whole input."""
    one = kernel(graph, layer)
    bottom, top = graph.bottoms[layer][0].shape, graph.tops[layer][0].shape
    if not isinstance(one, Kernel):
        return one or Reason("it has not one bottom and one top")
    if bottom is None or top is None:
        return Reason("the shape of its bottom is not known")
    for axis, size in zip(one.axes, bottom[2:]):
        if axis.start or axis.last != size - 1 or axis.step > 1 or axis.stride > 1:
            return Reason("the kernel of the first is not just as large as its input")
    inputs = prod(bottom[1:])

    def rows(selection: Rows) -> Any:
        dense = widened(one, 1, selection)
        return dense.reshape(len(dense), inputs)

    return Kernel(one.outputs, inputs, 1, (), rows, one.bias, one.depth)


def _blob(made: Kernel, shape: Tuple[int, ...], dtype: Any) -> Blob:
    """The weights of ``made``; in memory where they are made of very many others."""
    if made.depth > DEEP:
        return Dense(made.weights(ALL), dtype)
    return Computed(shape, made.weights, dtype, made.depth)


def as_inner_product(layer: Layer, made: Kernel) -> Tuple[Any, Tuple[Blob, ...]]:
    """Parameters and blobs of the InnerProduct ``layer`` as one that does what ``made`` does."""
    param = copied(layer.param)
    own = param.inner_product_param
    own.num_output = made.outputs
    dtype = layer.blobs[0].dtype
    if own.transpose:
        turned = made._replace(weights=lambda rows: made.weights(ALL).T[rows])
        blob = _blob(turned, made.shape[::-1], dtype)
    else:
        blob = _blob(made, made.shape, dtype)
    if made.bias is None:
        return param, (blob,)
    if not own.bias_term:
        add_bias(param)
    return param, (blob, Dense(made.bias(), dtype))


def as_convolution(layer: Layer, made: Kernel) -> Tuple[Any, Tuple[Blob, ...]]:
    """Parameters and blobs of the convolution ``layer`` as one that does what ``made`` does."""
    param = copied(layer.param)
    own = param.convolution_param
    depthwise = made.group == made.inputs == made.outputs
    if layer.type != "Convolution" and not depthwise:
        param.type = "Convolution"  # the forks' own types are for depthwise ones alone
    if own.num_output != made.outputs:
        own.num_output = made.outputs
    if own.group != made.group:
        own.group = made.group
    dtype = layer.blobs[0].dtype if layer.blobs else FLOAT
    set_window(param, made.axes)
    blobs = [_blob(made, made.shape, dtype)]
    if made.bias is None:
        return param, tuple(blobs)
    if not own.bias_term:
        add_bias(param)
    return param, (*blobs, Dense(made.bias(), dtype))


def set_window(param: Any, axes: Sequence[Axis]) -> None:
    """Give a Convolution the window ``axes``; fields that say so already stay as they are."""
    own, now = param.convolution_param, convolution_window(param, len(axes))
    _set(own, "kernel_size", "kernel", now.kernel, [axis.size for axis in axes], None)
    _set(own, "stride", "stride", now.stride, [axis.stride for axis in axes], 1)
    _set(own, "pad", "pad", now.pad, [-axis.start for axis in axes], 0)
    _set(own, "dilation", None, now.dilation, [axis.step for axis in axes], 1)
    if own.engine == own.CUDNN and any(axis.step > 1 for axis in axes):
        own.ClearField("engine")  # layer_factory.cpp: cuDNN's layer takes no dilation, and aborts


def _set(
    own: Any, name: str, pair: Optional[str], now: Tuple[int, ...], wanted: Any, default: Any
) -> None:
    if list(now) == wanted:
        return
    own.ClearField(name)
    if pair is not None:
        own.ClearField(pair + "_h")
        own.ClearField(pair + "_w")
    if set(wanted) == {default}:
        return
    if len(set(wanted)) == 1:
        getattr(own, name).append(wanted[0])
    elif pair is not None and len(wanted) == 2:
        setattr(own, pair + "_h", wanted[0])
        setattr(own, pair + "_w", wanted[1])
    else:
        getattr(own, name).extend(wanted)

"""What a layer of a fork is in BVLC Caffe's own terms, where that can be said.

The proof and the reference engine run layers by BVLC's rules; this is where a layer whose text has
fields of a fork is put in those terms first, or refused.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.layers import linear, norms, per_channel
from caffe_merge.layers.fork_fields import WINDOW, spec_of, unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.forks import DEPTHWISE, depthwise_window
from caffe_merge.layers.spec import ForkFields, LayerSpec
from caffe_merge.notes import UNKNOWN, Reason

Standard = Tuple[LayerSpec, Tuple[Blob, ...]]


def standard(layer: Layer, any_window: bool = False) -> Union[Standard, Reason]:
    """Parameters and blobs under which the reference layer computes what ``layer`` does.

    ``any_window``: where its windows lie need not be known, and BVLC's fields alone say it.
    """
    reason = unknown_fields(layer)
    if reason is not None and any_window and unknown_fields(layer, WINDOW) is None:
        reason, layer = linear.odd_blobs(layer), _as_bvlc_reads_it(layer)
    if reason is not None:
        return reason
    rule = _RULES.get(layer.type)
    if rule is not None:
        return rule(layer)
    if layer.missing:
        return Reason("the file has no weights for it, and its fillers are random", UNKNOWN)
    return spec_of(layer), layer.blobs


def _as_bvlc_reads_it(layer: Layer) -> Layer:
    """The same layer without the fields of its fork."""
    plain = Layer(layer.param)
    plain.blobs, plain.missing = layer.blobs, layer.missing
    return plain


def _as(layer: Layer, kind: str) -> Any:
    """A LayerParameter of the type ``kind`` in the place of ``layer``."""
    param = type(layer.param)(name=layer.name, type=kind)
    param.bottom.extend(layer.param.bottom)
    param.top.extend(layer.param.top)
    return param


def _norm(layer: Layer) -> Union[Standard, Reason]:
    style = norms.style_of(layer)
    if isinstance(style, norms.Style) and style.name == "bvlc":
        return LayerSpec(layer.param), layer.blobs  # the reference knows it, batch statistics too
    terms = norms.as_statistics(layer)
    return terms if isinstance(terms, Reason) else (LayerSpec(terms[0]), terms[1])


def _dropout(layer: Layer) -> Union[Standard, Reason]:
    affine = per_channel.affine_of(layer, None)
    if isinstance(affine, Affine):
        param = _as(layer, "Power")
        param.power_param.scale = float(affine.scale)
        return LayerSpec(param), ()
    return (LayerSpec(layer.param), ()) if affine is None else affine


def _spatial_dropout(layer: Layer) -> Union[Standard, Reason]:
    if layer.trains:
        return Reason("its phase is TRAIN: it drops at inference too")
    return LayerSpec(_as(layer, "Power")), ()


def _relu6(layer: Layer) -> Union[Standard, Reason]:
    """The forks differ in where a negative slope goes; 0 is the same in all of them."""
    slope = ForkFields(layer.extra).number("relu6_param.negative_slope", 0.0)
    if slope or layer.param.relu_param.negative_slope:
        return Reason("what its negative_slope does differs from fork to fork")
    param = _as(layer, "Clip")
    param.clip_param.min, param.clip_param.max = 0, 6
    return LayerSpec(param), ()


def _depthwise(layer: Layer) -> Union[Standard, Reason]:
    """A Convolution of as many groups as channels; num_output and group are not read."""
    if layer.missing or not layer.blobs:
        return Reason("the file has no weights for it", UNKNOWN)
    if depthwise_window(LayerSpec(layer.param)) is None:
        return Reason("of a pair such as stride_h and stride_w it has one only")
    param = _as(layer, "Convolution")
    conv_param = param.convolution_param
    conv_param.CopyFrom(layer.param.convolution_param)
    conv_param.ClearField("axis")
    conv_param.num_output = conv_param.group = (
        layer.blobs[0].shape[0] if layer.blobs[0].shape else 0
    )
    return LayerSpec(param, layer.extra), layer.blobs


def _convolution(layer: Layer) -> Union[Standard, Reason]:
    if layer.missing or not layer.blobs:
        return Reason("the file has no weights for it", UNKNOWN)
    param = _as(layer, "Convolution")
    param.convolution_param.CopyFrom(spec_of(layer).param.convolution_param)
    return LayerSpec(param), layer.blobs


_RULES: Dict[str, Callable[[Layer], Union[Standard, Reason]]] = {
    **dict.fromkeys(norms.TYPES, _norm),
    DEPTHWISE: _depthwise,
    "DepthwiseConv": _convolution,
    "DepthwiseConvolution": _convolution,
    "Dropout": _dropout,
    "Python": _dropout,
    "ReLU6": _relu6,
    "SpatialDropout": _spatial_dropout,
}
RESTATED = frozenset(_RULES)  # types that the reference runs as another, where it can

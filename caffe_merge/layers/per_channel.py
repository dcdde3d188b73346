"""Layers that are one affine map per channel at inference: which map it is, and a map as a Scale.

``affine_of`` returns an Affine, or a Reason that says what makes the layer something else, or None
if its type is none of these. What a layer of unknown parameters does is not guessed.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Float64 as Vector
from caffe_merge.arrays import count
from caffe_merge.errors import WeightsError
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.text.values import parse_bool
from caffe_merge.formats.weights.blobs import FLOAT, Blob, Dense
from caffe_merge.layers import norms
from caffe_merge.layers.catalogue import BY_BLOB
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, New, remembered
from caffe_merge.notes import SHAPE, UNKNOWN, Reason
from caffe_merge.wording import counted

MaybeAffine = Union[Affine, Reason, None]


def affine_of(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    """The affine map that ``layer`` is; ``rank`` is its bottom's number of axes, None if unknown.

    Raises WeightsError where its values are not finite or a variance is negative.
    """
    if layer.type not in _RULES or (layer.type == "Python" and _dropout_of_enet(layer) is None):
        return None
    if len(layer.param.bottom) != 1 or len(layer.param.top) != 1:
        if layer.type in BY_BLOB and len(layer.param.bottom) == 2:
            what = "factor" if layer.type == "Scale" else "summand"
            return Reason(f"its {what} is another blob, {layer.param.bottom[1]!r}")
        return Reason("it has not one bottom and one top")
    return _by_rule(layer, rank)


@remembered
def _by_rule(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    reason = unknown_fields(layer) or _odd_blobs(layer)
    return reason if reason is not None else _RULES[layer.type](layer, rank)


def _odd_blobs(layer: Layer) -> Optional[Reason]:
    """Why the blobs of an affine layer are not BVLC's, or a fork's.

    A layer with fields of a fork that may matter is loaded with whatever blobs it has.
    """
    has_weights = int(len(layer.param.bottom) == 1)  # else the factor or summand is a bottom
    expected = {"Scale": has_weights + layer.param.scale_param.bias_term, "Bias": has_weights}
    blob_count = expected.get(layer.type, 0)
    shapes = [blob.shape for blob in layer.blobs]
    if blob_count and not shapes:
        return Reason("the file has no weights for it", UNKNOWN)
    if layer.type in expected and len(shapes) != blob_count:
        return Reason(f"it has {counted(len(shapes), 'blob')}, not {blob_count}")
    pair = blob_count > 1 or (layer.type in norms.TYPES and len(shapes) > 1)
    if pair and count(shapes[0]) != count(shapes[1]):
        return Reason(f"its blobs have different sizes, {shapes[0]} and {shapes[1]}")
    return None


def _norm(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    return norms.affine_of(layer)


def _scale(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    param = layer.param.scale_param
    factor = _values(layer, 0)
    axis = _channel_axis(layer.blobs[0], param.axis, rank)
    if isinstance(axis, Reason):
        return axis
    shift = _values(layer, 1) if param.bias_term else np.zeros(factor.shape)
    return _vectors(factor, shift, axis)


def _bias(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    shift = _values(layer, 0)
    axis = _channel_axis(layer.blobs[0], layer.param.bias_param.axis, rank)
    if isinstance(axis, Reason):
        return axis
    return _vectors(np.ones(shift.shape), shift, axis)


def _power(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    param = layer.param.power_param
    if param.power != 1:
        return Reason(f"its power is {param.power:g}, not 1")
    return Affine(np.array(float(param.scale)), np.array(float(param.shift)))


def _dropout(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    """``scale_train: false`` of some forks: nothing in training, times 1 - ratio at test time."""
    reason = random_dropout(layer)
    if reason is not None:
        return reason
    if parse_bool(layer.extra.get("dropout_param.scale_train", "true")) is not False:
        return None
    ratio = float(layer.param.dropout_param.dropout_ratio)
    return Affine(np.array(1.0 - ratio), np.array(0.0))


def _dropout_of_enet(layer: Layer) -> Union[float, Reason, None]:
    from caffe_merge.layers import enet_dropout  # few nets have a Python layer

    return enet_dropout.dropout(layer)


def _python(layer: Layer, rank: Optional[int]) -> MaybeAffine:
    factor = _dropout_of_enet(layer)
    return Affine(np.array(factor), np.array(0.0)) if isinstance(factor, float) else factor


def random_dropout(layer: Layer) -> Optional[Reason]:
    """Why a Dropout still drops at inference, if it does."""
    if layer.trains:
        return Reason("its phase is TRAIN: it drops at inference too")
    if parse_bool(layer.extra.get("dropout_param.sample_weights_test", "false")) is not False:
        return Reason("sample_weights_test is true: it drops at inference too")
    return None


_RULES: Dict[str, Callable[[Layer, Optional[int]], MaybeAffine]] = {
    **dict.fromkeys(norms.TYPES, _norm),
    "Scale": _scale,
    "Bias": _bias,
    "Power": _power,
    "Python": _python,
    "Dropout": _dropout,
}


def _values(layer: Layer, number: int) -> Vector:
    values = layer.blobs[number].float64()
    if not np.isfinite(values).all():
        bad = values[~np.isfinite(values)].flat[0]
        raise WeightsError(f"expected finite values, found {bad}", layer=layer.name, blob=number)
    return values


def _channel_axis(blob: Blob, axis: int, rank: Optional[int]) -> Union[int, Reason, None]:
    """The one axis of the bottom along which ``blob`` varies; None if it is a single value.

    ``axis`` is the layer's parameter: where the blob's first axis lies on the bottom.
    """
    if axis < 0 and rank is None:
        return Reason(f"its axis is {axis} and the rank of its bottom is not known", SHAPE)
    start = axis + (rank or 0) if axis < 0 else axis
    wide = [start + number for number, dim in enumerate(blob.shape) if dim != 1]
    if len(wide) > 1:
        return Reason(f"it varies along axes {wide}, not along one")
    if wide:
        return wide[0]
    # A single value, of one channel or of all: the same thing for a map per channel.
    return None


def _vectors(scale: Vector, shift: Vector, axis: Optional[int]) -> Affine:
    if axis is None:
        return Affine(scale.reshape(()), shift.reshape(()))
    return Affine(scale.reshape(-1), shift.reshape(-1), axis)


# The parameters of other layers that may become a Scale, and their specs of blobs.
_NOT_OF_A_SCALE = (
    "batch_norm_param",
    "bias_param",
    "power_param",
    "dropout_param",
    "python_param",
    "param",
)


def as_scale(layer: Layer, affine: Affine) -> New:
    """New parameters and blobs of ``layer`` as a Scale that computes ``affine`` (a vector)."""
    param = copied(layer.param)
    scale_param = param.scale_param
    if layer.type != "Scale":
        # Specs of BatchNorm's three blobs (lr_mult 0) would be wrong for a Scale's two.
        for name in _NOT_OF_A_SCALE:
            param.ClearField(name)
        param.type = "Scale"
    if layer.type != "Scale" or layer.blobs[0].shape != affine.scale.shape:
        scale_param.ClearField("num_axes")
        scale_param.ClearField("axis")
        if affine.axis != 1:
            scale_param.axis = affine.axis
    dtype = layer.blobs[0].dtype if layer.blobs else FLOAT
    blobs: List[Blob] = [Dense(affine.scale, dtype)]
    if scale_param.bias_term or affine.shift.any():
        scale_param.bias_term = True
        blobs.append(Dense(affine.shift, dtype))
    return param, tuple(blobs)

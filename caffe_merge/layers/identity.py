"""Which layers give out what they are given, at inference.

``identity`` answers True, or a Reason where the type suggests it and a parameter forbids it, or
False. Only what is certain counts: a layer with fields of a fork is never one.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.errors import NetError
from caffe_merge.layers import windows
from caffe_merge.layers.axes import flattens_images
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.layers.per_channel import affine_of, random_dropout
from caffe_merge.notes import Reason

IsIdentity = Union[bool, Reason]


def identity(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Whether every top of ``layer`` (of one bottom, of ``rank`` axes) equals its bottom."""
    if len(layer.param.bottom) != 1 or not layer.param.top:
        return False
    rule = _RULES.get(layer.type)
    if rule is None or (len(layer.param.top) > 1 and layer.type != "Split"):
        return False
    reason = unknown_fields(layer)
    return reason if reason is not None else rule(layer, rank)


def _always(layer: Layer, rank: Optional[int]) -> IsIdentity:
    return True


def _dropout(layer: Layer, rank: Optional[int]) -> IsIdentity:
    reason = random_dropout(layer)
    if reason is not None:
        return reason
    return affine_of(layer, None) is None or _unit(layer, rank)


def _spatial_dropout(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Intel's: whole channels are dropped in training, nothing at test time."""
    return Reason("its phase is TRAIN: it drops at inference too") if layer.trains else True


def _unit(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Scale, Bias and Power that multiply by 1 and add 0."""
    affine = affine_of(layer, rank)
    return isinstance(affine, Affine) and bool(
        (affine.scale == 1).all() and (affine.shift == 0).all()
    )


def _eltwise(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Of one bottom: BVLC's Caffe wants two, hand-cut nets have one."""
    return all(factor == 1 for factor in layer.param.eltwise_param.coeff)


def _pooling(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Windows of one value, one for each; Caffe lets such a window have no padding."""
    if layer.param.pooling_param.global_pooling or (rank or 4) < 4:
        return False
    try:
        window = windows.pooling(layer, (1,) * ((rank or 4) - 2))
    except NetError:
        return False
    return {*window.kernel, *window.stride} == {1} and not any(window.pads)


def _relu(layer: Layer, rank: Optional[int]) -> IsIdentity:
    return bool(layer.param.relu_param.negative_slope == 1)


def _prelu(layer: Layer, rank: Optional[int]) -> IsIdentity:
    return bool(layer.blobs) and bool((np.asarray(layer.blobs[0].float64()) == 1).all())


def _reshape(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """Every axis copied: true whatever size the net is run at."""
    param = layer.param.reshape_param
    copied = len(param.shape.dim) > 0 and not any(param.shape.dim)
    return copied and param.axis == 0 and param.num_axes == -1 and len(param.shape.dim) == rank


def _flatten(layer: Layer, rank: Optional[int]) -> IsIdentity:
    return rank == 2 and flattens_images(layer, rank)


def _permute(layer: Layer, rank: Optional[int]) -> IsIdentity:
    """SSD's Caffe shares the blob then, as a Reshape does (layers.layer, shares_memory)."""
    return shares_memory(layer)


_RULES: Dict[str, Callable[[Layer, Optional[int]], IsIdentity]] = {
    "Bias": _unit,
    "Concat": _always,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "PReLU": _prelu,
    "Permute": _permute,
    "Pooling": _pooling,
    "Power": _unit,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _unit,
    "Slice": _always,
    "SpatialDropout": _spatial_dropout,
    "Split": _always,
}

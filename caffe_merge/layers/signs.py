"""Which layers never give out a negative value, and which give out unchanged what is not negative.

What is true of a type whatever its parameters is in its row of the catalogue; here is what depends
on them. NaN counts as no negative value: a maximum with 0 as Caffe's code takes it leaves it NaN.
"""

from __future__ import annotations

from math import isfinite
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers import windows
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.moving import MASKED, reads_shape_only
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.spec import ForkFields
from caffe_merge.layers.standard import standard
from caffe_merge.notes import Reason

Signs = Sequence[bool]  # of each bottom: it is never negative
Basis = Optional[Tuple[int, ...]]


def never_negative(layer: Layer, bottoms: Signs, rank: Optional[int]) -> Basis:
    """The numbers of the bottoms that must not be negative for no top of ``layer`` to be.

    () where it takes none of them; None where a top may be negative. ``bottoms`` says which never
    are; ``rank`` is the number of axes of the first, None if it is not known.
    """
    row, rule = CATALOGUE.get(layer.type), _RULES.get(layer.type)
    basis: Basis = None
    if row is not None and row.never_negative == "always":
        basis = ()
    elif row is not None and row.never_negative == "kept":
        basis = _values(layer, bottoms)
    elif rule is not None:
        basis = rule(layer, bottoms)
    if basis is None and any(bottoms[:1]):
        basis = _affine(layer, rank)
    return None if basis is None or isinstance(standard(layer), Reason) else basis


def why_not_unchanged(layer: Layer) -> Optional[Reason]:
    """Why a rectifier may change what is not negative; None if it does not.

    Caffe adds a multiple of min(x, 0) to max(x, 0), which is 0 for x >= 0 unless it is infinite.
    """
    form = standard(layer)
    if isinstance(form, Reason):
        return form
    slopes = {
        "ReLU": layer.param.relu_param.negative_slope,
        "ELU": layer.param.elu_param.alpha,
        "PReLU": sum(float(np.abs(blob.float64()).sum()) for blob in layer.blobs),
    }
    finite = isfinite(slopes.get(layer.type, 0.0))
    return None if finite else Reason("its slope below 0 is not finite")


def _all(bottoms: Signs) -> Basis:
    return tuple(range(len(bottoms))) if bottoms and all(bottoms) else None


def _values(layer: Layer, bottoms: Signs) -> Basis:
    """The bottoms of which it reads more than shapes and places."""
    numbers = tuple(n for n in range(len(bottoms)) if not reads_shape_only(layer, n))
    numbers = numbers[:1] if layer.type in MASKED else numbers
    return numbers if numbers and all(bottoms[n] for n in numbers) else None


def _affine(layer: Layer, rank: Optional[int]) -> Basis:
    """A map per channel that multiplies by nothing negative, and adds nothing negative."""
    affine = affine_of(layer, rank)
    if not isinstance(affine, Affine):
        return None
    return (0,) if (affine.scale >= 0).all() and (affine.shift >= 0).all() else None


def _relu(layer: Layer, bottoms: Signs) -> Basis:
    """Below 0 it multiplies by its slope."""
    return () if layer.param.relu_param.negative_slope <= 0 else _all(bottoms)


def _prelu(layer: Layer, bottoms: Signs) -> Basis:
    slopes = [blob.float64() for blob in layer.blobs[:1]]
    return () if slopes and (slopes[0] <= 0).all() else _all(bottoms)


def _clip(layer: Layer, bottoms: Signs) -> Basis:
    """min(max(x, low), high): Caffe takes the lower limit first."""
    low, high = layer.param.clip_param.min, layer.param.clip_param.max
    if not high >= 0:
        return None
    return () if low >= 0 else _all(bottoms)


def _power(layer: Layer, bottoms: Signs) -> Basis:
    """(shift + scale x)^power; an even power has no sign."""
    param = layer.param.power_param
    if param.power % 2 == 0:
        return ()
    return _all(bottoms) if param.scale >= 0 and param.shift >= 0 else None


def _pooling(layer: Layer, bottoms: Signs) -> Basis:
    """Every window has a value: Caffe's maximum of none is its lowest number."""
    param = layer.param.pooling_param
    if param.pool not in (param.MAX, param.AVE) or len(layer.param.top) > 1:
        return None
    return None if windows.overruns(layer, None) else _all(bottoms)


def _eltwise(layer: Layer, bottoms: Signs) -> Basis:
    param = layer.param.eltwise_param
    if param.operation == param.MAX:
        return next(((n,) for n, sign in enumerate(bottoms) if sign), None)
    factors = param.coeff if param.operation == param.SUM else ()
    return _all(bottoms) if all(factor >= 0 for factor in factors) else None


def _scale(layer: Layer, bottoms: Signs) -> Basis:
    """By another blob; one of its own is a map per channel."""
    if len(bottoms) < 2:
        return None
    biases = [blob.float64() for blob in layer.blobs] if layer.param.scale_param.bias_term else []
    return _all(bottoms) if all((bias >= 0).all() for bias in biases) else None


def _summed(layer: Layer, bottoms: Signs) -> Basis:
    return _all(bottoms) if len(bottoms) > 1 else None


def _lrn(layer: Layer, bottoms: Signs) -> Basis:
    """It divides by a power of k plus alpha times squares."""
    param = layer.param.lrn_param
    return _all(bottoms) if param.k > 0 and param.alpha >= 0 else None


def _padding(layer: Layer, bottoms: Signs) -> Basis:
    value = ForkFields(layer.extra).number("padding_param.pad_value", 0.0)
    return _all(bottoms) if value >= 0 else None


_RULES: Dict[str, Callable[[Layer, Signs], Basis]] = {
    "Axpy": _summed,
    "Bias": _summed,
    "Clip": _clip,
    "Eltwise": _eltwise,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Padding": _padding,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _relu,
    "Scale": _scale,
}

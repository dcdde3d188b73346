"""Affine maps per channel moved through one layer, forwards or backwards.

Forwards: the bottom of a layer is ``scale x + shift`` per channel, and the layer is to read x
instead; that is possible where its old top is such a map of its new top. Backwards: such a map
follows the top of a layer, and the layer is to compute the result itself; that is possible where
maps of its bottoms have that effect. layers/moving.py says which channel goes where; this module
says which maps commute with which layers::

    f(s x + t) = s f(x) + t         whatever moves values, a mean, an interpolation
    f(s x) = s f(x) for s >= 0      ReLU, PReLU, a maximum
    f(s x, t y) = s t f(x, y)       a product
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Float64, Indices, Shape
from caffe_merge.layers import windows
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.moving import RULES, Link, links, reads_shape_only
from caffe_merge.layers.spec import ForkFields
from caffe_merge.notes import SHAPE, Reason

Shapes = Sequence[Optional[Shape]]
Maps = List[Optional[Affine]]  # of each bottom or top; None is the identity


def forward_maps(layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes) -> Union[Maps, Reason]:
    """The map of each top of ``layer`` whose bottoms have ``maps``."""
    reason = _why_not(layer, maps, bottoms)
    if reason is not None:
        return reason

    def moves(between: Sequence[Link]) -> Union[List["_Move"], Reason]:
        linked = {link.bottom for link in between}
        for number, affine in enumerate(maps):
            if affine and number not in linked and not reads_shape_only(layer, number):
                return Reason("it takes from it where values go")
        return [_Move(*link[::2], *link[1::2]) for link in between]

    return _moved(layer, maps, bottoms, tops, moves, tops)


def backward_maps(
    layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes, chosen: int = 0
) -> Union[Maps, Reason]:
    """The map of each bottom of ``layer`` whose tops are to go into ``maps``.

    Into which factor of a product (is_product) it goes is ``chosen``, the number of a bottom.
    """
    reason = _why_not(layer, maps, bottoms)
    if reason is not None:
        return reason

    def moves(between: Sequence[Link]) -> Union[List["_Move"], Reason]:
        product = is_product(layer)
        taken = [link for link in between if not product or link.bottom == chosen]
        if {n for n, affine in enumerate(maps) if affine} - {link.top for link in taken}:
            return Reason("what it gives out is not made of what it reads")
        return [_Move(*link[1::2], *link[::2]) for link in taken]

    return _moved(layer, maps, bottoms, tops, moves, bottoms)


def is_product(layer: Layer) -> bool:
    """Whether it multiplies its bottoms."""
    param = layer.param.eltwise_param
    if layer.type == "Eltwise":
        return bool(param.operation == param.PROD)
    return layer.type == "Scale" and len(layer.param.bottom) > 1


# -- where a map comes to ----------------------------------------------------------------------


class _Move(NamedTuple):
    """A Link with a direction: from one side of a layer, where maps are, to the other."""

    source: int
    source_axis: int
    origins: Optional[Indices]
    target: int
    target_axis: int
    places: Optional[Indices]


_Moves = Callable[[Sequence[Link]], Union[List[_Move], Reason]]


def _moved(
    layer: Layer, maps: Maps, bottoms: Shapes, tops: Shapes, moves: _Moves, targets: Shapes
) -> Union[Maps, Reason]:
    """``maps`` on the other side of ``layer``, whose shapes there are ``targets``."""
    own_axes = [affine.axis for affine in maps if affine and affine.axis is not None]
    axes = range(1, max([2, *(len(shape) for shape in bottoms if shape is not None)]))
    refusal = None
    for axis in dict.fromkeys([*own_axes, *axes]):
        between = links(layer, bottoms, tops, axis)
        directed = between if isinstance(between, Reason) else moves(between)
        if isinstance(directed, Reason):
            refusal = refusal or directed
            continue
        carried = _along(layer, maps, directed, targets)
        if not isinstance(carried, Reason):
            return carried
        refusal = refusal or carried
    assert refusal is not None
    return refusal


def _along(
    layer: Layer, maps: Maps, moves: Sequence[_Move], targets: Shapes
) -> Union[Maps, Reason]:
    for move in moves:
        affine = maps[move.source]
        if affine is not None and affine.axis not in (None, move.source_axis):
            return Reason(f"it hands on no map along axis {affine.axis}")
    carried: Maps = []
    for number, shape in enumerate(targets):
        parts = [move for move in moves if move.target == number]
        joined = _product(maps, parts) if is_product(layer) else _joined(maps, parts, shape)
        if isinstance(joined, Reason):
            return joined
        carried.append(joined)
    return carried


def _product(maps: Maps, parts: Sequence[_Move]) -> Optional[Affine]:
    """One multiplier after the other; those of factors have no shift."""
    total = None
    for part in parts:
        affine = maps[part.source]
        if affine is not None:
            axis = None if affine.axis is None else part.target_axis
            affine = affine._replace(axis=axis)
            total = affine if total is None else total.then(affine)
    return total


def _joined(
    maps: Maps, parts: Sequence[_Move], shape: Optional[Shape]
) -> Union[Affine, Reason, None]:
    """The map of a blob of ``shape`` whose ``parts`` have maps; they may overlap, if they agree."""
    affines = [maps[part.source] for part in parts]
    if not any(affines):
        return None
    first = affines[0]
    if first is not None and first.axis is None and all(map(_alike(first), affines)):
        return first
    if first is not None and len(parts) == 1 and parts[0].origins is None:
        return first._replace(axis=parts[0].target_axis)
    if shape is None:
        return Reason("its shapes are not known", SHAPE)
    size, axis = shape[parts[0].target_axis], parts[0].target_axis
    scale, shift = np.ones(size), np.zeros(size)
    everything = np.arange(size)
    places = np.concatenate([everything if p.places is None else p.places for p in parts])
    scales, shifts = (
        np.concatenate([_taken(a, field, p.origins, size) for a, p in zip(affines, parts)])
        for field in ("scale", "shift")
    )
    scale[places], shift[places] = scales, shifts
    if (scale[places] != scales).any() or (shift[places] != shifts).any():
        return Reason("it would have to be another map at each place that a channel goes to")
    return Affine(scale, shift, axis)


def _alike(first: Affine) -> Callable[[Optional[Affine]], bool]:
    def alike(other: Optional[Affine]) -> bool:
        return other is not None and other.axis is None and other[:2] == first[:2]

    return alike


def _taken(affine: Optional[Affine], field: str, origins: Optional[Indices], size: int) -> Float64:
    """The scales or shifts at ``origins``, all ``size`` of them if it is None."""
    length = size if origins is None else len(origins)
    if affine is None:
        return np.ones(length) if field == "scale" else np.zeros(length)
    values: Float64 = getattr(affine, field)
    if values.ndim and origins is not None:
        values = values[origins]
    return np.broadcast_to(values, (length,))


# -- what a layer lets through -----------------------------------------------------------------

_Condition = Callable[[Layer, Affine], Optional[Reason]]


def _why_not(layer: Layer, maps: Maps, bottoms: Shapes) -> Optional[Reason]:
    if layer.type not in RULES:
        return Reason("it cannot take it in, nor hand it on")
    reason = unknown_fields(layer)
    condition = _CONDITIONS.get(layer.type)
    if reason is not None or condition is None:
        return reason
    spatial = None if bottoms[0] is None else len(bottoms[0]) - 2
    if layer.type == "Pooling" and windows.overruns(layer, spatial):
        return Reason("its last window may hold nothing, and Caffe's value there takes no part")
    reasons = (condition(layer, affine) for affine in maps if affine is not None)
    return next((reason for reason in reasons if reason is not None), None)


def _no_shift(layer: Layer, affine: Affine) -> Optional[Reason]:
    return Reason("a shift does not go through it") if affine.shift.any() else None


def _rectifier(layer: Layer, affine: Affine) -> Optional[Reason]:
    """ReLU(s x) = s ReLU(x) for s >= 0, whatever the slope below 0."""
    if (affine.scale < 0).any() and not affine.shift.any():
        return Reason("a negative multiplier does not go through it")
    return _no_shift(layer, affine)


def _pooling(layer: Layer, affine: Affine) -> Optional[Reason]:
    param = layer.param.pooling_param
    if len(layer.param.top) > 1 or param.pool not in (param.AVE, param.MAX):
        return Reason("only one mean or maximum hands it on")
    if param.pool == param.MAX:
        return _maximum(layer, affine)
    if not affine.shift.any():
        return None
    if windows.pads(layer):
        return Reason("it counts the zeros of its padding, which the shift does not reach")
    if windows.has_ceil_mode(layer):
        return Reason("forks with ceil_mode differ in the mean of a window that sticks out")
    return None


def _maximum(layer: Layer, affine: Affine) -> Optional[Reason]:
    if (affine.scale < 0).any():
        return Reason("a negative multiplier does not go through a maximum")
    return None


def _eltwise(layer: Layer, affine: Affine) -> Optional[Reason]:
    param = layer.param.eltwise_param
    return (_maximum if param.operation == param.MAX else _no_shift)(layer, affine)


def _scale(layer: Layer, affine: Affine) -> Optional[Reason]:
    if layer.param.scale_param.bias_term:
        return Reason("it adds a bias of its own to the product")
    return _no_shift(layer, affine)


def _padding(layer: Layer, affine: Affine) -> Optional[Reason]:
    if ForkFields(layer.extra).integer("padding_param.pad_value", 0):
        return Reason("it pads with a value of its own")
    return _no_shift(layer, affine)


def _upsample(layer: Layer, affine: Affine) -> Optional[Reason]:
    """With a mask it leaves zeros between the values."""
    return _no_shift(layer, affine) if len(layer.param.bottom) > 1 else None


_CONDITIONS: Dict[str, _Condition] = {
    "Eltwise": _eltwise,
    "PReLU": _rectifier,
    "Padding": _padding,
    "Pooling": _pooling,
    "ReLU": _rectifier,
    "Scale": _scale,
    "Unpooling": _no_shift,
    "Upsample": _upsample,
}

"""How layers pass channels from bottoms to tops, and which channels are constant or equal.

A Link says that channels of a bottom are those of a top: one cannot go without the other. Pointwise
and per-channel layers, depthwise convolutions, Pooling, Eltwise, Concat and Slice have links.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import reference
from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Float64, Indices, count, distinct
from caffe_merge.errors import CaffeMergeError
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.layers.catalogue import POINTWISE, of_family, that
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.layers.matrices import Mask, bias_of, facts
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.standard import standard
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_propagation import forward_maps
from caffe_merge.passes.rewriting.channel_axis import (
    channels,
    is_dense,
    is_depthwise,
    moves_channels,
)
from caffe_merge.passes.rewriting.forward_folding import why_not_folded

SIDE_BY_SIDE = that("side_by_side")


class Link(NamedTuple):
    """``channels`` of ``bottom``, from ``start`` on, are those of ``top``, from ``at`` on."""

    bottom: Version
    start: int
    top: Version
    at: int
    channels: int


def links(graph: Graph, layer: Layer) -> List[Link]:
    """The links of ``layer``; none where it is of another type, or not known well enough."""
    bottoms, tops = graph.bottoms[layer], graph.tops[layer]
    if not bottoms or not tops or layer.misfit or not all(map(channels, (*bottoms, *tops))):
        return []
    if layer.type in SIDE_BY_SIDE:
        return _in_a_row(layer, bottoms, tops) if moves_channels(graph, layer) else []
    if len(tops) > 1 or {*map(channels, bottoms)} != {channels(tops[0])}:
        return []
    if not _is_channelwise(graph, layer):
        return []
    return [Link(bottom, 0, tops[0], 0, channels(bottom)) for bottom in bottoms]


def _in_a_row(layer: Layer, bottoms: Sequence[Version], tops: Sequence[Version]) -> List[Link]:
    """Of a Concat or Slice of channels."""
    out: List[Link] = []
    start = 0
    for part in bottoms if layer.type == "Concat" else tops:
        size = channels(part)
        whole = Link(part, 0, tops[0], start, size)
        out.append(whole if layer.type == "Concat" else Link(bottoms[0], start, part, 0, size))
        start += size
    return out


def _is_channelwise(graph: Graph, layer: Layer) -> bool:
    """Whether channel c of its one top depends on the channels c of its bottoms alone."""
    bottoms = graph.bottoms[layer]
    if layer.type == "Eltwise":
        return unknown_fields(layer) is None and len({bottom.shape for bottom in bottoms}) == 1
    if len(bottoms) > 1:
        return False
    affine = affine_of(layer, bottoms[0].rank)
    if isinstance(affine, Affine):
        return affine.axis in (None, 1)
    if layer.type in (*of_family(POINTWISE), "Power"):
        return not isinstance(standard(layer), Reason)
    if layer.type == "Pooling":
        param = layer.param.pooling_param
        return param.pool in (param.AVE, param.MAX) and unknown_fields(layer) is None
    return is_depthwise(graph, layer)


# -- constant channels ---------------------------------------------------------------------


class Signs(NamedTuple):
    """Of each channel of a version: its value where it is constant, else NaN; what signs it has."""

    constant: Float64
    never_negative: Mask
    never_positive: Mask


def signs(graph: Graph, linked: Dict[Layer, List[Link]]) -> Dict[Version, Signs]:
    """What is known of the values of each version, whatever the input is."""
    signs_of: Dict[Version, Signs] = {}
    for layer in graph.layers:
        for top in graph.tops[layer]:
            signs_of[top] = _unknown(channels(top))
        if layer in linked:
            signs_of.update(_through(graph, layer, linked[layer], signs_of))
        elif is_dense(graph, layer):
            bottom, top = graph.bottoms[layer][0], graph.tops[layer][0]
            at_most_zero = facts(layer).never_positive & signs_of[bottom].never_negative.all()
            signs_of[top] = _signs(_where(facts(layer).zero_outputs, bias_of(layer)), at_most_zero)
    return signs_of


def _unknown(size: int) -> Signs:
    return Signs(np.full(size, np.nan), np.zeros(size, bool), np.zeros(size, bool))


def _signs(constant: Float64, never_positive: Mask, never_negative: Optional[Mask] = None) -> Signs:
    """With the signs of what is constant."""
    positive = constant >= 0 if never_negative is None else never_negative | (constant >= 0)
    return Signs(constant, positive, never_positive | (constant <= 0))


def _where(mask: Mask, values: Float64) -> Float64:
    return np.where(mask & np.isfinite(values), values, np.nan)


def _through(
    graph: Graph, layer: Layer, linked: Sequence[Link], signs_of: Dict[Version, Signs]
) -> Dict[Version, Signs]:
    """The same of the tops of a layer with links."""
    if layer.type in SIDE_BY_SIDE:
        return _moved(linked, signs_of)
    (top,) = graph.tops[layer]
    below = [signs_of[bottom] for bottom in graph.bottoms[layer]]
    if layer.type == "Pooling":
        return {top: _pooled(graph, layer, below[0])}
    if layer.type in CONVOLUTIONS:
        return {top: _depthwise(graph, layer, below[0])}
    constant = _evaluated(layer, [signs.constant for signs in below], top)
    affine = affine_of(layer, top.rank) if len(below) == 1 else None
    if isinstance(affine, Affine):
        vector = affine.over(channels(top), 1)
        constant = np.where(vector.scale == 0, _where(vector.scale == 0, vector.shift), constant)
    no = np.zeros(channels(top), bool)
    if layer.type == "ReLU" and not layer.param.relu_param.negative_slope:
        constant = np.where(below[0].never_positive, 0.0, constant)
        return {top: _signs(constant, no, ~no)}
    return {top: _signs(constant, no)}


def _moved(linked: Sequence[Link], signs_of: Dict[Version, Signs]) -> Dict[Version, Signs]:
    moved = {link.top: _unknown(channels(link.top)) for link in linked}
    for bottom, start, top, at, size in linked:
        for source, to in zip(signs_of[bottom], moved[top]):
            to[at : at + size] = source[start : start + size]
    return moved


def _evaluated(layer: Layer, values: Sequence[Float64], top: Version) -> Float64:
    """What a layer that computes each channel by itself makes of constants."""
    constant: Mask = np.all(np.isfinite(np.stack(values)), axis=0)
    form = standard(layer)
    if not constant.any() or isinstance(form, Reason):
        return np.full(len(constant), np.nan)
    shape = (1, len(constant), *[1] * (len(top.shape or ()) - 2))
    spec, blobs = form
    try:
        arrays = [np.nan_to_num(value).reshape(shape) for value in values]
        result = reference.forward(spec, [blob.float64() for blob in blobs], arrays)[0]
    except CaffeMergeError:
        return np.full(len(constant), np.nan)
    return _where(constant, result.reshape(-1))


def _pooled(graph: Graph, layer: Layer, below: Signs) -> Signs:
    """A mean or maximum of a constant is the constant, where padding has no part in it."""
    (bottom,), (top,) = graph.bottoms[layer], graph.tops[layer]
    ones = np.ones(channels(bottom))

    def goes_on(values: Float64) -> bool:
        maps: List[Optional[Affine]] = [Affine(ones, values, 1)]
        return not isinstance(forward_maps(layer, maps, [bottom.shape], [top.shape]), Reason)

    if not goes_on(0 * ones):
        return _unknown(channels(top))
    if goes_on(np.nan_to_num(below.constant)):
        return below
    return below._replace(constant=_where(below.constant == 0, below.constant))


def _depthwise(graph: Graph, layer: Layer, below: Signs) -> Signs:
    weights, bias = layer.blobs[0].float64(), bias_of(layer)
    weight_facts = facts(layer)
    constant = _where(weight_facts.zero_outputs | (below.constant == 0), bias)
    values = np.nan_to_num(below.constant)
    shape = graph.bottoms[layer][0].shape
    if (
        values.any()
        and why_not_folded(layer, Affine(np.ones(len(values)), values, 1), shape) is None
    ):
        sums = weights.reshape(len(weights), -1).sum(axis=1)
        constant = np.where(np.isfinite(below.constant), values * sums + bias, constant)
    return _signs(constant, weight_facts.never_positive & below.never_negative)


# -- channels that are there twice -----------------------------------------------------------


def twins(graph: Graph, linked: Dict[Layer, List[Link]]) -> Dict[Version, Indices]:
    """For each channel of each version the first one that always has the same value."""
    names: Dict[Version, Indices] = {}  # equal for channels of equal values
    next_id = 0
    for layer in graph.layers:
        if layer in linked and layer.type in SIDE_BY_SIDE:
            for top in graph.tops[layer]:
                names[top] = np.zeros(channels(top), np.intp)
            for bottom, start, top, at, size in linked[layer]:
                names[top][at : at + size] = names[bottom][start : start + size]
            continue
        for top in graph.tops[layer]:
            first = np.arange(channels(top))
            if layer in linked:
                first = _first_of(layer, [names[bottom] for bottom in graph.bottoms[layer]])
            elif is_dense(graph, layer):
                first = facts(layer).alike
            names[top] = next_id + first
            next_id += len(first)
    return {version: _first_equal(named) for version, named in names.items()}


def _first_equal(named: Indices) -> Indices:
    _, first, places = np.unique(named, return_index=True, return_inverse=True)
    return np.asarray(first[places], np.intp)


def _first_of(layer: Layer, below: Sequence[Indices]) -> Indices:
    """The first channel that a layer makes of equal ones, with equal values of its own."""
    size = len(below[0])
    if any(len(distinct(named)) == size for named in below):
        return np.arange(size)
    parameters = [
        blob.float64().reshape(size, -1) for blob in layer.blobs if _is_per_channel(blob, size)
    ]
    seen: Dict[Tuple[object, ...], int] = {}
    keys = (
        (*(int(named[n]) for named in below), *(values[n].tobytes() for values in parameters))
        for n in range(size)
    )
    return np.array([seen.setdefault(key, n) for n, key in enumerate(keys)], np.intp)


def _is_per_channel(blob: Blob, size: int) -> bool:
    return count(blob.shape) == size or blob.shape[:1] == (size,)

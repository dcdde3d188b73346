"""Layers that compute each value by itself: what moves values may go before or behind them."""

from __future__ import annotations

from typing import List, Sequence, Tuple, Union

from caffe_merge.layers.catalogue import CATALOGUE, POINTWISE, of_family
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason

REACH = 64  # the most layers that are looked through

_TYPES = frozenset((*of_family(POINTWISE), "Power")) - {"PReLU"}  # it has a slope for each channel


def layers_above(graph: Graph, version: Version) -> List[Layer]:
    """The layers, in net order, that end in ``version``, read one another alone and keep shapes."""
    layers: List[Layer] = []
    while len(version.readers) == 1 and _keeps_shape(graph, version.producer, layers):
        layers.insert(0, version.producer)
        version = graph.bottoms[version.producer][0]
    return layers


def layers_below(graph: Graph, version: Version) -> List[Layer]:
    """The same that start with the one reader of ``version``."""
    layers: List[Layer] = []
    while len(version.readers) == 1 and _keeps_shape(graph, version.readers[0][0], layers):
        layers.append(version.readers[0][0])
        version = graph.tops[layers[-1]][0]
    return layers


def _keeps_shape(graph: Graph, layer: Layer, others: Sequence[Layer]) -> bool:
    row = CATALOGUE.get(layer.type)
    ends = len(graph.bottoms[layer]), len(graph.tops[layer])
    return row is not None and row.same_shape and ends == (1, 1) and len(others) < REACH


def in_place_without(
    graph: Graph, layer: Layer, between: Sequence[Layer]
) -> Union[Tuple[Layer, ...], Reason]:
    """Which of ``between``, behind ``layer``, write in place over its bottom once it is gone.

    A Reason if they do not compute each value by itself, or others see what they write now.
    """
    for other in between:
        reason = unknown_fields(other)
        if reason is not None or other.type not in _TYPES:
            what = f"{other.type} {other.name!r} behind it does not compute each value by itself"
            return reason or Reason(what)
    if not between or graph.overwritten_by(graph.tops[between[0]][0]) is None:
        return ()
    source = graph.bottoms[layer][0]
    if len(source.readers) == 1 and graph.is_private(source):
        return (between[0],)
    if shares_memory(layer):
        return Reason(f"others see what {between[0].name!r} writes in place")
    return ()

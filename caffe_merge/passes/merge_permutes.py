"""merge-permutes: a Permute behind a Permute becomes one with it.

    x -> Permute 0 2 3 1 -> Permute 0 2 1 3 -> y        x -> Permute 0 3 2 1 -> y

Axis n of y is axis first[second[n]] of x. Where that is n, both go. Between them may be layers that
compute each value by itself, as ReLU: they stay, and read x.
"""

from __future__ import annotations

from typing import List, Optional, Tuple, Union

from caffe_merge.algebra.orders import composed
from caffe_merge.errors import NetError
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.fork_fields import spec_of, unknown_fields
from caffe_merge.layers.layer import Layer, New, shares_memory
from caffe_merge.layers.shapes.forks import order
from caffe_merge.layers.spec import ForkFields, LayerSpec
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.elementwise import in_place_without, layers_above
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)

FIELD = "permute_param.order"


class MergePermutes(Pass):
    """Composes the orders of consecutive Permutes."""

    name = "merge-permutes"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            row = _row(graph, layer)
            if row is None or findings.have((*row, graph.bottoms[row[0]][0].producer)):
                continue  # or in the next round, where that made other ends meet
            rewrite: Union[Rewrite, Reason] = kept("one of them is")
            if fixed.isdisjoint(row):
                rewrite = _merged(graph, *row)
            if isinstance(rewrite, Reason):
                about = Reason.about(f"behind Permute {row[0].name!r}", rewrite)
                findings.append(Refused(layer, about))
            else:
                findings.add(rewrite)
        return findings


def _row(graph: Graph, layer: Layer) -> Optional[Tuple[Layer, ...]]:
    """Two Permutes, ``layer`` the second, and what is between; None where there are none such."""
    if layer.type != "Permute" or len(graph.bottoms[layer]) != 1:
        return None
    between = layers_above(graph, graph.bottoms[layer][0])
    first = graph.bottoms[between[0] if between else layer][0].producer
    if first.type != "Permute" or len(graph.bottoms[first]) != 1:
        return None
    if shares_memory(first) or shares_memory(layer):
        return None  # drop-identity's
    return (first, *between, layer)


def _merged(graph: Graph, first: Layer, *behind: Layer) -> Union[Rewrite, Reason]:
    *between, second = behind
    for layer in (first, second):
        refusal = unknown_fields(layer)
        if refusal is not None:
            return refusal
        if graph.overwritten_by(graph.tops[layer][0]) is not None:
            return Reason(f"{layer.name!r} is written in place, over what it reads")
    if len(graph.tops[first][0].readers) > 1:
        return Reason("something else reads what is between them")
    in_place = in_place_without(graph, first, between)
    if isinstance(in_place, Reason):
        return in_place
    reason = graph.why_not_move(graph.bottoms[first][0], (first, *behind))
    axes = _composed(first, second) if reason is None else reason
    if isinstance(axes, Reason):
        return axes
    changes: Changes = {layer: (layer.param, layer.blobs) for layer in between}
    note, kept_note = "removed: together they change nothing", ""
    if axes != tuple(range(len(axes))):
        changes[second] = _with_order(second, axes)
        note, kept_note = f"merged into Permute {second.name!r}", f"took in {first.name!r}"
    elif not between:
        return graph.why_not_bypass(first, second) or Rewrite((first, second), {}, note)
    return Rewrite((first, *behind), changes, note, kept_note, in_place=in_place)


def _composed(first: Layer, second: Layer) -> Union[Tuple[int, ...], Reason]:
    """The order that both come to, of as many axes as either names; any further ones stay."""
    named = [axis for layer in (first, second) for axis in ForkFields(layer.extra).integers(FIELD)]
    try:
        orders = [order(spec_of(layer), max(named, default=0) + 1) for layer in (first, second)]
    except NetError as error:
        return Reason(str(error))
    return composed(*orders)


def _with_order(layer: Layer, axes: Tuple[int, ...]) -> New:
    text = " ".join(map(str, axes))
    return LayerSpec(copied(layer.param), {**layer.extra, FIELD: text}), layer.blobs

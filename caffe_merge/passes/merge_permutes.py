"""merge-permutes: a Permute right behind a Permute becomes one with it.

    x -> Permute 0 2 3 1 -> Permute 0 2 1 3 -> y        x -> Permute 0 3 2 1 -> y

Axis n of y is axis first[second[n]] of x. Where that is n, both go.
"""

from typing import List, Optional, Tuple, Union

from caffe_merge.algebra.orders import composed
from caffe_merge.errors import NetError
from caffe_merge.layers.fork_fields import spec_of, unknown_fields
from caffe_merge.layers.layer import Layer, New, shares_memory
from caffe_merge.layers.shapes.forks import order
from caffe_merge.layers.spec import ForkFields, LayerSpec
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite, kept
from caffe_merge.schema.messages import copied

FIELD = "permute_param.order"


class MergePermutes(Pass):
    """Composes the orders of consecutive Permutes."""

    name = "merge-permutes"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            pair = _pair(graph, layer)
            if pair is None or findings.have((*pair, graph.bottoms[pair[0]][0].producer)):
                continue  # or in the next round, where that made other ends meet
            rewrite: Union[Rewrite, Reason] = kept("one of them is")
            if fixed.isdisjoint(pair):
                rewrite = _merged(graph, *pair)
            if isinstance(rewrite, Reason):
                about = Reason.about(f"behind Permute {pair[0].name!r}", rewrite)
                findings.append(Refused(layer, about))
            else:
                findings.add(rewrite)
        return findings


def _pair(graph: Graph, layer: Layer) -> Optional[Tuple[Layer, Layer]]:
    """The Permute that the Permute ``layer`` reads, and it; None where it is or reads no other."""
    if layer.type != "Permute" or len(graph.bottoms[layer]) != 1:
        return None
    first = graph.bottoms[layer][0].producer
    if first.type != "Permute" or len(graph.bottoms[first]) != 1:
        return None
    if shares_memory(first) or shares_memory(layer):
        return None  # drop-identity's
    return first, layer


def _merged(graph: Graph, first: Layer, second: Layer) -> Union[Rewrite, Reason]:
    for layer in (first, second):
        odd = unknown_fields(layer)
        if odd is not None:
            return odd
        if graph.overwritten_by(graph.tops[layer][0]) is not None:
            return Reason(f"{layer.name!r} is written in place, over what it reads")
    (between,) = graph.tops[first]
    if len(between.readers) > 1:
        return Reason("something else reads what is between them")
    reason = graph.why_not_move(graph.bottoms[first][0], (first, second))
    axes = _composed(first, second) if reason is None else reason
    if isinstance(axes, Reason):
        return axes
    if axes == tuple(range(len(axes))):
        note = "removed: together they change nothing"
        return graph.why_not_bypass(first, second) or Rewrite((first, second), {}, note)
    return Rewrite(
        layers=(first, second),
        changes={second: _with_order(second, axes)},
        note=f"merged into Permute {second.name!r}",
        kept_note=f"took in {first.name!r}",
    )


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

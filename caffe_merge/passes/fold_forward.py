"""fold-forward: affine layers that cannot go back into what feeds them go on into what reads them.

    x -> Scale -> Convolution W, b -> y        x -> Convolution W', b' -> y

    W'[o, i] = W[o, i] scale[i]        b' = b + sum over i, t of W[o, i, t] shift[i]

Every reader must take it in: Convolution, InnerProduct and Scale, and Deconvolution where there is
no shift. ReLU, PReLU, Pooling, Flatten, Concat and Slice hand it on to their own readers where what
they give out is the same map of what they would give out without it.
"""

from typing import Any, Dict, List, Optional, Set, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.layers.per_channel import affine as affine_of
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes._forwards import handed_on, taken_in, why_not
from caffe_merge.passes._pass import Found, Pass, Refused, Rewrite
from caffe_merge.passes._runs import Run, quoted, runs
from caffe_merge.passes.one_scale import as_scale


class FoldForward(Pass):
    """Folds runs of affine layers forwards."""

    name = "fold-forward"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        used: Set[Layer] = set()
        fixed = self.fixed(graph)
        for run in runs(graph, self.keep)[0]:
            answer = _forwards(graph, run, fixed)
            if isinstance(answer, Reason):
                found += [Refused(layer, f"forwards: {answer}") for layer in run.layers]
            elif used.isdisjoint(answer.layers):
                found.append(answer)
                used.update(answer.layers)
        return found


def _forwards(graph: Graph, run: Run, fixed: Set[Layer]) -> Union[Rewrite, Reason]:
    source, end = run.source, graph.tops[run.layers[-1]][0]
    affine = run.affine
    if affine.axis not in (None, 1):
        return Reason(f"it acts along axis {affine.axis}")
    if affine.axis is None:
        if source.shape is None or len(source.shape) < 2:
            return Reason("the number of its channels is not known")
        affine = affine.over(source.shape[1], 1)
    in_place = any(graph.tops[layer][0].name == source.name for layer in run.layers)
    if in_place and not graph.is_private(source):
        return Reason(f"it is written over {source.name!r}, which keeps its name")
    alias = graph.why_not_alias(run.layers)
    if alias is not None:
        return Reason(alias)
    changes = _flow(graph, end, affine, fixed)
    if isinstance(changes, Reason):
        return changes
    region = {*run.layers, *changes}
    takers = [layer for layer in changes if layer.type in (*LINEAR_TYPES, "Scale")]
    return Rewrite(
        layers=graph.in_order(region),
        changes=changes,
        note="folded forwards into " + quoted([layer.name for layer in takers]),
        kept_note="took in " + quoted([layer.name for layer in run.layers]),
    )


def _flow(
    graph: Graph, end: Version, affine: Affine, fixed: Set[Layer]
) -> Union[Dict[Layer, Any], Reason]:
    """The layers that ``affine`` reaches from ``end`` on, as they are to be."""
    changes: Dict[Layer, Any] = {}
    maps: Dict[Version, Affine] = {end: affine}
    takers: Dict[Layer, Affine] = {}
    if end.is_output:
        return Reason(f"{end.name!r} is a net output")
    for layer in graph.layers:
        bottoms, tops = graph.bottoms[layer], graph.tops[layer]
        if not any(bottom in maps for bottom in bottoms):
            continue
        if layer in fixed:
            return Reason(f"layer {layer.name!r}, which reads it, is kept as asked with --keep")
        shapes = [bottom.shape for bottom in bottoms]
        if layer.type in LINEAR_TYPES and len(bottoms) == 1:
            refusal = why_not(layer, maps[bottoms[0]], shapes[0])
            if refusal is not None:
                return _of(layer, refusal)
            takers[layer] = maps[bottoms[0]]
            continue
        own = affine_of(layer, bottoms[0].rank) if layer.type == "Scale" else None
        if isinstance(own, Affine):
            if own.axis not in (None, 1):
                return _of(layer, Reason(f"it acts along axis {own.axis}"))
            changes[layer] = as_scale(layer, maps[bottoms[0]].then(own))
            continue
        before: List[Optional[Affine]] = [maps.get(bottom) for bottom in bottoms]
        after = handed_on(layer, before, shapes, [top.shape for top in tops])
        if isinstance(after, Reason):
            return _of(layer, after)
        changes[layer] = (layer.param, layer.blobs)
        for top, one in zip(tops, after):
            if one is None:
                continue
            if top.is_output:
                return Reason(f"{top.name!r} is a net output")
            maps[top] = one
    return {**changes, **{layer: taken_in(layer, one) for layer, one in takers.items()}}


def _of(layer: Layer, why: Reason) -> Reason:
    return Reason(f"{layer.type} {layer.name!r} reads it: {why}")

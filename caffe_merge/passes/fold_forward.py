"""fold-forward: affine layers that cannot fold into their producer fold into their consumers.

    x -> Scale -> Convolution W, b -> y        x -> Convolution W', b' -> y

    W'[o, i] = W[o, i] scale[i]        b' = b + sum over i, t of W[o, i, t] shift[i]

Every reader must be one that it folds into: Convolution, InnerProduct and Scale, and Deconvolution
where there is no shift. Through what moves or resizes values, ReLU, PReLU, Pooling and products the
map goes on to their own readers, where the layer commutes with it: f(scale x + shift) = scale' f(x)
+ shift'. Who reads only the shape, as a Crop may, reads it as it is. A net input that was written
over has its name and shape still, and in the end what came in.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Shape
from caffe_merge.errors import Text
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.layers.per_channel import affine_of, as_scale
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import OUTPUT, SHAPE, Reason
from caffe_merge.passes.rewriting.affine_propagation import Maps, forward_maps
from caffe_merge.passes.rewriting.affine_runs import Run, runs
from caffe_merge.passes.rewriting.forward_folding import (
    along_channels,
    folded_forward,
    why_not_folded,
)
from caffe_merge.passes.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite, kept
from caffe_merge.wording import named


class FoldForward(Pass):
    """Folds runs of affine layers forwards."""

    name = "fold-forward"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for run in runs(graph, self.keep)[0]:
            rewrite = _forwards(graph, run, fixed)
            if isinstance(rewrite, Reason):
                findings += [
                    Refused(layer, Reason.about("forwards", rewrite)) for layer in run.layers
                ]
            else:
                findings.add(rewrite)
        return findings


def _forwards(graph: Graph, run: Run, fixed: Set[Layer]) -> Union[Rewrite, Reason]:
    source, end = run.source, graph.tops[run.layers[-1]][0]
    affine = run.affine
    if affine.axis not in (None, 1):
        return Reason(f"it acts along axis {affine.axis}")
    if affine.axis is None:
        if source.shape is None or len(source.shape) < 2:
            return Reason("the number of its channels is not known", SHAPE)
        affine = affine.over(source.shape[1], 1)
    in_place = any(graph.tops[layer][0].name == source.name for layer in run.layers)
    if in_place and not graph.may_lose_name(source):
        return Reason(f"it is written over {source.name!r}, which keeps its name")
    alias = graph.why_not_alias(run.layers)
    if alias is not None:
        return Reason(alias)
    changes = propagate(graph, end, affine, fixed)
    if isinstance(changes, Reason):
        return changes
    region = {*run.layers, *changes}
    consumers = [layer for layer in changes if layer.type in (*LINEAR_TYPES, "Scale")]
    return Rewrite(
        layers=graph.in_order(region),
        changes=changes,
        note="folded forwards into " + named([layer.name for layer in consumers]),
        kept_note="took in " + named([layer.name for layer in run.layers]),
    )


def propagate(
    graph: Graph, end: Version, affine: Affine, fixed: Set[Layer]
) -> Union[Dict[Layer, New], Reason]:
    """The new parameters and blobs of all layers that ``affine`` reaches from ``end`` on."""
    changes: Dict[Layer, New] = {}
    maps: Dict[Version, Affine] = {end: affine}
    consumers: Dict[Layer, Affine] = {}
    if end.is_output:
        return Reason(f"{end.name!r} is a net output", OUTPUT, minor=True)
    for layer in graph.layers:
        bottoms, tops = graph.bottoms[layer], graph.tops[layer]
        if not any(bottom in maps for bottom in bottoms):
            continue
        if layer in fixed:
            return kept(f"layer {layer.name!r}, which reads it, is")
        if layer.type in LINEAR_TYPES and len(bottoms) == 1:
            before = _before(layer, maps[bottoms[0]], bottoms[0].shape)
            if isinstance(before, Reason):
                return _refused_by(layer, before)
            consumers[layer] = before
            continue
        scale = affine_of(layer, bottoms[0].rank) if layer.type == "Scale" else None
        if isinstance(scale, Affine):
            before = maps[bottoms[0]]
            if scale.axis not in (None, before.axis):
                return _refused_by(layer, Reason(f"it acts along axis {scale.axis}"))
            changes[layer] = as_scale(layer, before.then(scale))
            continue
        bottom_maps: Maps = [maps.get(bottom) for bottom in bottoms]
        shapes = [bottom.shape for bottom in bottoms]
        top_maps = forward_maps(layer, bottom_maps, shapes, [top.shape for top in tops])
        if isinstance(top_maps, Reason):
            return _refused_by(layer, top_maps)
        changes[layer] = (layer.param, layer.blobs)
        for top, map_ in zip(tops, top_maps):
            if map_ is None:
                continue
            if top.is_output:
                return Reason(f"{top.name!r} is a net output", OUTPUT, minor=True)
            maps[top] = map_
    return {**changes, **{layer: folded_forward(layer, map_) for layer, map_ in consumers.items()}}


def _before(layer: Layer, affine: Affine, bottom: Optional[Shape]) -> Union[Affine, Reason]:
    """The map of the bottom of a linear ``layer`` along its channels, if it can take it in."""
    before = along_channels(layer, affine, bottom)
    if isinstance(before, Reason):
        return before
    refusal = why_not_folded(layer, before, bottom)
    return before if refusal is None else refusal


def _refused_by(layer: Layer, why: Reason) -> Reason:
    return Reason(Text(f"{layer.type} {layer.name!r} reads it: ", why))

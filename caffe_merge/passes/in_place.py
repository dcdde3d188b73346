"""in-place: a layer that may overwrite its bottom does, which saves the memory of one blob.

    x -> Convolution -> a -> ReLU -> b        x -> Convolution -> b -> ReLU -> b

Only where ``--in-place`` asks for it, as ``a`` is then gone from what can be looked at. Nobody else
may read ``a``, and its memory may be neither that of a net input nor one that another layer reads.
"""

from __future__ import annotations

from typing import List, Optional

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.catalogue import that
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import INPUT, READERS, Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from caffe_merge.wording import named

TYPES = that("in_place")


class InPlace(Pass):
    """Has layers write over their bottom (--in-place)."""

    name = "in-place"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        for layer in graph.layers:
            if layer.type not in TYPES or _writes_in_place(graph, layer):
                continue
            reason = KEPT_AS_ASKED if layer.name in self.keep else _why_not(graph, layer)
            if reason is not None:
                findings.append(Refused(layer, reason))
                continue
            over = graph.bottoms[layer][0].name
            findings.append(
                Rewrite(
                    layers=(layer,),
                    changes={layer: (copied(layer.param), layer.blobs)},
                    note="",
                    kept_note=f"writes over its bottom, which was {over!r}",
                    in_place=(layer,),
                )
            )
        return findings


def _writes_in_place(graph: Graph, layer: Layer) -> bool:
    return any(graph.overwritten_by(top) is not None for top in graph.tops[layer])


def _why_not(graph: Graph, layer: Layer) -> Optional[Reason]:
    """Why ``layer`` cannot write over its bottom; None if it can."""
    reason = unknown_fields(layer)
    if reason is not None:
        return reason
    if len(graph.bottoms[layer]) != 1 or len(graph.tops[layer]) != 1:
        return Reason("it has not one bottom and one top")
    (bottom,) = graph.bottoms[layer]
    others = [reader.name for reader, _ in bottom.readers if reader is not layer]
    if others:
        return Reason(f"its bottom {bottom.name!r} is read by {named(others)} as well", READERS)
    if graph.first_write(bottom).is_input:
        return Reason(f"its bottom {bottom.name!r} is a net input", INPUT, minor=True)
    if not graph.may_lose_name(bottom):
        return Reason(f"the memory of its bottom {bottom.name!r} is that of another blob too")
    return None

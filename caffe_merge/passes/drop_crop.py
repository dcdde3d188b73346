"""drop-crop: removes a Crop that keeps all of its input.

    x -> Crop to the size of r -> y        x = y, where r has the size of x

It must be so whatever the size of the net's input is: the sizes of both are followed up to one blob
(rewriting/axis_sizes.py) and must come to the same function of its size, also where that is smaller
than a kernel on the way. The Crop of a FCN, behind a Deconvolution that gives out more than came
in, stays.
"""

from __future__ import annotations

from typing import List, Optional, Set

from caffe_merge.errors import NetError
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.outputs import crop_offsets
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import OUTPUT, Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.axis_sizes import size_of
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite


class DropCrop(Pass):
    """Removes Crops to the size that a blob has already."""

    name = "drop-crop"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        used: Set[Version] = set()
        for layer in graph.layers:
            if layer.type != "Crop" or not _is_whole(graph, layer):
                continue
            reference = graph.bottoms[layer][1]
            reason = KEPT_AS_ASKED if layer.name in self.keep else _why_not(graph, layer)
            if reason is not None:
                findings.append(Refused(layer, reason))
            elif reference not in used:  # else in the next round, if it has other readers then
                findings.append(Rewrite((layer,), {}, "removed: it takes all of what it reads"))
                used.add(reference)
        return findings


def _is_whole(graph: Graph, layer: Layer) -> bool:
    """Whether its top has the shape of its bottom, at the size of the text."""
    (bottom, *_), (top,) = graph.bottoms[layer], graph.tops[layer]
    return bottom.shape is not None and bottom.shape == top.shape


def _why_not(graph: Graph, layer: Layer) -> Optional[Reason]:
    reason = unknown_fields(layer)
    if reason is not None:
        return reason
    bottom, reference = graph.bottoms[layer]
    assert bottom.shape is not None
    try:
        start, offsets = crop_offsets(layer, bottom.shape)
    except NetError as error:
        return Reason(str(error))
    if any(offsets):
        return Reason("its offset is not 0")
    for axis in range(start, len(bottom.shape)):
        if size_of(graph, bottom, axis) != size_of(graph, reference, axis):
            return Reason(f"at another size of the net's input it may crop axis {axis}")
    if all(reader is layer for reader, _ in reference.readers) and reference is not bottom:
        return Reason(
            f"{reference.name!r}, whose size it reads, would be a net output then", OUTPUT
        )
    return graph.why_not_bypass(layer)

"""Applies a rewrite to the graph: removes and moves layers, reconnects bottoms, names blobs.

Validation compares blobs by name, and so do users: a blob that keeps its name keeps its values. A
blob inside the rewrite whose values change gets a name that no blob of the net had before.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Set

from caffe_merge.layers.catalogue import that
from caffe_merge.net.graph import Graph, Version
from caffe_merge.passes.rewriting.rewrite import Rewrite

IN_PLACE = that("in_place")  # types that rewrites keep and that may write in place


def free_name(name: str, taken: Set[str]) -> str:
    """``name``, with a number appended if it is ``taken``; adds the result to ``taken``."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}{number}"
    taken.add(candidate)
    return candidate


def rewire(graph: Graph, rewrite: Rewrite) -> None:
    """Give the layers that ``rewrite`` keeps their new bottoms, and remove or move the others."""
    taken_out = rewrite.taken_out
    outputs = graph.outputs_of(rewrite.layers)
    outside = {end.name for end in outputs}
    inside = {top.name for layer in rewrite.layers for top in graph.tops[layer]} - outside
    names = {graph.replacement_of(end, taken_out, rewrite.reads): end.name for end in outputs}
    assert len(names) == len(outputs), "two ends of a rewrite would be one blob"
    for version, end in zip(names, outputs):
        version.shape = end.shape
    for insert in rewrite.inserts:
        if insert.layer not in taken_out:
            graph.insert(*insert)
    inputs = graph.inputs_of(rewrite.layers)
    not_overwritten = _not_overwritten(graph, rewrite, inputs)
    for layer, numbers in rewrite.reads.items():
        graph.keep_bottoms(layer, numbers)
    for layer in reversed(taken_out):
        if any(top in outputs or top.readers for top in graph.tops[layer]):
            graph.bypass(layer, rename=False)
        else:
            graph.remove(layer)
    _name(graph, rewrite, names)
    for layer, (param, _) in rewrite.changes.items():
        overwritten = graph.overwritten_by(graph.tops[layer][0])
        if overwritten is not None and param.type == "Convolution":
            graph.rename_all(
                overwritten, graph.unused_name(overwritten)
            )  # it cannot write in place
    for version in inputs:
        if version.name not in inside or version.is_input:
            continue  # an input keeps its name, and what came in
        # A removed layer wrote over it in place: the name stood for the result, not for this.
        (reader, _), *others = version.readers
        in_place = reader.type in IN_PLACE and not others
        graph.rename_all(
            version, graph.tops[reader][0].name if in_place else graph.unused_name(version)
        )
        _rename_above(graph, version)
    for layer in rewrite.in_place:
        (bottom,) = graph.bottoms[layer]
        graph.rename_all(bottom, graph.tops[layer][0].name)
        _rename_above(graph, bottom)
    for version in not_overwritten:
        # A removed layer kept its memory apart from that of a Flatten or the like further down.
        if any(write.name != version.name for write in graph.later_writes(version)):
            graph.rename_all(version, graph.unused_name(version))
    for insert in rewrite.inserts:
        if insert.layer in taken_out:
            graph.insert(*insert)


def _rename_above(graph: Graph, version: Version) -> None:
    """Rename the blobs in whose memory ``version`` is: in the end they hold other values now."""
    for above in graph.memory_of(version)[1:]:
        graph.rename_all(above, graph.unused_name(above))


def _not_overwritten(graph: Graph, rewrite: Rewrite, inputs: Sequence[Version]) -> List[Version]:
    """Those of ``inputs`` whose memory no later layer writes over; the rewrite has none do so."""
    written_over = [graph.bottoms[layer][0] for layer in rewrite.in_place]
    return [
        version
        for version in inputs
        if version not in written_over and not graph.later_writes(version)
    ]


def _name(graph: Graph, rewrite: Rewrite, names: Dict[Version, str]) -> None:
    """Give the outputs of the rewrite their old ``names``, and all blobs inside it new ones.

    Layers that wrote in place still do.
    """
    done: Set[Version] = set()
    for layer in reversed([layer for layer in rewrite.layers if layer in rewrite.changes]):
        for top in graph.tops[layer]:
            if top in done:
                continue
            name = names.get(top) or graph.unused_name(top)
            version: Optional[Version] = top
            while version is not None and version.producer in rewrite.changes:
                done.add(version)
                overwritten = graph.overwritten_by(version)
                graph.rename(version, name)
                version = overwritten

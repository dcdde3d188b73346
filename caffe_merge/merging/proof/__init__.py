"""The proof of one rewrite: old and new layers, run in float64 on a small random patch."""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence, Tuple

from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers.catalogue import POOLING, of_family
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.merging.proof import paths
from caffe_merge.merging.proof.sampling import LIMIT as LIMIT
from caffe_merge.merging.proof.sampling import Changes
from caffe_merge.merging.proof.wiring import wiring
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.rewrite import Insert

_WINDOWS = (*LINEAR_TYPES, *of_family(POOLING))


def prove(
    graph: Graph,
    layers: Sequence[Layer],
    changes: Changes,
    reads: Mapping[Layer, Tuple[int, ...]],
    inserts: Sequence[Insert] = (),
) -> Optional[str]:
    """Run ``layers`` of ``graph`` before and after a rewrite; what differs, None if nothing does.

    ``changes``, ``reads`` and ``inserts`` are those of a Rewrite (passes/rewriting/rewrite.py).
    """
    for part in _parts(graph, layers):
        wired = wiring(graph, part, changes, reads, inserts)
        if isinstance(wired, Reason):
            return str(wired)
        try:
            if not inserts and _is_path(graph, part) and _stays_linear(part, changes):
                failure = paths.prove(part, changes, graph.bottoms[part[0]][0].rank)
            else:
                from caffe_merge.merging.proof import regions

                failure = regions.prove(wired)
        except CaffeMergeError:
            from caffe_merge.merging.proof import whole

            failure = whole.prove(wired)
        if failure is not None:
            return failure
    return None


def _parts(graph: Graph, layers: Sequence[Layer]) -> List[List[Layer]]:
    """``layers`` in connected groups, each in the order of ``layers``."""
    parts: List[Tuple[List[Layer], List[Version]]] = []
    for layer in layers:
        joined: List[Layer] = []
        tops: List[Version] = list(graph.tops[layer])
        apart = []
        for part in parts:
            if any(bottom in part[1] for bottom in graph.bottoms[layer]):
                joined += part[0]
                tops += part[1]
            else:
                apart.append(part)
        parts = [*apart, ([*joined, layer], tops)]
    place = {layer: number for number, layer in enumerate(layers)}
    return [sorted(part, key=place.__getitem__) for part, _ in parts]


def _stays_linear(layers: Sequence[Layer], changes: Changes) -> bool:
    """Whether each changed layer is linear before and after, or neither."""
    kinds = ((layer.type, changes[layer][0].type) for layer in layers if layer in changes)
    return all((old in LINEAR_TYPES) == (new in LINEAR_TYPES) for old, new in kinds)


def _is_path(graph: Graph, layers: Sequence[Layer]) -> bool:
    """Whether each layer feeds only the next, and none but the first has a window."""
    for before, layer in zip(layers, layers[1:]):
        if graph.bottoms[layer] != graph.tops[before] or layer.type in _WINDOWS:
            return False
    return len(graph.bottoms[layers[0]]) == 1

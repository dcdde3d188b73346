"""A rewrite in the graph: what goes, what reads what, and names that mean what they did.

Validation compares blobs by name, and so do users: a blob that keeps its name keeps its values. A
blob between the layers of a rewrite whose values change gets a name that the net never had.
"""

from typing import Dict, Optional, Set

from caffe_merge.net.graph import Graph, Version
from caffe_merge.passes._pass import Rewrite

IN_PLACE = ("PReLU", "ReLU", "Scale")  # of those that rewrites keep, they may write over a bottom


def rewire(graph: Graph, rewrite: Rewrite) -> None:
    """Make the layers that ``rewrite`` keeps read what they are to read, and the others go."""
    removed = rewrite.removed
    ends = graph.ends(rewrite.layers)
    outside = {end.name for end in ends}
    inside = {top.name for layer in rewrite.layers for top in graph.tops[layer]} - outside
    names = {graph.stand_in(end, removed, rewrite.reads): end.name for end in ends}
    assert len(names) == len(ends), "two ends of a rewrite would be one blob"
    for version, end in zip(names, ends):
        version.shape = end.shape
    sources = graph.sources(rewrite.layers)
    for layer, numbers in rewrite.reads.items():
        graph.keep_bottoms(layer, numbers)
    for layer in reversed(removed):
        if any(top in ends or top.readers for top in graph.tops[layer]):
            graph.bypass(layer, rename=False)
        else:
            graph.remove(layer)
    _name(graph, rewrite, names)
    for layer, (param, _) in rewrite.changes.items():
        below = graph.below(graph.tops[layer][0])
        if below is not None and param.type == "Convolution":
            graph.rename_all(below, graph.fresh(below))  # it cannot write in place
    for source in sources:
        if source.name not in inside:
            continue
        # A layer that goes wrote over it in place: under this name nobody may find it now.
        (reader, _), *others = source.readers
        in_place = reader.type in IN_PLACE and not others
        graph.rename_all(source, graph.tops[reader][0].name if in_place else graph.fresh(source))


def _name(graph: Graph, rewrite: Rewrite, names: Dict[Version, str]) -> None:
    """Give the ends (``names``) their old names, and what lies between new ones.

    Layers that write in place go on to do so.
    """
    done: Set[Version] = set()
    for layer in reversed([layer for layer in rewrite.layers if layer in rewrite.changes]):
        for top in graph.tops[layer]:
            if top in done:
                continue
            name = names.get(top) or graph.fresh(top)
            one: Optional[Version] = top
            while one is not None and one.producer in rewrite.changes:
                done.add(one)
                below = graph.below(one)
                graph.rename(one, name)
                one = below

"""The layers of a rewrite as they are wired, before and after, in the reference layers' terms."""

from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple, Union

from caffe_merge.layers.layer import Layer
from caffe_merge.layers.standard import standard
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.proof.sampling import Changes, changed
from caffe_merge.weights.blobs import Blob

Reads = Mapping[Layer, Tuple[int, ...]]


class Node(NamedTuple):
    """A layer in the reference layers' terms, and the versions it reads and writes."""

    param: Any
    blobs: Sequence[Blob]
    bottoms: Tuple[Version, ...]
    tops: Tuple[Version, ...]


class Wiring(NamedTuple):
    """A region before and after a rewrite, what it reads of others and what it gives out.

    ``new_outputs`` are the versions that take the place of ``outputs``, in the same order.
    """

    old: List[Node]
    new: List[Node]
    sources: List[Version]
    outputs: List[Version]
    new_outputs: List[Version]


def wiring(
    graph: Graph, region: Sequence[Layer], changes: Changes, reads: Reads
) -> Union[Wiring, Reason]:
    """The ``region`` of ``graph`` as it is and as it will be; or why a layer cannot be run."""
    old, new = [], []
    removed = [layer for layer in region if layer not in changes]
    for layer in region:
        bottoms, tops = graph.bottoms[layer], tuple(graph.tops[layer])
        before, after = standard(layer), changed(layer, changes)
        for reason in (before, after):
            if isinstance(reason, Reason):
                return Reason(f"layer {layer.name!r} cannot be run: {reason}")
        assert not isinstance(before, Reason)
        assert not isinstance(after, Reason)
        old.append(Node(*before, tuple(bottoms), tops))
        if after is not None:
            numbers = reads.get(layer, range(len(bottoms)))
            read = tuple(
                graph.replacement_of(bottoms[number], removed, reads) for number in numbers
            )
            new.append(Node(*after, tuple(read), tops))
    outputs = graph.outputs_of(region)
    new_outputs = [graph.replacement_of(output, removed, reads) for output in outputs]
    return Wiring(old, new, graph.inputs_of(region), outputs, new_outputs)

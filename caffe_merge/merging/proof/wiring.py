"""The layers of a rewrite as they are wired, before and after, in a form the reference runs."""

from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple, Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.layers.catalogue import WINDOWED
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.layers.standard import standard
from caffe_merge.merging.proof.sampling import Changes, changed
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.rewrite import Insert

Reads = Mapping[Layer, Tuple[int, ...]]


class Node(NamedTuple):
    """A layer in a form that the reference runs, and the versions that it reads and writes."""

    spec: LayerSpec
    blobs: Sequence[Blob]
    bottoms: Tuple[Version, ...]
    tops: Tuple[Version, ...]


class Wiring(NamedTuple):
    """A region before and after a rewrite, its inputs and its outputs.

    ``new_outputs`` are the versions that replace ``outputs``, in the same order.
    """

    old: List[Node]
    new: List[Node]
    inputs: List[Version]
    outputs: List[Version]
    new_outputs: List[Version]


def _keeps_window(layer: Layer, new: Any) -> bool:
    """Whether the new parameters leave a window alone that is a fork's and not known.

    Such a layer is run with the window that BVLC's fields give: what is true of one holds for all.
    """
    if layer.type not in WINDOWED or unknown_fields(layer) is None:
        return True
    old, new = copied(layer.param.convolution_param), copied(new.convolution_param)
    for param in (old, new):
        param.ClearField("bias_term")
    return bool(old == new)


def wiring(
    graph: Graph,
    region: Sequence[Layer],
    changes: Changes,
    reads: Reads,
    inserts: Sequence[Insert] = (),
) -> Union[Wiring, Reason]:
    """The ``region`` of ``graph`` before and after a rewrite; or why a layer cannot be run."""
    old_nodes, new_nodes = [], []
    removed = [layer for layer in region if layer not in changes]
    for layer in region:
        bottoms, tops = graph.bottoms[layer], tuple(graph.tops[layer])
        old_form, new_form = standard(layer, any_window=True), changed(layer, changes)
        for form in (old_form, new_form):
            if isinstance(form, Reason):
                return Reason(f"layer {layer.name!r} cannot be run: {form}")
        assert not isinstance(old_form, Reason)
        assert not isinstance(new_form, Reason)
        if layer in changes and not _keeps_window(layer, changes[layer][0]):
            return Reason(f"layer {layer.name!r} would get another window, and its own is a fork's")
        old_nodes.append(Node(*old_form, tuple(bottoms), tops))
        if new_form is not None:
            numbers = reads.get(layer, range(len(bottoms)))
            new_bottoms = [
                graph.replacement_of(bottoms[number], removed, reads) for number in numbers
            ]
            for insert in inserts:
                if insert.reader is layer:
                    read = [new_bottoms[number] for number in (insert.number, *insert.more)]
                    new_nodes.append(_inserted(insert, read))
                    new_bottoms[insert.number] = new_nodes[-1].tops[0]
                    new_bottoms = [b for at, b in enumerate(new_bottoms) if at not in insert.more]
            new_nodes.append(Node(*new_form, tuple(new_bottoms), tops))
    outputs = graph.outputs_of(region)
    new_outputs = [graph.replacement_of(output, removed, reads) for output in outputs]
    return Wiring(old_nodes, new_nodes, graph.inputs_of(region), outputs, new_outputs)


def _inserted(insert: Insert, bottoms: Sequence[Version]) -> Node:
    form = standard(insert.layer)
    assert not isinstance(form, Reason), "a pass makes only layers that the reference runs"
    return Node(*form, tuple(bottoms), (Version("", insert.layer, 0),))

"""Keeps blobs shared by ``param { name }`` consistent when rewrites change them, or unshares them.

    a: W -> BN 1, b: W -> BN 1        a: W', b: W'            one name, one blob
    a: W -> BN 1, b: W -> BN 2        a: W1, b: W2            no name, each its own
    a: W -> BN 1, b: W -> ReLU        a: W1, b: W -> ReLU     no name for a

In Caffe the blobs of one name are one piece of memory, and the last layer of the file sets its
values (net.cpp: AppendParam, ShareWeights, CopyTrainedLayersFrom). So a name may stay only where
all layers that use it have the same values. Passes rewrite layers as if they shared nothing; here
their rewrites are grouped, or the name is dropped. A new bias is never shared: that would need
equal lr_mult, and would save one value per channel.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from caffe_merge.arrays import count
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Blob, same_values
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.net.shared import shared_blobs
from caffe_merge.passes.rewriting.rewrite import Changes, Rewrite
from caffe_merge.wording import named

Slot = Tuple[Layer, int]  # a blob of a layer, by number
Names = Dict[str, List[Slot]]


class Batch(NamedTuple):
    """Rewrites to apply together or not at all.

    ``unshares`` says which weights would no longer be shared; None if all would.
    """

    rewrites: List[Rewrite]
    unshares: Optional[str]


class Unshared(NamedTuple):
    """A ``param { name }`` that is now several blobs of ``layers``, of ``bytes`` more than one."""

    name: str
    layers: Tuple[str, ...]
    bytes: int


def batches(graph: Graph, rewrites: Sequence[Rewrite]) -> List[Batch]:
    """``rewrites`` in batches such that any choice of batches keeps the blobs of a name equal."""
    if not rewrites:
        return []
    names = shared_blobs(graph.layers)
    taken = set(names)
    rewrite_of = {layer: n for n, rewrite in enumerate(rewrites) for layer in rewrite.layers}
    sharers = {layer for slots in names.values() for layer, _ in slots}
    new: Changes = {
        layer: (copied(param) if layer in sharers else param, blobs)
        for rewrite in rewrites
        for layer, (param, blobs) in rewrite.changes.items()
    }
    batches = [{number} for number in range(len(rewrites))]
    left_behind: Dict[Layer, List[str]] = {}  # the layers that a layer no longer shares with
    for name, slots in names.items():
        for alike in _alike(name, slots, new):
            together = {rewrite_of[layer] for layer, _ in alike}
            batches = _joined(batches, together)
            removed = {layer for number in together for layer in rewrites[number].removed}
            others = [slot for slot in slots if slot not in alike and slot[0] not in removed]
            if not others:
                continue
            label = _free_name(name, taken) if len(alike) > 1 else ""
            for layer, number in alike:
                _rename(new[layer][0], number, label)
                left_behind.setdefault(layer, []).extend(other.name for other, _ in others)
    unshared_from = {
        layer: named(list(dict.fromkeys(others))) for layer, others in left_behind.items()
    }
    members = [[rewrites[number] for number in sorted(batch)] for batch in sorted(batches, key=min)]
    return [_batch(part, new, unshared_from) for part in members]


def _alike(name: str, slots: Sequence[Slot], new: Changes) -> List[List[Slot]]:
    """The ``slots`` that get new values, grouped by equal values."""
    groups: List[Tuple[Optional[Blob], List[Slot]]] = []
    for layer, number in slots:
        if layer not in new:
            continue
        param, blobs = new[layer]
        blob = None
        if [spec.name for spec in param.param[number : number + 1]] == [name]:
            blob = blobs[number]
            if same_values(blob, layer.blobs[number]):
                continue
        same = [held for other, held in groups if blob and other and same_values(blob, other)]
        if same:
            same[0].append((layer, number))
        else:
            groups.append((blob, [(layer, number)]))
    return [held for _, held in groups]


def _joined(batches: List[Set[int]], together: Set[int]) -> List[Set[int]]:
    """``batches`` with all that hold one of ``together`` made one."""
    apart = [batch for batch in batches if not batch & together]
    return [*apart, together.union(*(batch for batch in batches if batch & together))]


def _free_name(name: str, taken: Set[str]) -> str:
    """A new name derived from ``name`` that is not ``taken``; it is taken afterwards."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _rename(param: Any, number: int, label: str) -> None:
    """Give the blob of that number the shared name ``label``; none if that is empty."""
    for spec in param.param[number : number + 1]:
        if label:
            spec.name = label
        else:
            spec.ClearField("name")
            spec.ClearField("share_mode")


def _batch(rewrites: List[Rewrite], new: Changes, unshared_from: Dict[Layer, str]) -> Batch:
    """``rewrites`` with the changes ``new``.

    ``unshared_from`` names for a layer those that it no longer shares weights with.
    """
    changed: List[Rewrite] = []
    sentences: List[str] = []
    for rewrite in rewrites:
        pairs = [
            (layer.name, unshared_from[layer])
            for layer in rewrite.changes
            if layer in unshared_from
        ]
        sentences += [f"layer {name!r} shares its weights with {others}" for name, others in pairs]
        tail = "".join(f"; {name!r} no longer shares weights with {who}" for name, who in pairs)
        changes = {layer: new[layer] for layer in rewrite.changes}
        note, kept = (text and text + tail for text in (rewrite.note, rewrite.kept_note))
        changed.append(rewrite._replace(changes=changes, note=note, kept_note=kept))
    return Batch(changed, next(iter(sentences), None))


def unshared(names: Names, graph: Graph) -> List[Unshared]:
    """What became of ``names`` (shared_blobs of the layers that there were) in bytes."""
    live = set(graph.layers)
    unshared_names = []
    for name, slots in names.items():
        present = [slot for slot in slots if slot[0] in live and slot[1] < len(slot[0].blobs)]
        sizes: Dict[object, int] = {}
        for layer, number in present:
            specs = layer.param.param[number : number + 1]
            label = specs[0].name if specs else ""
            blob = layer.blobs[number]
            sizes[label or (layer, number)] = count(blob.shape) * blob.dtype.itemsize
        if len(sizes) > 1:
            layers = tuple(dict.fromkeys(layer.name for layer, _ in present))
            unshared_names.append(Unshared(name, layers, sum(sizes.values()) - max(sizes.values())))
    return unshared_names

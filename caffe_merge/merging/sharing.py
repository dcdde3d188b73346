"""Blobs shared by ``param { name }``, through rewrites: they stay shared, or are unshared.

    a: W -> BN 1, b: W -> BN 1        a: W', b: W'            one name, one blob
    a: W -> BN 1, b: W -> BN 2        a: W1, b: W2            no name, each its own
    a: W -> BN 1, b: W -> ReLU        a: W1, b: W -> ReLU     no name for a

In Caffe the blobs of one name are one piece of memory, and whichever layer of the file comes last
sets its values (net.cpp: AppendParam, ShareWeights, CopyTrainedLayersFrom). So a name may stay only
where all who have it hold the same values. Passes rewrite layers as if they shared nothing; here
their rewrites are brought together, or names dropped. A bias that a layer gets is its own: a shared
one would have to agree on lr_mult too, and would save one value a channel.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from caffe_merge.arrays import count
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.net.joining import shared_blobs
from caffe_merge.passes._pass import Changes, Rewrite
from caffe_merge.passes._runs import quoted
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import Blob, same_values

Slot = Tuple[Layer, int]  # a blob of a layer, by number
Names = Dict[str, List[Slot]]


class Batch(NamedTuple):
    """Rewrites to make together or not at all; ``parted`` says who would share no more by them."""

    rewrites: List[Rewrite]
    parted: str


class Unshared(NamedTuple):
    """A ``param { name }`` whose ``layers`` hold several blobs now, of ``bytes`` beyond one."""

    name: str
    layers: Tuple[str, ...]
    bytes: int


def settle(graph: Graph, rewrites: Sequence[Rewrite]) -> List[Batch]:
    """``rewrites`` in batches. Whichever of these are made, the blobs of a name stay equal."""
    if not rewrites:
        return []
    names = shared_blobs(graph.layers)
    taken = set(names)
    maker = {layer: number for number, one in enumerate(rewrites) for layer in one.layers}
    sharers = {layer for slots in names.values() for layer, _ in slots}
    new: Changes = {
        layer: (copied(param) if layer in sharers else param, blobs)
        for one in rewrites
        for layer, (param, blobs) in one.changes.items()
    }
    batches = [{number} for number in range(len(rewrites))]
    parted: Dict[Layer, List[str]] = {}
    for name, slots in names.items():
        for alike in _alike(name, slots, new):
            makers = {maker[layer] for layer, _ in alike}
            batches = _joined(batches, makers)
            gone = {layer for number in makers for layer in rewrites[number].removed}
            others = [one for one in slots if one not in alike and one[0] not in gone]
            if not others:
                continue
            label = _fresh(name, taken) if len(alike) > 1 else ""
            for layer, number in alike:
                _rename(new[layer][0], number, label)
                parted.setdefault(layer, []).extend(other.name for other, _ in others)
    told = {layer: quoted(list(dict.fromkeys(others))) for layer, others in parted.items()}
    parts = [[rewrites[number] for number in sorted(one)] for one in sorted(batches, key=min)]
    return [_batch(part, new, told) for part in parts]


def _alike(name: str, slots: Sequence[Slot], new: Changes) -> List[List[Slot]]:
    """Those of ``slots`` that get other values, together where these are the same."""
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


def _fresh(name: str, taken: Set[str]) -> str:
    """A name for what no longer is ``name``, that no blob has."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _rename(param: Any, number: int, label: str) -> None:
    """Have the blob of that number share under ``label``; with nobody if that is empty."""
    for spec in param.param[number : number + 1]:
        if label:
            spec.name = label
        else:
            spec.ClearField("name")
            spec.ClearField("share_mode")


def _batch(rewrites: List[Rewrite], new: Changes, told: Dict[Layer, str]) -> Batch:
    """``rewrites`` with the changes ``new``; ``told`` says with whom a layer shares no more."""
    made, parted = [], []
    for one in rewrites:
        mine = [(layer.name, told[layer]) for layer in one.changes if layer in told]
        parted += [f"layer {name!r} shares its weights with {others}" for name, others in mine]
        tail = "".join(f"; {name!r} no longer shares weights with {who}" for name, who in mine)
        changes = {layer: new[layer] for layer in one.changes}
        note, kept = (text and text + tail for text in (one.note, one.kept_note))
        made.append(one._replace(changes=changes, note=note, kept_note=kept))
    return Batch(made, next(iter(parted), ""))


def unshared(names: Names, graph: Graph) -> List[Unshared]:
    """What became of ``names`` (shared_blobs of the layers that there were) in bytes."""
    live = set(graph.layers)
    found = []
    for name, slots in names.items():
        left = [one for one in slots if one[0] in live and one[1] < len(one[0].blobs)]
        sizes: Dict[object, int] = {}
        for layer, number in left:
            specs = layer.param.param[number : number + 1]
            label = specs[0].name if specs else ""
            blob = layer.blobs[number]
            sizes[label or (layer, number)] = count(blob.shape) * blob.dtype.itemsize
        if len(sizes) > 1:
            layers = tuple(dict.fromkeys(layer.name for layer, _ in left))
            found.append(Unshared(name, layers, sum(sizes.values()) - max(sizes.values())))
    return found

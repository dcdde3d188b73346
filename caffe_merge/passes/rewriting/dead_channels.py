"""Channels that have no effect on the outputs, and the rewrites that remove them."""

from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS, LINEAR_TYPES
from caffe_merge.layers.matrices import Mask, facts
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import INPUT, OUTPUT, SHARED, Reason
from caffe_merge.passes.rewriting import pruning
from caffe_merge.passes.rewriting.channel_axis import channels, is_dense, reads_twice
from caffe_merge.passes.rewriting.channel_links import Link, Signs, links, signs, twins
from caffe_merge.passes.rewriting.forward_folding import why_not_folded
from caffe_merge.passes.rewriting.pruning import KeptChannels
from caffe_merge.passes.rewriting.removable_channels import Removal
from caffe_merge.passes.rewriting.rewrite import Changes, Finding, Findings, Refused, Rewrite, kept
from caffe_merge.wording import counted, named

Linked = Dict[Layer, List[Link]]
SignsOf = Mapping[Version, Signs]
Stays = Mapping[Version, Mask]  # the channels that stay


class Spare(NamedTuple):
    """The channels of its bottom that a linear layer needs, ``goes.keep``, and why."""

    goes: KeptChannels
    why: Reason


def findings(graph: Graph, fixed: Set[Layer]) -> List[Finding]:
    """The rewrites that remove such channels, and refusals for those that have to stay.

    No layer of ``fixed`` may change.
    """
    linked_or_not = ((layer, links(graph, layer)) for layer in graph.layers)
    linked = {layer: parts for layer, parts in linked_or_not if parts}
    dense = [layer for layer in graph.layers if layer not in linked and is_dense(graph, layer)]
    out = Findings()
    signs_of = signs(graph, linked)
    for spares in (_dead(graph, signs_of, dense), _twice(graph, linked, dense)):
        if not any(_has_spare(layer, spare) for layer, spare in spares.items()):
            continue
        removal = _removal(graph, fixed, linked, spares)
        for stays in removal.groups():
            out.add(_rewrite(graph, signs_of, spares, stays))
        out += _refusals(graph, spares, removal)
    return out


def _removal(
    graph: Graph, fixed: Set[Layer], linked: Linked, spares: Mapping[Layer, Spare]
) -> Removal:
    """The channels that must stay: those that are needed, and all that is linked to them."""
    removal = Removal(graph, [link for parts in linked.values() for link in parts])
    sharers = graph.sharers()
    for layer in graph.layers:
        bottoms, tops = graph.bottoms[layer], graph.tops[layer]
        reason: Optional[Reason] = None
        if layer in fixed:
            reason = kept(f"{layer.type} {layer.name!r} is")
        elif layer in sharers:
            others = named([other.name for other in sharers[layer]])
            what = f"{layer.type} {layer.name!r} shares its weights with {others}"
            reason = Reason(what, SHARED)
        elif layer in spares:
            spare = spares[layer]
            removal.pin(bottoms[0], spare.goes.keep, Reason.about(_reads(layer), spare.why))
        elif not bottoms:
            reason = Reason("they are those of a net input", INPUT)
        elif layer not in linked:
            reason = Reason(f"{layer.type} {layer.name!r} needs or makes all of them")
        if reason is not None:
            for version in (*bottoms, *tops):
                removal.pin_all(version, reason)
    for version in graph.outputs:
        removal.pin_all(
            version, Reason(f"they are those of the net output {version.name!r}", OUTPUT)
        )
    removal.keep_linked()
    return removal


def _reads(layer: Layer) -> str:
    return f"{layer.type} {layer.name!r} reads them"


def _has_spare(layer: Layer, spare: Spare) -> bool:
    return not spare.goes.keep.all() or bool(facts(layer).zero_outputs.any())


def _dead(graph: Graph, signs_of: SignsOf, dense: Iterable[Layer]) -> Dict[Layer, Spare]:
    """The channels that each linear layer multiplies with 0, or that are constant."""
    spares: Dict[Layer, Spare] = {}
    for layer in dense:
        (bottom,) = graph.bottoms[layer]
        size = channels(bottom)
        unread = facts(layer).zero_inputs.reshape(size, -1).all(axis=1)
        constant = np.where(unread, 0.0, signs_of[bottom].constant)
        values = np.nan_to_num(constant)
        why: Optional[Reason] = None
        if values.any():
            why = why_not_folded(layer, Affine(np.ones(size), values, 1), bottom.shape)
        goes = constant == 0 if why is not None else ~np.isnan(constant)
        twin = np.full(size, -1)
        spares[layer] = Spare(
            KeptChannels(~goes, values, twin), why or Reason("they are not all 0")
        )
    return spares


def _twice(graph: Graph, linked: Linked, dense: Iterable[Layer]) -> Dict[Layer, Spare]:
    """The channels of each linear layer's bottom that equal an earlier channel of it."""
    if not any(facts(layer).has_alike for layer in dense) and not reads_twice(graph):
        return {}
    first = twins(graph, linked)
    spares: Dict[Layer, Spare] = {}
    for layer in dense:
        twin = first[graph.bottoms[layer][0]]
        keep = twin == np.arange(len(twin))
        spares[layer] = Spare(KeptChannels(keep, np.zeros(len(twin)), twin), Reason("each once"))
    return spares


def _rewrite(
    graph: Graph, signs_of: SignsOf, spares: Mapping[Layer, Spare], stays: Stays
) -> Rewrite:
    """The rewrite that leaves only those channels in a group of versions."""
    region = {version.producer for version in stays}
    region |= {reader for version in stays for reader, _ in version.readers}
    for version, mask in stays.items():
        layer = version.producer
        if layer.type in LINEAR_TYPES:
            weighed = signs_of[version].never_positive & ~facts(layer).zero_outputs & ~mask
            region |= _signing(graph, signs_of, graph.bottoms[layer][0]) if weighed.any() else set()
    layers = graph.in_order(region)
    changes: Changes = {layer: _new(graph, layer, spares.get(layer), stays) for layer in layers}
    makers = [layer for layer in layers if layer in spares and graph.tops[layer][0] in stays]
    number = sum(int((~stays[graph.tops[layer][0]]).sum()) for layer in makers)
    names = named([layer.name for layer in makers])
    note = f"{counted(number, 'channel')} of {names} left out"
    return Rewrite(layers=layers, changes=changes, note=note, kept_note=note)


def _signing(graph: Graph, signs_of: SignsOf, version: Version) -> Set[Layer]:
    """The layers by which ``version`` is never below 0: the proof has to run them too."""
    layer = version.producer
    if not graph.bottoms[layer] or not signs_of[version].never_negative.any():
        return set()
    if layer.type == "ReLU":
        return {layer}
    above = [_signing(graph, signs_of, bottom) for bottom in graph.bottoms[layer]]
    return {layer}.union(*above)


def _new(graph: Graph, layer: Layer, spare: Optional[Spare], stays: Stays) -> New:
    """New parameters and blobs of a layer for the channels that stay."""
    bottoms, tops = graph.bottoms[layer], graph.tops[layer]
    keep = stays.get(tops[0])
    if stays.keys().isdisjoint((*bottoms, *tops)):
        return layer.param, layer.blobs
    if spare is not None:
        below = None
        if bottoms[0] in stays:
            staying = stays[bottoms[0]]
            constant = np.where(staying, 0.0, spare.goes.constant)
            below = KeptChannels(staying, constant, spare.goes.twin)
        return pruning.linear(layer, below, keep)
    if layer.type == "Slice":
        sizes = [int(stays[top].sum()) if top in stays else channels(top) for top in tops]
        return pruning.sliced(layer, sizes)
    if keep is None or layer.type == "Concat":
        return layer.param, layer.blobs
    if layer.type in CONVOLUTIONS:
        return pruning.depthwise(layer, keep)
    return pruning.per_channel(layer, keep)


def _refusals(graph: Graph, spares: Mapping[Layer, Spare], removal: Removal) -> Iterator[Refused]:
    """Refusals for dead channels that stay, at the layer that does not need or that makes them."""
    for layer, spare in spares.items():
        bottom, top = graph.bottoms[layer][0], graph.tops[layer][0]
        unneeded = ~spare.goes.keep & ~removal.removable(bottom)
        if unneeded.any():
            number = counted(int(unneeded.sum()), "channel")
            why = removal.why(bottom, unneeded)
            yield Refused(layer, Reason.about(f"it could do without {number} of its bottom", why))
        constant = facts(layer).zero_outputs & ~removal.removable(top)
        if constant.any():
            number = counted(int(constant.sum()), "constant channel")
            why = removal.why(top, constant)
            yield Refused(layer, Reason.about(f"it makes {number}", why))

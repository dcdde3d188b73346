"""merge-groups: equal convolutions of the parts of a Slice, joined by a Concat, become one.

    x -> Slice -> p, q
    p -> Convolution W1, b1 -> r        x -> Convolution [W1; W2], [b1; b2], group: 2 -> y
    q -> Convolution W2, b2 -> s
    Concat r s -> y

They are the groups of one convolution; nothing is cut and copied together. Groups are equally
large, so the convolutions have the same window and as many inputs, outputs and groups of their own.
Several in a row go alike, with layers between them that have no weights and keep channels apart:
one of each stays. Where the Concat has other bottoms as well, it stays with fewer.
"""

from itertools import groupby
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from caffe_merge.algebra.beside import grouped
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import READERS, SHAPE, Reason
from caffe_merge.passes.rewriting.channel_axis import joins_channels
from caffe_merge.passes.rewriting.channel_links import links
from caffe_merge.passes.rewriting.layer_kernels import as_convolution, kernel_of
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)
from caffe_merge.wording import named

REACH = 64  # the most layers between a Slice and a Concat


class Tower(NamedTuple):
    """The ``layers`` from ``part``, a top of a Slice, to bottom ``number`` of a Concat."""

    number: int
    part: Version
    layers: Tuple[Layer, ...]


class MergeGroups(Pass):
    """Makes convolutions of the parts of a Slice the groups of one."""

    name = "merge-groups"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            for towers in _neighbours(graph, layer) if joins_channels(graph, layer) else ():
                rewrite = _grouped(graph, layer, towers, fixed)
                if isinstance(rewrite, Reason):
                    names = named([tower.layers[-1].name for tower in towers])
                    findings.append(Refused(layer, Reason.about(f"{names} stay apart", rewrite)))
                else:
                    findings.add(rewrite)
        return findings


def _neighbours(graph: Graph, layer: Layer) -> Iterator[List[Tower]]:
    """Neighbouring bottoms of a Concat, two or more, made of parts of one Slice."""
    towers = [_tower(graph, number) for number in enumerate(graph.bottoms[layer])]
    for producer, row in groupby(towers, lambda tower: tower and tower.part.producer):
        members = [tower for tower in row if tower is not None]
        if producer is not None and len(members) > 1:
            yield members


def _tower(graph: Graph, bottom: Tuple[int, Version]) -> Optional[Tower]:
    """The layers between a Slice and that bottom of a Concat; None if there is no convolution."""
    number, version = bottom
    layers: List[Layer] = []
    while len(layers) < REACH and version.producer.type != "Slice":
        layer = version.producer
        if len(graph.bottoms[layer]) != 1 or len(graph.tops[layer]) != 1:
            return None
        if layer.type not in CONVOLUTIONS and (layer.blobs or not links(graph, layer)):
            return None
        layers.insert(0, layer)
        version = graph.bottoms[layer][0]
    cut = version.producer
    if cut.type != "Slice" or len(graph.bottoms[cut]) != 1:
        return None
    if not any(layer.type in CONVOLUTIONS for layer in layers):
        return None
    return Tower(number, version, tuple(layers))


def _grouped(
    graph: Graph, layer: Layer, towers: Sequence[Tower], fixed: Set[Layer]
) -> Union[Rewrite, Reason]:
    cut = towers[0].part.producer
    inside = [member for tower in towers for member in tower.layers]
    reason = _why_not_these(graph, cut, towers)
    if not fixed.isdisjoint((cut, layer, *inside)):
        reason = kept("one of them is")
    if reason is not None:
        return reason
    changes: Changes = {}
    for level in zip(*(tower.layers for tower in towers)):
        new = _one_for_all(graph, level)
        if isinstance(new, Reason):
            return new
        changes[level[0]] = new
    dropped = {tower.number for tower in towers[1:]}
    bottoms = tuple(n for n in range(len(graph.bottoms[layer])) if n not in dropped)
    if len(bottoms) > 1:
        changes[layer] = (layer.param, layer.blobs)
    convolutions = [member for member in inside if member.type in CONVOLUTIONS]
    staying = [member.name for member in convolutions if member in changes]
    return Rewrite(
        layers=graph.in_order([cut, *inside, layer]),
        changes=changes,
        note=f"merged into Convolution {named(staying)}",
        kept_note="took in "
        + named([member.name for member in convolutions if member not in changes]),
        reads={layer: bottoms},
    )


def _why_not_these(graph: Graph, cut: Layer, towers: Sequence[Tower]) -> Optional[Reason]:
    """Why what is between a Slice and a Concat cannot be done on the whole blob, whatever it is."""
    (bottom,) = graph.bottoms[cut]
    if bottom.shape is None:
        return Reason(f"the shape of {bottom.name!r} is not known", SHAPE)
    if axis_of(cut.param, bottom.rank) != 1:
        return Reason(f"Slice {cut.name!r} does not cut channels apart")
    reason = unknown_fields(cut)
    if reason is not None:
        return reason
    if [tower.part for tower in towers] != graph.tops[cut]:
        return Reason(f"they are not all parts of Slice {cut.name!r}, in its order")
    blobs = [top for tower in towers for layer in tower.layers for top in graph.tops[layer]]
    for version in (*graph.tops[cut], *blobs):
        if len(version.readers) > 1:
            return Reason(f"{version.name!r} has other readers", READERS)
    if len({len(tower.layers) for tower in towers}) > 1:
        return Reason("there are more layers on one side than on the other")
    return graph.why_not_move(bottom)


def _one_for_all(graph: Graph, layers: Sequence[Layer]) -> Union[New, Reason]:
    """New parameters and blobs of the first of ``layers``, one of each tower, to do all of them."""
    first = layers[0]
    if first.type not in CONVOLUTIONS:
        alike = all(_settings(layer) == _settings(first) for layer in layers)
        return (first.param, first.blobs) if alike else Reason(f"{named(_names(layers))} differ")
    kernels = []
    for layer in layers:
        kernel = kernel_of(graph, layer) if layer.type in CONVOLUTIONS else None
        if not isinstance(kernel, Kernel):
            return kernel or Reason(f"{named(_names(layers))} differ")
        kernels.append(kernel)
    whole = grouped(kernels)
    return whole if isinstance(whole, Reason) else as_convolution(first, whole)


def _names(layers: Sequence[Layer]) -> List[str]:
    return [layer.name for layer in layers]


def _settings(layer: Layer) -> Tuple[Any, Any]:
    """All that a layer without weights computes by."""
    param = copied(layer.param)
    for field in ("name", "bottom", "top"):
        param.ClearField(field)
    return param, layer.extra

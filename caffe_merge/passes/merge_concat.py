"""merge-concat: convolutions of one blob whose outputs a Concat joins become one.

    x -> Convolution W1, b1 -> p
    x -> Convolution W2, b2 -> q        x -> Convolution [W1; W2], [b1; b2] -> y
    Concat p q -> y

One reading of x, one product, no copy. The convolutions have the same window and no groups, and
stand next to each other in the Concat; where it has other bottoms as well, it stays with fewer.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Union

from caffe_merge.algebra.beside import stacked
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.channel_axis import joins_channels
from caffe_merge.passes.rewriting.layer_kernels import as_convolution, kernel_of
from caffe_merge.passes.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite
from caffe_merge.wording import named


class Part(NamedTuple):
    """Bottom ``number`` of a Concat, made of ``source`` by ``layer`` alone."""

    number: int
    layer: Layer
    source: Version
    kernel: Kernel


class MergeConcat(Pass):
    """Stacks the kernels of convolutions side by side."""

    name = "merge-concat"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            if layer in fixed or not joins_channels(graph, layer):
                continue
            for parts in _neighbours(graph, layer, fixed):
                rewrite = _stacked(graph, layer, parts)
                if isinstance(rewrite, Reason):
                    findings.append(Refused(layer, rewrite))
                else:
                    findings.add(rewrite)
        return findings


def _neighbours(graph: Graph, layer: Layer, fixed: Set[Layer]) -> Iterator[List[Part]]:
    """Neighbouring bottoms, two or more, that convolutions produce from one blob."""
    row: List[Part] = []
    for number, version in enumerate(graph.bottoms[layer]):
        part = _part(graph, number, version, fixed)
        if row and (part is None or part.source is not row[0].source):
            if len(row) > 1:
                yield row
            row = []
        if part is not None:
            row.append(part)
    if len(row) > 1:
        yield row


def _part(graph: Graph, number: int, version: Version, fixed: Set[Layer]) -> Optional[Part]:
    producer = version.producer
    if producer.type not in CONVOLUTIONS or producer in fixed or len(version.readers) > 1:
        return None
    kernel = kernel_of(graph, producer)
    if not isinstance(kernel, Kernel):
        return None
    return Part(number, producer, graph.bottoms[producer][0], kernel)


def _alike(parts: Sequence[Part]) -> Sequence[Part]:
    """The longest row (the first of equals) of ungrouped convolutions with the same window.

    All ``parts`` if no two are alike.
    """
    rows: List[List[Part]] = [[]]
    for part in parts:
        last = rows[-1][-1:]
        if part.kernel.group > 1 or (last and last[0].kernel.axes != part.kernel.axes):
            rows.append([])
        if part.kernel.group == 1:
            rows[-1].append(part)
    best = max(rows, key=len)
    return best if len(best) > 1 else parts


def _stacked(graph: Graph, layer: Layer, parts: Sequence[Part]) -> Union[Rewrite, Reason]:
    parts = _alike(parts)
    merged = stacked([part.kernel for part in parts])
    names = [part.layer.name for part in parts]
    if isinstance(merged, Reason):
        return Reason(f"{named(names)} stay side by side: {merged}")
    first, *others = parts
    survivor = first.layer
    reason = graph.why_not_move(first.source)
    if reason is not None:
        return reason
    dropped = {part.number for part in others}
    kept = tuple(number for number in range(len(layer.param.bottom)) if number not in dropped)
    changes: Dict[Layer, Any] = {survivor: as_convolution(survivor, merged)}
    if len(kept) > 1:
        changes[layer] = (layer.param, ())
    region = [*(part.layer for part in parts), layer]
    return Rewrite(
        layers=graph.in_order(region),
        changes=changes,
        note=f"merged into {survivor.type} {survivor.name!r}",
        kept_note=f"took in {named(names[1:])}",
        reads={layer: kept},
    )

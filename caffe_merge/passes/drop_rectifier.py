"""drop-rectifier: removes a ReLU whose input is never negative.

    x -> ReLU -> ReLU -> y        x -> ReLU -> y

    max(x, 0) + slope min(x, 0) = x for x >= 0, whatever the slope

PReLU, ELU and AbsVal likewise. Never negative is what comes of a ReLU, ReLU6, Sigmoid, Softmax,
AbsVal, Exp, an even Power, and what means, maxima, sums, products, maps per channel without
negative numbers, and layers that only move values, make of such blobs (layers/signs.py).
"""

from __future__ import annotations

from typing import Dict, List, Set, Tuple, Union

from caffe_merge.layers.catalogue import that
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.signs import never_negative, why_not_unchanged
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from caffe_merge.wording import named

REACH = 64  # the most layers that make a blob never negative: all of them are run for the proof
_RECTIFIERS = that("rectifier")

Bases = Dict[Version, Tuple[Version, ...]]  # a blob that is never negative, if all of these are not


class DropRectifier(Pass):
    """Removes ReLUs and their like that have nothing negative to read."""

    name = "drop-rectifier"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        removed: Set[Layer] = set()
        bases: Bases = {}
        for layer in graph.layers:
            bottoms = graph.bottoms[layer]
            signs = [bottom in bases for bottom in bottoms]
            if layer.type in _RECTIFIERS and signs == [True]:
                rewrite = self._rewrite(graph, layer, bases)
                if isinstance(rewrite, Reason):
                    findings.append(Refused(layer, rewrite))
                elif removed.isdisjoint(rewrite.premises):
                    findings.append(rewrite)
                    removed.add(layer)
            numbers = never_negative(layer, signs, bottoms[0].rank if bottoms else None)
            if numbers is not None:
                basis = tuple(bottoms[number] for number in numbers)
                bases.update((top, basis) for top in graph.tops[layer])
        return findings

    def _rewrite(self, graph: Graph, layer: Layer, bases: Bases) -> Union[Rewrite, Reason]:
        if layer.name in self.keep:
            return KEPT_AS_ASKED
        reason = why_not_unchanged(layer) or graph.why_not_bypass(layer)
        if reason is not None:
            return reason
        source = graph.bottoms[layer][0]
        makers = _makers(source, bases)
        if isinstance(makers, Reason):
            return makers
        note = f"removed: what comes from {named([source.producer.name])} is never negative"
        return Rewrite((layer,), {}, note, premises=graph.in_order(makers))


def _makers(version: Version, bases: Bases) -> Union[Set[Layer], Reason]:
    """The layers that make ``version`` never negative."""
    makers: Set[Layer] = set()
    todo = [version]
    while todo:
        version = todo.pop()
        if version.producer in makers:
            continue
        makers.add(version.producer)
        if len(makers) > REACH:
            return Reason(f"more than {REACH} layers are what makes its bottom never negative")
        todo += bases[version]
    return makers

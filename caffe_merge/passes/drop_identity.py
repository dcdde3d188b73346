"""drop-identity: layers that do nothing at inference are removed.

    x -> Dropout -> y        x = y

Dropout, Split, a Concat or Slice of one blob, a Scale of 1 and 0, a Power of 1, 1, 0, a
Pooling of 1x1 and what else layers.identity knows. Such a layer stays where a net output
would lose its name, and a Dropout that still drops at inference stays.
"""

from __future__ import annotations

from typing import List

from caffe_merge.layers.catalogue import DROPOUT, of_family
from caffe_merge.layers.identity import identity
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite


class DropIdentity(Pass):
    """Removes layers whose tops equal their bottom."""

    name = "drop-identity"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        for layer in graph.layers:
            bottoms = graph.bottoms[layer]
            is_identity = identity(layer, bottoms[0].rank if bottoms else None)
            if isinstance(is_identity, Reason):
                if layer.type in of_family(DROPOUT):
                    findings.append(Refused(layer, is_identity))
                continue
            if not is_identity:
                continue
            reason = KEPT_AS_ASKED if layer.name in self.keep else graph.why_not_bypass(layer)
            if reason is not None:
                findings.append(Refused(layer, reason))
            else:
                findings.append(Rewrite((layer,), {}, "removed: it does nothing at inference"))
        return findings

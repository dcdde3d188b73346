"""A form: a rewrite that changes only how a layer is written, for a target that needs it so.

Which layers of a net it is about, the rows of the target's table say; a form says only how.
"""

from __future__ import annotations

from typing import List, Union

from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite
from caffe_merge.passes.targets.check import asked
from caffe_merge.passes.targets.table import find as find_target


class Form(Pass):
    """A rewrite of single layers, where the target of the merge asks for it."""

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        if self.options.target is None:
            return findings
        for layer in asked(graph, find_target(self.options.target), self.name):
            rewrite = KEPT_AS_ASKED if layer.name in self.keep else self.rewrite(graph, layer)
            if isinstance(rewrite, Reason):
                findings.append(Refused(layer, rewrite))
            else:
                findings.add(rewrite)
        return findings

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        """``layer`` in the form that is asked for, or why it cannot have it."""
        raise NotImplementedError

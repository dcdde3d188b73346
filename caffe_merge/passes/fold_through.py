"""fold-through: affine layers fold backwards into producers, through the layers in between.

    x -> Convolution W, b -> ReLU -> Scale -> y        x -> Convolution W', b' -> ReLU -> y

    ReLU(s z) = s ReLU(z) for s >= 0, so W' = s W (along output channels), b' = s b

Behind a Concat each convolution takes its slice of the map; Slice, Crop, Flatten, Reshape, Permute,
Tile and ShuffleChannel move it to where the channels come from, Interp and Upsample keep it. A
positive multiplier goes through ReLU, PReLU and Pooling, any through a mean and into one factor of
a product; a shift through a maximum, and through a mean that does not pad. A Scale or BatchNorm at
the end takes it in too. A Crop may read the shape of what changes.
"""

from __future__ import annotations

from typing import List, Union

from caffe_merge.layers.moving import RULES
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_runs import Run, runs
from caffe_merge.passes.rewriting.backward_folding import fold_backward
from caffe_merge.passes.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite
from caffe_merge.wording import named


class FoldThrough(Pass):
    """Folds affine maps backwards, through the layers in between, into linear layers."""

    name = "fold-through"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        for run in runs(graph, self.keep)[0]:
            if run.refusal is None or run.source.is_input:
                continue
            rewrite = self._rewrite(graph, run)
            if isinstance(rewrite, Rewrite):
                findings.add(rewrite)
            elif run.producer.type in RULES:
                findings += [Refused(layer, rewrite) for layer in run.layers]
        return findings

    def _rewrite(self, graph: Graph, run: Run) -> Union[Rewrite, Reason]:
        fold = fold_backward(graph, run, self.keep)
        if isinstance(fold, Reason):
            return fold
        where = named([target.name for target in reversed(fold.targets)])
        kinds = {target.type for target in fold.targets}
        return Rewrite(
            layers=graph.in_order({*fold.changes, *run.layers}),
            changes=fold.changes,
            note=f"folded into {f'{kinds.pop()} ' if len(fold.targets) == 1 else ''}{where}",
            kept_note="took in " + named([layer.name for layer in run.layers]),
        )

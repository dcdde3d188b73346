"""fold-affine: BatchNorm, Scale, Bias and Power fold into the linear layer in front of them.

    x -> Convolution W, b -> BatchNorm -> Scale -> y      x -> Convolution W', b' -> y

    y = scale * (W x + b) + shift         W' = scale W (along output channels)
                                          b' = scale b + shift

The chain of affine layers may have any length; Deconvolution and InnerProduct work likewise. It
stays where another layer reads the linear layer's output.
"""

from __future__ import annotations

from typing import List

from caffe_merge.layers.linear import folded, output_channels
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.affine_runs import Run, runs
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from caffe_merge.wording import named


class FoldAffine(Pass):
    """Folds runs of affine layers backwards."""

    name = "fold-affine"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        candidates, refused = runs(graph, self.keep)
        for run in candidates:
            if run.refusal is None:
                findings.append(self._rewrite(run))
            else:
                findings += [Refused(layer, run.refusal) for layer in run.layers]
        return findings + [Refused(layer, reason) for layer, reason in refused]

    @staticmethod
    def _rewrite(run: Run) -> Rewrite:
        producer = run.producer
        output = output_channels(producer, run.source.rank)
        assert not isinstance(output, Reason)
        param, blobs = folded(producer, run.affine.over(output.channels, output.axis))
        return Rewrite(
            layers=(producer, *run.layers),
            changes={producer: (param, blobs)},
            note=f"folded into {producer.type} {producer.name!r}",
            kept_note="took in " + named([layer.name for layer in run.layers]),
        )

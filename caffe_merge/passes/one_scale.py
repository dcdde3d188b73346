"""one-scale: a run of affine layers that folds into no linear layer becomes one Scale.

    x -> BatchNorm -> Scale -> Bias -> y          x -> Scale (bias_term: true) -> y

    y = scale * x + shift

One multiply-add an element, whatever the run was. A BatchNorm alone becomes a Scale too, so that
no BatchNorm on stored statistics is left.
"""

from __future__ import annotations

from typing import Dict, List, Union

from caffe_merge.errors import OptionName, Text
from caffe_merge.layers import norms
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.per_channel import as_scale
from caffe_merge.net.graph import Graph
from caffe_merge.notes import SHAPE, Reason
from caffe_merge.passes.rewriting.affine_runs import Run, runs
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from caffe_merge.wording import named

NO_SCALE = "it is one multiply-add already, and SegNet's Caffe has no Scale layer to take its place"
Sharers = Dict[Layer, List[Layer]]


class OneScale(Pass):
    """Merges runs of affine layers among themselves."""

    name = "one-scale"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        sharers = graph.sharers()
        for run in runs(graph, self.keep)[0]:
            if len(run.layers) == 1 and run.layers[0].type not in norms.TYPES:
                continue  # one multiply-add already
            shared = sharers.get(run.producer) if self.options.keep_shared else None
            if run.refusal is None and shared:
                names = named([layer.name for layer in shared])
                why = f"layer {run.producer.name!r} shares its weights with {names}, kept so"
                run = run._replace(refusal=Reason(Text(why, " with ", OptionName("keep_shared"))))
            rewrite = _rewrite(run, sharers)
            if isinstance(rewrite, Reason):
                findings += [Refused(layer, rewrite) for layer in run.layers]
            else:
                findings.append(rewrite)
        return findings


def _rewrite(run: Run, sharers: Sharers) -> Union[Rewrite, Reason]:
    survivor = _survivor(run, sharers)
    if survivor.type != "Scale" and not all(map(norms.has_scale, run.layers)):
        return Reason(NO_SCALE)
    affine = run.affine
    if affine.axis is None:
        shape = run.source.shape
        if shape is None or len(shape) < 2:
            return Reason("the number of its channels is not known", SHAPE)
        affine = affine.over(shape[1], 1)
    why = Text() if run.refusal is None else Text(": ", run.refusal)
    others = [layer.name for layer in run.layers if layer is not survivor]
    kept = ["became a Scale"] if survivor.type != "Scale" else []
    kept += ["took in " + named(others)] if others else []
    return Rewrite(
        layers=run.layers,
        changes={survivor: as_scale(survivor, affine)},
        note=Text(f"merged into Scale {survivor.name!r}", why),
        kept_note=" and ".join(kept),
    )


def _survivor(run: Run, sharers: Sharers) -> Layer:
    """The layer that becomes the Scale, if possible one whose weights no other layer shares."""
    free = [layer for layer in run.layers if layer.type != "Scale" or layer not in sharers]
    for kinds in (frozenset({"Scale"}), norms.TYPES):
        fitting = [layer for layer in free if layer.type in kinds]
        if fitting:
            return fitting[-1]
    return free[0] if free else run.layers[-1]

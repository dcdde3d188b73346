"""one-scale: a run of affine layers that folds into no linear layer becomes one Scale.

    x -> BatchNorm -> Scale -> Bias -> y          x -> Scale (bias_term: true) -> y

    y = scale * x + shift

One multiply-add an element, whatever the run was. A BatchNorm alone becomes a Scale too, so that
no BatchNorm on stored statistics is left.
"""

from typing import Any, Dict, List, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.errors import OptionName, Text
from caffe_merge.layers import norms
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes._pass import Finding, Pass, Refused, Rewrite
from caffe_merge.passes._runs import Run, quoted, runs
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import FLOAT, Blob, Dense

NO_SCALE = "it is one multiply-add already, and SegNet's Caffe has no Scale layer to take its place"
Sharers = Dict[Layer, List[Layer]]
_OTHERS = (
    "batch_norm_param",
    "bias_param",
    "power_param",
    "dropout_param",
    "python_param",
    "param",
)


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
                names = quoted([layer.name for layer in shared])
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
            return Reason("the number of its channels is not known")
        affine = affine.over(shape[1], 1)
    why = Text() if run.refusal is None else Text(": ", run.refusal)
    others = [layer.name for layer in run.layers if layer is not survivor]
    kept = ["became a Scale"] if survivor.type != "Scale" else []
    kept += ["took in " + quoted(others)] if others else []
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


def as_scale(layer: Layer, affine: Affine) -> Tuple[Any, Tuple[Blob, ...]]:
    """New parameters and blobs of ``layer`` as a Scale that computes ``affine`` (a vector)."""
    param = copied(layer.param)
    scale_param = param.scale_param
    if layer.type != "Scale":
        # Specs of BatchNorm's three blobs (lr_mult 0) would be wrong for a Scale's two.
        for name in _OTHERS:
            param.ClearField(name)
        param.type = "Scale"
    if layer.type != "Scale" or layer.blobs[0].shape != affine.scale.shape:
        scale_param.ClearField("num_axes")
        scale_param.ClearField("axis")
        if affine.axis != 1:
            scale_param.axis = affine.axis
    dtype = layer.blobs[0].dtype if layer.blobs else FLOAT
    blobs: List[Blob] = [Dense(affine.scale, dtype)]
    if scale_param.bias_term or affine.shift.any():
        scale_param.bias_term = True
        blobs.append(Dense(affine.shift, dtype))
    return param, tuple(blobs)

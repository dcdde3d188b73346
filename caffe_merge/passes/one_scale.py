"""one-scale: a run of affine layers that nothing can take in becomes one Scale.

x -> BatchNorm -> Scale -> Bias -> y          x -> Scale (bias_term: true) -> y

y = scale * x + shift: one multiply-add an element, whatever the run was. A BatchNorm alone
becomes a Scale too, so that no BatchNorm on stored statistics is left.
"""

from typing import Any, List, Optional, Tuple

from caffe_merge.fold import Affine
from caffe_merge.graph import Graph
from caffe_merge.layer import Layer
from caffe_merge.passes.base import Found, Pass, Refused, Rewrite
from caffe_merge.passes.runs import Run, quoted, runs
from caffe_merge.weights.blobs import Blob, Dense


class OneScale(Pass):
    """Merges runs of affine layers among themselves."""

    name = "one-scale"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        for run in runs(graph, self.keep)[0]:
            has_norm = any(layer.type == "BatchNorm" for layer in run.layers)
            if run.affine.axis is None or (len(run.layers) == 1 and not has_norm):
                continue  # one multiply-add already, or of unknown channels
            why = "" if run.why_not is None else f": {run.why_not}"
            refusal = _sharing(graph, run)
            if refusal is not None:
                found += [Refused(layer, refusal) for layer in run.layers]
            else:
                found.append(self._rewrite(run, why))
        return found

    @staticmethod
    def _rewrite(run: Run, why: str) -> Rewrite:
        scales = [layer for layer in run.layers if layer.type == "Scale"]
        survivor = scales[-1] if scales else run.layers[0]
        others = [layer.name for layer in run.layers if layer is not survivor]
        kept = ["became a Scale"] if survivor.type != "Scale" else []
        kept += ["took in " + quoted(others)] if others else []
        return Rewrite(
            path=run.layers,
            changes={survivor: _as_scale(survivor, run.affine)},
            note=f"merged into Scale {survivor.name!r}{why}",
            kept_note=" and ".join(kept) + why,
        )


def _sharing(graph: Graph, run: Run) -> Optional[str]:
    for layer in run.layers:
        if layer.type == "Scale" and layer in graph.sharers():
            others = graph.sharers()[layer]
            return f"layer {layer.name!r} shares its weights with {others[0].name!r}"
    return None


def _as_scale(layer: Layer, affine: Affine) -> Tuple[Any, Tuple[Blob, ...]]:
    """Parameters and blobs of ``layer`` as a Scale that does ``affine``."""
    param = type(layer.param)()
    param.CopyFrom(layer.param)
    own = param.scale_param
    dtype = layer.blobs[0].dtype if layer.blobs else None
    if layer.type != "Scale":
        # Specs of BatchNorm's three blobs (lr_mult 0) would be wrong for a Scale's two.
        for name in ("batch_norm_param", "bias_param", "power_param", "dropout_param", "param"):
            param.ClearField(name)
        param.type = "Scale"
    elif layer.blobs[0].shape != affine.scale.shape:
        own.ClearField("num_axes")
        own.ClearField("axis")
    if affine.axis != 1 and layer.blobs[0].shape != affine.scale.shape:
        own.axis = affine.axis
    blobs: List[Blob] = [Dense(affine.scale) if dtype is None else Dense(affine.scale, dtype)]
    if own.bias_term or affine.shift.any():
        own.bias_term = True
        blobs.append(Dense(affine.shift) if dtype is None else Dense(affine.shift, dtype))
    return param, tuple(blobs)

"""absorb-bias: a channel far above 0 is shifted down before its ReLU, and back up in the readers.

    BatchNorm, Scale -> z -> ReLU -> Convolution W, b

    z -> Scale -c -> ReLU -> Scale +c -> Convolution        c = max(0, beta - 3 gamma)

Not exact, so only where ``--absorb-bias`` asks for it: ReLU(z - c) + c is max(z, c), which differs
from ReLU(z) where z < c. The BatchNorm and what follows it say how often that is: z has the mean
beta and the standard deviation gamma, so 0.13 % of the values of a normal distribution lie there
(Nagel et al. 2019, section 4.1.3). The activation is left with a range smaller by c, for 8 bits.

The pass inserts both Scales, of ones with a bias, and nothing else. The folds, which are exact and
proved, take them into the weights: c goes only where they can (not where a border is padded with 0,
nor, with --keep-shared, where weights are shared).
Scales of equalize do not matter: beta and gamma would change by the same factor as z.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Float64
from caffe_merge.errors import OptionName, Text
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers import norms
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import READERS, SHARED, Reason
from caffe_merge.options import Options
from caffe_merge.passes.fold_forward import propagate
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Insert,
    Pass,
    Refused,
    Rewrite,
    kept,
)
from caffe_merge.wording import named

DEVIATIONS = 3  # below the mean, where a value may be cut off
NO_NORM = "no BatchNorm in front of it says where its values lie"
LOW = Reason(f"no channel of it is {DEVIATIONS} standard deviations above 0", minor=True)


class AbsorbBias(Pass):
    """Moves the high biases of ReLU channels into the layers that read them (--absorb-bias)."""

    name = "absorb-bias"

    def __init__(self, options: Optional[Options] = None) -> None:
        super().__init__(options)
        self._refused: Optional[List[Finding]] = None  # of the first round: then norms are folded

    def find(self, graph: Graph) -> List[Finding]:
        if self._refused is not None:
            return self._refused
        self._refused = []
        shifts: Dict[Layer, Float64] = {}
        for layer in graph.layers:
            if layer.type != "ReLU":
                continue
            shift = self._shift(graph, layer)
            if isinstance(shift, Reason):
                self._refused.append(Refused(layer, shift))
            else:
                shifts[layer] = shift
        return [*self._refused, *([_rewrite(graph, shifts)] if shifts else ())]

    def _shift(self, graph: Graph, relu: Layer) -> Union[Float64, Reason]:
        """What each channel of ``relu`` is shifted by, 0 where it is not high; or why none is."""
        bottom, top = graph.bottoms[relu][0], graph.tops[relu][0]
        if relu.param.relu_param.negative_slope:
            return Reason("below 0 it has a slope")
        shift = _high_biases(graph, bottom)
        if isinstance(shift, Reason):
            return shift
        if not shift.any():
            return LOW
        fixed = self.fixed(graph)
        if relu in fixed or bottom.producer in fixed:
            return kept()
        if len(bottom.readers) > 1 or bottom.is_output:
            return Reason(f"its bottom {bottom.name!r} is read by others as well", READERS)
        if not graph.is_private(bottom):
            return Reason(f"the memory of its bottom {bottom.name!r} is that of another blob too")
        reached = propagate(graph, top, Affine(np.ones_like(shift), shift, 1), fixed)
        if isinstance(reached, Reason):
            return reached
        return self._why_shared(graph, [bottom.producer, *reached]) or shift

    def _why_shared(self, graph: Graph, layers: Sequence[Layer]) -> Optional[Reason]:
        """Which of ``layers``, that are to take it in, shares its weights, if none is to."""
        sharers = graph.sharers() if self.options.keep_shared else {}
        for layer in layers:
            if layer in sharers:
                others = named([other.name for other in sharers[layer]])
                text = f"{layer.type} {layer.name!r} shares its weights with {others}, kept so"
                return Reason(Text(text, " with ", OptionName("keep_shared")), SHARED)
        return None


def _high_biases(graph: Graph, version: Version) -> Union[Float64, Reason]:
    """max(0, beta - 3 gamma) of each channel of ``version``, as a float32 holds it."""
    after = Affine(np.array(1.0), np.array(0.0))
    while version.producer.type not in norms.TYPES:
        producer = version.producer
        bottoms = graph.bottoms[producer]
        affine = affine_of(producer, bottoms[0].rank) if bottoms else None
        if not isinstance(affine, Affine) or affine.axis not in (None, 1):
            return Reason(NO_NORM)
        after, version = affine.then(after), bottoms[0]
    terms = norms.as_statistics(version.producer)
    if isinstance(terms, Reason):
        return Reason.about(f"layer {version.producer.name!r}", terms)
    eps = terms[0].batch_norm_param.eps
    _, variance, scale, bias = (blob.float64() for blob in terms[1])
    mean = after.scale * bias + after.shift
    deviation = np.abs(after.scale * scale) * np.sqrt(variance / (variance + eps))
    high = np.maximum(mean - DEVIATIONS * deviation, 0).astype(np.float32).astype(np.float64)
    return high if np.isfinite(high).all() else Reason("what its BatchNorm says is not finite")


def _rewrite(graph: Graph, shifts: Dict[Layer, Float64]) -> Rewrite:
    """All of the net at once: in the next round the layers that tell the shifts are gone."""
    inserts: List[Insert] = []
    changes: Changes = {}
    in_place = [relu for relu in shifts if graph.overwritten_by(graph.tops[relu][0]) is not None]
    for relu, shift in shifts.items():
        inserts.append(Insert(_shifting(relu, -shift), relu, 0))
        changes[relu] = relu.param, relu.blobs
        for reader, number in graph.tops[relu][0].readers:
            inserts.append(Insert(_shifting(relu, shift), reader, number))
            changes[reader] = reader.param, reader.blobs
    return Rewrite(
        layers=graph.in_order(changes),
        changes=changes,
        note="",
        inserts=tuple(inserts),
        in_place=tuple(in_place),
        is_exact=False,
    )


def _shifting(relu: Layer, shift: Float64) -> Layer:
    """A Scale of ones that adds ``shift``: more readers know it than know Bias."""
    param = LayerParameter(name="shift", type="Scale", bottom=["bottom"], top=["top"])
    param.scale_param.bias_term = True
    layer = Layer(param, phase=relu.phase)
    layer.original = None
    layer.blobs = (Dense(np.ones_like(shift)), Dense(shift))
    return layer

"""eltwise-pairs: an Eltwise of three bottoms or more becomes a row of Eltwise of two.

    a, b, c -> Eltwise -> y        a, b -> Eltwise -> t        t, c -> Eltwise -> y

    a + b + c = (a + b) + c, likewise of products and of the largest

Of a sum with coefficients t has those of its bottoms, and counts once in the next. For targets
whose Eltwise takes two bottoms.
"""

from __future__ import annotations

from typing import List, Union

from caffe_merge.formats.schema.messages import LayerParameter, copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Insert, Rewrite
from caffe_merge.wording import counted


class EltwisePairs(Form):
    """Makes an Eltwise of many bottoms several of two, for targets that take two only."""

    name = "eltwise-pairs"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        number = len(graph.bottoms[layer])
        if number < 3:
            return Reason("it has not three bottoms")
        if graph.overwritten_by(graph.tops[layer][0]) is not None:
            return Reason("it is written over one of its bottoms")
        coefficients = list(layer.param.eltwise_param.coeff)
        inserts: List[Insert] = []
        for at in range(1, number - 1):
            inserts.append(Insert(_pair(layer, coefficients, at), layer, 0, (1,)))
        param = copied(layer.param)
        if coefficients:
            param.eltwise_param.coeff[:] = [1.0, coefficients[-1]]
        note = f"became {counted(number - 1, 'Eltwise layer')} of two bottoms"
        changes = {layer: (param, layer.blobs)}
        return Rewrite((layer,), changes, "", note, inserts=tuple(inserts))


def _pair(layer: Layer, coefficients: List[float], at: int) -> Layer:
    """The Eltwise of what came before and bottom ``at`` of ``layer``."""
    param = LayerParameter(name="pair", type="Eltwise", bottom=["a", "b"], top=["top"])
    if layer.param.HasField("eltwise_param"):
        param.eltwise_param.CopyFrom(layer.param.eltwise_param)
    if coefficients:
        first = coefficients[0] if at == 1 else 1.0
        param.eltwise_param.coeff[:] = [first, coefficients[at]]
    pair = Layer(param, phase=layer.phase)
    pair.original = None
    return pair

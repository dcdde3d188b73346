"""norm-factor: a BatchNorm that stays gets the factor 1.

    mean, variance, factor        mean / factor, variance / factor, 1

A factor of 0 makes both 0, as in Caffe. For targets that divide by the factor, or ignore it.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class NormFactor(Form):
    """Divides the statistics of a BatchNorm that stays by its factor, which becomes 1."""

    name = "norm-factor"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        mean, variance, factor = (blob.float64() for blob in layer.blobs)
        scale = 1 / factor.flat[0] if factor.flat[0] else 0.0
        values = mean * scale, variance * scale, factor * 0 + 1
        blobs = tuple(Dense(value, blob.dtype) for value, blob in zip(values, layer.blobs))
        note = "had its factor made 1"
        return Rewrite((layer,), {layer: (layer.param, blobs)}, "", note)

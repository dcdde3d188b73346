"""as-scale: a layer that is one multiply-add a channel becomes a Scale.

    x -> Bias -> y        x -> Scale (bias_term: true) -> y

    y = scale * x + shift

A Bias has scale 1, a Power of power 1 the same scale and shift for all channels. For targets that
have no Bias or Power.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.layers.layer import Layer
from caffe_merge.layers.per_channel import affine_of, as_scale
from caffe_merge.net.graph import Graph
from caffe_merge.notes import SHAPE, Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class AsScale(Form):
    """Makes a Bias, a Power or their like a Scale, for targets without these."""

    name = "as-scale"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        bottom = graph.bottoms[layer][0]
        affine = affine_of(layer, bottom.rank)
        if affine is None or isinstance(affine, Reason):
            return affine or Reason("it is not one map for each channel")
        if affine.axis is None:
            if bottom.shape is None or len(bottom.shape) < 2:
                return Reason("the number of its channels is not known", SHAPE)
            affine = affine.over(bottom.shape[1], 1)
        return Rewrite((layer,), {layer: as_scale(layer, affine)}, "", "became a Scale")

"""clip-as-relu6: a Clip to 0 and 6 becomes a ReLU6.

    y = min(max(x, 0), 6)

For targets that have ReLU6 and no Clip.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class ClipAsRelu6(Form):
    """Makes a Clip to 0 and 6 a ReLU6, for targets without Clip."""

    name = "clip-as-relu6"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        limits = layer.param.clip_param.min, layer.param.clip_param.max
        if limits != (0, 6):
            return Reason(f"it clips to {limits[0]:g} and {limits[1]:g}, not to 0 and 6")
        param = copied(layer.param)
        param.ClearField("clip_param")
        param.type = "ReLU6"
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", "became a ReLU6")

"""shared-slope: a PReLU with one slope for all channels becomes a ReLU with that slope.

    y = x where x > 0, else slope * x

For targets whose PReLU has a slope for each channel, or that have none. The slope is written into
the text, where it is the same float32.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class SharedSlope(Form):
    """Makes a PReLU of one slope a ReLU with negative_slope."""

    name = "shared-slope"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        if len(layer.blobs) != 1 or len(layer.blobs[0].float64().reshape(-1)) != 1:
            return Reason("it has not one slope")
        param = copied(layer.param)
        for name in ("prelu_param", "param"):
            param.ClearField(name)
        param.type = "ReLU"
        param.relu_param.negative_slope = float(layer.blobs[0].float64().reshape(-1)[0])
        return Rewrite((layer,), {layer: (param, ())}, "", "became a ReLU with negative_slope")

"""written-defaults: fields that a layer leaves to Caffe's defaults are written out.

    lrn_param { local_size: 3 }        lrn_param { local_size: 3 alpha: 1 beta: 0.75 }
    concat_param { concat_dim: 2 }     concat_param { axis: 2 }

For targets whose own defaults are others, or that do not know the older name of a field.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class WrittenDefaults(Form):
    """Writes out the defaults of an LRN, and concat_dim as axis."""

    name = "written-defaults"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        param = copied(layer.param)
        if layer.type == "Concat":
            param.concat_param.axis = param.concat_param.concat_dim
            param.concat_param.ClearField("concat_dim")
        elif layer.type == "LRN":
            for name in ("local_size", "alpha", "beta"):
                setattr(param.lrn_param, name, getattr(param.lrn_param, name))
        else:
            return Reason("which of its defaults differ is not known")
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", "has its defaults written out")

"""stored-statistics: a BatchNorm that stays says that it uses the stored statistics.

    batch_norm_param { }        batch_norm_param { use_global_stats: true }

In the TEST phase Caffe uses them unless the text says otherwise. For targets that want it said.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class StoredStatistics(Form):
    """Writes use_global_stats: true into a BatchNorm that stays."""

    name = "stored-statistics"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        if layer.trains:
            return Reason("it is in the phase TRAIN, and normalises by each batch")
        param = copied(layer.param)
        param.batch_norm_param.use_global_stats = True
        note = "says use_global_stats: true"
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", note)

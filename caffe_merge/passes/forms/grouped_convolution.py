"""grouped-convolution: a fork's depthwise type becomes a Convolution with a group a channel.

    x -> ConvolutionDepthwise (C channels) -> y        x -> Convolution (group: C) -> y

For targets that know BVLC's types alone.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.layer_kernels import convolution_of
from caffe_merge.passes.rewriting.rewrite import Rewrite


class GroupedConvolution(Form):
    """Makes ConvolutionDepthwise and its like a Convolution with group."""

    name = "grouped-convolution"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        kernel = convolution_of(graph, layer)
        if isinstance(kernel, Reason):
            return kernel
        param = copied(layer.param)
        param.type = "Convolution"
        param.convolution_param.num_output = kernel.outputs
        param.convolution_param.group = kernel.group
        note = "became a Convolution with group"
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", note)

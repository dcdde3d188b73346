"""depthwise-convolution: a Convolution with a group a channel becomes a ConvolutionDepthwise.

    x -> Convolution (C channels, group: C) -> y        x -> ConvolutionDepthwise -> y

For targets that have such a layer, and run a Convolution with group more slowly or not at all; the
reverse is grouped-convolution.
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


class DepthwiseConvolution(Form):
    """Makes a Convolution with a group a channel a ConvolutionDepthwise."""

    name = "depthwise-convolution"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        kernel = convolution_of(graph, layer)
        if isinstance(kernel, Reason):
            return kernel
        if layer.type != "Convolution" or not kernel.outputs == kernel.group == kernel.inputs:
            return Reason("it has not one group and one output for each channel")
        param = copied(layer.param)
        param.type = "ConvolutionDepthwise"
        param.convolution_param.ClearField("group")
        note = "became a ConvolutionDepthwise"
        return Rewrite((layer,), {layer: (param, layer.blobs)}, "", note)

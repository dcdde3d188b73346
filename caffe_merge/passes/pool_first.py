"""pool-first: average pooling goes in front of the 1x1 convolution whose output it pools.

    x -> Convolution 1x1 -> Pooling AVE -> y        x -> Pooling AVE -> Convolution 1x1 -> y

    mean(W x + b) = W mean(x) + b

Both are linear, one along channels and one along places, so they may change places; the convolution
then works on fewer. Groups and partial last windows are no problem: Caffe divides by what of a
window lies inside. With padding it counts zeros as well, and a bias would count less at the border.
"""

from __future__ import annotations

from typing import List, Optional, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.arrays import Shape, count
from caffe_merge.layers import windows
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.net.graph import Graph
from caffe_merge.notes import READERS, SHAPE, Reason
from caffe_merge.passes.rewriting.affine_propagation import forward_maps
from caffe_merge.passes.rewriting.layer_kernels import kernel_of
from caffe_merge.passes.rewriting.rewrite import (
    Finding,
    Findings,
    Insert,
    Pass,
    Refused,
    Rewrite,
    kept,
)

# Caffe's loop over windows takes as long for a value as its matrix product for 10 to 60 (measured).
PRODUCTS_PER_SUM = 32


class PoolFirst(Pass):
    """Lets average pooling and the 1x1 convolution before it change places."""

    name = "pool-first"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            kernel = _pooled_kernel(graph, layer)
            if kernel is None:
                continue
            convolution = graph.bottoms[layer][0].producer
            rewrite: Union[Rewrite, Reason] = kept("one of them is")
            if fixed.isdisjoint((convolution, layer)):
                rewrite = _exchanged(graph, convolution, layer, kernel)
            if isinstance(rewrite, Reason):
                behind = f"behind {convolution.type} {convolution.name!r}"
                findings.append(Refused(layer, Reason.about(behind, rewrite)))
            else:
                findings.add(rewrite)
        return findings


def _pooled_kernel(graph: Graph, layer: Layer) -> Optional[Kernel]:
    """The kernel, 1x1 of stride 1, of the convolution whose output ``layer`` averages, if so."""
    param = layer.param.pooling_param
    if layer.type != "Pooling" or param.pool != param.AVE or len(graph.bottoms[layer]) != 1:
        return None
    convolution = graph.bottoms[layer][0].producer
    kernel = kernel_of(graph, convolution) if convolution.type in CONVOLUTIONS else None
    if not isinstance(kernel, Kernel) or not all(axis.is_point for axis in kernel.axes):
        return None
    return kernel


def _exchanged(
    graph: Graph, convolution: Layer, pooling: Layer, kernel: Kernel
) -> Union[Rewrite, Reason]:
    between, (end,) = graph.bottoms[pooling][0], graph.tops[pooling]
    if len(between.readers) > 1:
        return Reason("its output has other readers, which need all of it", READERS)
    if between.overwritten:
        return Reason("it is written in place, over what it reads")
    reason = unknown_fields(pooling)
    if reason is not None:
        return reason
    if between.shape is None or end.shape is None:
        return Reason("the shape of its bottom is not known", SHAPE)
    ones = np.ones(kernel.outputs)
    bias = Affine(ones, 0 * ones if kernel.bias is None else kernel.bias(), 1)
    pooled = forward_maps(pooling, [bias], [between.shape], [end.shape])
    if isinstance(pooled, Reason):
        return Reason.about("the bias of it", pooled) if bias.shift.any() else pooled
    if not _saves(kernel, pooling, between.shape, end.shape):
        return Reason("it would save no multiply-adds, or not enough for more sums in the pooling")
    return Rewrite(
        layers=(convolution, pooling),
        changes={convolution: (convolution.param, convolution.blobs)},
        note="",
        inserts=(Insert(pooling, convolution, 0),),
    )


def _saves(kernel: Kernel, pooling: Layer, between: Shape, end: Shape) -> bool:
    """Whether the convolution has less to do, by more than the pooling has to do for more channels.

    ``between`` and ``end`` are the shapes of what is pooled now, and of what comes of it.
    """
    products = (count(between) - count(end)) * kernel.inputs // kernel.group
    window = windows.pooling(pooling, between[2:])
    sums_per_channel = count(window.kernel) * count(end[2:]) * end[0]
    more_sums = sums_per_channel * (kernel.inputs - kernel.outputs)
    return products > max(PRODUCTS_PER_SUM * more_sums, 0)

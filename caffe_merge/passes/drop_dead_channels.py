"""drop-dead-channels: removes channels that do not affect the outputs, and what computes them.

    x -> Convolution W, b -> ReLU -> Convolution V, c -> y

Channel m between them goes, with row m of W and b and column m of V, where

    V[:, m] = 0                       nobody reads it
    W[m] = 0, or never above 0        it is constant: k = ReLU(b[m]), and c' = c + V[:, m] k
    W[m] = W[l] and b[m] = b[l]       it has a twin l: V'[:, l] = V[:, l] + V[:, m]

A constant other than 0 does not go where V pads. Between them may be whatever carries channels on
one by one: pointwise and per-channel layers, depthwise convolutions, Pooling, Concat, Slice, and
Eltwise where the channel may go from all of its bottoms. Of every blob one channel at least stays,
and of net inputs, net outputs and what other layers read all do.
"""

from __future__ import annotations

from typing import List

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.layers.matrices import facts
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.net.graph import Graph
from caffe_merge.passes.rewriting.channel_axis import is_dense, is_depthwise, reads_twice
from caffe_merge.passes.rewriting.rewrite import Finding, Pass


class DropDeadChannels(Pass):
    """Leaves out channels that nobody reads, that are constant or that are there twice."""

    name = "drop-dead-channels"

    def find(self, graph: Graph) -> List[Finding]:
        if not _may_have_dead(graph):
            return []  # as good as always, so the rest is imported where there are some
        from caffe_merge.passes.rewriting.dead_channels import findings

        return findings(graph, self.fixed(graph))


def _may_have_dead(graph: Graph) -> bool:
    """Whether any layer can make a channel constant, or one like another, or leaves one unread."""
    if reads_twice(graph):
        return True
    for layer in graph.layers:
        if layer.type in LINEAR_TYPES:
            if is_dense(graph, layer) and not facts(layer).is_plain:
                return True
            # Equal ones of its outputs are alike only where those of its bottom are.
            if is_depthwise(graph, layer) and facts(layer).has_signs:
                return True
            continue
        affine = affine_of(layer, graph.bottoms[layer][0].rank) if graph.bottoms[layer] else None
        if isinstance(affine, Affine) and not affine.scale.all():
            return True
    return False

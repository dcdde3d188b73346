"""fold-swap: a convolution that only reorders channels folds into its consumers.

    x -> Convolution P -> Convolution W, b -> y        x -> Convolution W', b -> y

    W'[o, order[i]] = W[o, i]        where P makes channel i of channel order[i]

P is 1x1, and each row and column of its weights has one 1 and zeros. Every reader must be one that
it folds into: Convolution, Deconvolution and InnerProduct without groups. A layer that is affine
per channel has its values reordered, and its own readers are next. Padding is no problem: zeros
stay zeros.
"""

from __future__ import annotations

from typing import List, Optional, Set, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.arrays import Float64, Indices, Shape, count
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import ALL, Blob, Computed, Dense, Rows
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import LINEAR_TYPES, linear_param, output_channels
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.net.graph import Graph
from caffe_merge.notes import OUTPUT, Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED, forward_rewrite
from caffe_merge.passes.rewriting.layer_kernels import kernel_of
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)


class FoldSwap(Pass):
    """Folds permutations of channels forwards."""

    name = "fold-swap"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            order = _order(graph, layer)
            if order is None:
                continue
            rewrite = KEPT_AS_ASKED if layer in fixed else _forwards(graph, layer, order, fixed)
            if isinstance(rewrite, Reason):
                findings.append(Refused(layer, rewrite))
            else:
                findings.add(rewrite)
        return findings


def _order(graph: Graph, layer: Layer) -> Optional[Indices]:
    """The input channel of each output channel of a permutation; None of any other layer."""
    if layer.type != "Convolution" or len(layer.blobs) != 1:
        return None
    shape = layer.blobs[0].shape  # anything, where the shape of its bottom is not known
    if len(shape) < 2 or count(shape) != shape[0] ** 2:
        return None
    kernel = kernel_of(graph, layer)
    if (
        not isinstance(kernel, Kernel)
        or kernel.group > 1
        or not all(axis.is_point for axis in kernel.axes)
    ):
        return None
    if np.count_nonzero(kernel.weights(slice(0, 1))) != 1:  # most are no permutation by their first
        return None
    matrix = kernel.weights(ALL).reshape(kernel.outputs, kernel.inputs)
    if np.count_nonzero(matrix) != len(matrix):
        return None
    if not all((matrix.sum(axis) == 1).all() for axis in (0, 1)):
        return None
    order: Indices = matrix.argmax(axis=1)
    return order


def _forwards(
    graph: Graph, layer: Layer, order: Indices, fixed: Set[Layer]
) -> Union[Rewrite, Reason]:
    (end,) = graph.tops[layer]
    changes: Changes = {}
    reached = {end}
    places = np.argsort(order)
    if end.is_output:
        return Reason(f"{end.name!r} is a net output", OUTPUT)
    for reader in graph.layers:
        bottoms, tops = graph.bottoms[reader], graph.tops[reader]
        if reached.isdisjoint(bottoms):
            continue
        if reader in fixed:
            return kept(f"layer {reader.name!r}, which reads it, is")
        if reader.type in LINEAR_TYPES:
            change = _linear(reader, bottoms[0].shape, places)
        else:
            change = _per_channel(reader, bottoms[0].rank, places)
            reached.update(tops)
        if isinstance(change, Reason):
            return Reason(f"{reader.type} {reader.name!r} reads it: {change}")
        if not reached.isdisjoint(tops) and tops[0].is_output:
            return Reason(f"{tops[0].name!r} is a net output", OUTPUT)
        changes[reader] = change
    return forward_rewrite(graph, layer, changes)


def _linear(reader: Layer, bottom: Optional[Shape], places: Indices) -> Union[New, Reason]:
    """New parameters and blobs of a linear ``reader``: its channel i was channel ``places[i]``."""
    output = output_channels(reader, None if bottom is None else len(bottom))
    if isinstance(output, Reason):
        return output
    linear = linear_param(reader.param)
    if reader.type == DEPTHWISE or (reader.type != "InnerProduct" and linear.group > 1):
        return Reason("it is grouped, and channels of different groups change places")
    if axis_of(reader.param, None if bottom is None else len(bottom)) != 1:
        return Reason(f"its axis is {linear.axis}, not 1")
    weights = reader.blobs[0]
    by_row = reader.type == "Deconvolution" or (reader.type == "InnerProduct" and linear.transpose)
    width = weights.shape[0 if by_row else 1] // len(places)  # of an InnerProduct: values a channel
    index = (places[:, np.newaxis] * width + np.arange(width)).ravel()
    return copied(reader.param), (_ordered(weights, index, by_row), *reader.blobs[1:])


def _ordered(blob: Blob, index: Indices, by_row: bool) -> Blob:
    """Rows or columns of ``blob`` in another order."""
    if by_row:
        return Computed(blob.shape, lambda rows: _float64(blob, index[rows]), blob.dtype)
    return Computed(blob.shape, lambda rows: _float64(blob, rows)[:, index], blob.dtype)


def _float64(blob: Blob, rows: Rows) -> Float64:
    return np.asarray(blob.rows(rows), np.float64)


def _per_channel(reader: Layer, rank: Optional[int], places: Indices) -> Union[New, Reason]:
    """The same for a layer that is affine per channel; its top's channels are in that order too."""
    affine = affine_of(reader, rank)
    if isinstance(affine, Reason):
        return affine
    if not isinstance(affine, Affine) or affine.axis not in (None, 1):
        return Reason("it cannot take it in")
    if affine.axis is None:
        return copied(reader.param), reader.blobs
    blobs = [
        Dense(blob.float64().reshape(-1)[places].reshape(blob.shape), blob.dtype)
        if count(blob.shape) == len(places)
        else blob
        for blob in reader.blobs
    ]
    return copied(reader.param), tuple(blobs)

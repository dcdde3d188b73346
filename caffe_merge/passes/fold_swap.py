"""fold-swap: a convolution that only puts channels in another order goes into what reads it.

    x -> Convolution P -> Convolution W, b -> y        x -> Convolution W', b -> y

    W'[o, order[i]] = W[o, i]        where P makes channel i of channel order[i]

P is 1x1, each row and column of its weights one 1. Every reader must take it in: Convolution,
Deconvolution and InnerProduct without groups. What is affine per channel changes the order of its
values, and hands it on. Padding does not matter: zeros stay zeros.
"""

from typing import List, Optional, Set, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.arrays import Float64, Indices, Shape, count
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import LINEAR_TYPES, output, own_param
from caffe_merge.layers.per_channel import affine
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes._kernels import kernel
from caffe_merge.passes._pass import Changes, Found, Pass, Refused, Rewrite
from caffe_merge.passes._runs import KEPT, taken_forwards
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import ALL, Blob, Computed, Dense, Rows


class FoldSwap(Pass):
    """Folds permutations of channels forwards."""

    name = "fold-swap"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        used: Set[Layer] = set()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            order = _order(graph, layer)
            if order is None:
                continue
            answer = KEPT if layer in fixed else _forwards(graph, layer, order, fixed)
            if isinstance(answer, Reason):
                found.append(Refused(layer, str(answer)))
            elif used.isdisjoint(answer.layers):
                found.append(answer)
                used.update(answer.layers)
        return found


def _order(graph: Graph, layer: Layer) -> Optional[Indices]:
    """The input channel of each output channel of a permutation; None of any other layer."""
    if layer.type != "Convolution" or len(layer.blobs) != 1:
        return None
    if count(layer.blobs[0].shape) != layer.blobs[0].shape[0] ** 2:
        return None
    one = kernel(graph, layer)
    if not isinstance(one, Kernel) or one.group > 1 or not all(axis.is_one for axis in one.axes):
        return None
    if np.count_nonzero(one.weights(slice(0, 1))) != 1:  # most are no permutation by their first
        return None
    matrix = one.weights(ALL).reshape(one.outputs, one.inputs)
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
        return Reason(f"{end.name!r} is a net output")
    for reader in graph.layers:
        bottoms, tops = graph.bottoms[reader], graph.tops[reader]
        if reached.isdisjoint(bottoms):
            continue
        if reader in fixed:
            return Reason(f"layer {reader.name!r}, which reads it, is kept as asked with --keep")
        if reader.type in LINEAR_TYPES:
            new = _linear(reader, bottoms[0].shape, places)
        else:
            new = _per_channel(reader, bottoms[0].rank, places)
            reached.update(tops)
        if isinstance(new, Reason):
            return Reason(f"{reader.type} {reader.name!r} reads it: {new}")
        if not reached.isdisjoint(tops) and tops[0].is_output:
            return Reason(f"{tops[0].name!r} is a net output")
        changes[reader] = new
    return taken_forwards(graph, layer, changes)


def _linear(reader: Layer, bottom: Optional[Shape], places: Indices) -> Union[New, Reason]:
    """Parameters and blobs of a linear ``reader`` whose channel i was its channel ``places[i]``."""
    known = output(reader, None if bottom is None else len(bottom))
    if isinstance(known, Reason):
        return known
    own = own_param(reader.param)
    if reader.type == DEPTHWISE or (reader.type != "InnerProduct" and own.group > 1):
        return Reason("it is grouped, and channels of different groups change places")
    if own.axis != 1:
        return Reason(f"its axis is {own.axis}, not 1")
    weights = reader.blobs[0]
    by_row = reader.type == "Deconvolution" or (reader.type == "InnerProduct" and own.transpose)
    each = weights.shape[0 if by_row else 1] // len(places)  # of an InnerProduct: values a channel
    index = (places[:, np.newaxis] * each + np.arange(each)).ravel()
    return copied(reader.param), (_ordered(weights, index, by_row), *reader.blobs[1:])


def _ordered(blob: Blob, index: Indices, by_row: bool) -> Blob:
    """Rows or columns of ``blob`` in another order."""
    if by_row:
        return Computed(blob.shape, lambda rows: _float64(blob, index[rows]), blob.dtype)
    return Computed(blob.shape, lambda rows: _float64(blob, rows)[:, index], blob.dtype)


def _float64(blob: Blob, rows: Rows) -> Float64:
    return np.asarray(blob.rows(rows), np.float64)


def _per_channel(reader: Layer, rank: Optional[int], places: Indices) -> Union[New, Reason]:
    """The same of a layer that is affine per channel, which makes its channels in that order."""
    one = affine(reader, rank)
    if isinstance(one, Reason):
        return one
    if not isinstance(one, Affine) or one.axis not in (None, 1):
        return Reason("it cannot take it in")
    if one.axis is None:
        return copied(reader.param), reader.blobs
    blobs = [
        Dense(blob.float64().reshape(-1)[places].reshape(blob.shape), blob.dtype)
        if count(blob.shape) == len(places)
        else blob
        for blob in reader.blobs
    ]
    return copied(reader.param), tuple(blobs)

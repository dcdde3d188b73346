"""fold-permute: a Permute, Flatten or Reshape folds into the InnerProducts that read it.

    x -> Permute -> InnerProduct W, b -> y        x -> InnerProduct W', b -> y

W'[o, p[k]] = W[o, k] where value k of an image, counted through, is value p[k] before the Permute.
An InnerProduct takes all axes from its own on as one, so Flatten and Reshape, which leave values in
their order, simply go. Between them may be layers that compute each value by itself, as ReLU.
"""

from math import prod
from typing import Callable, Dict, List, NamedTuple, Optional, Union

import numpy as np

from caffe_merge.algebra.orders import origins
from caffe_merge.arrays import Indices, Shape
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.axes import axis_of, flattens_images
from caffe_merge.layers.fork_fields import spec_of, unknown_fields
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import output_channels
from caffe_merge.layers.matrices import inputs_axis
from caffe_merge.layers.moving import keeps_images
from caffe_merge.layers.shapes.forks import order
from caffe_merge.net.graph import Graph
from caffe_merge.notes import READERS, SHAPE, Reason
from caffe_merge.passes.rewriting.affine_runs import forward_rewrite
from caffe_merge.passes.rewriting.elementwise import in_place_without, layers_below
from caffe_merge.passes.rewriting.pruning import selected
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)
from caffe_merge.wording import named


class FoldPermute(Pass):
    """Folds layers that put the values of an image in another order into InnerProducts."""

    name = "fold-permute"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            if layer.type not in _RULES or len(graph.tops[layer]) != 1:
                continue
            between = layers_below(graph, graph.tops[layer][0])
            end = graph.tops[between[-1] if between else layer][0]
            products = [reader for reader, _ in end.readers]
            if not any(reader.type == "InnerProduct" for reader in products):
                continue
            rewrite: Union[Rewrite, Reason] = kept("one of them is")
            if fixed.isdisjoint((layer, *between, *products)):
                rewrite = _folded(graph, layer, between, products)
            if isinstance(rewrite, Reason):
                findings.append(Refused(layer, rewrite))
            else:
                findings.add(rewrite)
        return findings


def _folded(
    graph: Graph, layer: Layer, between: List[Layer], products: List[Layer]
) -> Union[Rewrite, Reason]:
    others = [reader.name for reader in products if reader.type != "InnerProduct"]
    if others:
        return Reason(f"it is read by {named(others)} as well, not by InnerProducts alone", READERS)
    in_place = in_place_without(graph, layer, between)
    if isinstance(in_place, Reason):
        return in_place
    changes: Changes = {other: (other.param, other.blobs) for other in between}
    for product in products:
        move = _move(graph, layer, product)
        if isinstance(move, Reason):
            return move
        changes[product] = _reading(product, move)
    rewrite = forward_rewrite(graph, layer, changes)
    if isinstance(rewrite, Reason):
        return rewrite
    note = f"folded into InnerProduct {named([product.name for product in products])}"
    return rewrite._replace(note=note, in_place=in_place)


class _Move(NamedTuple):
    """Behind ``axis`` value k of an image comes from value ``origins[k]``; None: all stay."""

    axis: int
    origins: Optional[Indices] = None


def _move(graph: Graph, layer: Layer, product: Layer) -> Union[_Move, Reason]:
    """What ``layer`` does to what ``product``, which reads it, takes as one vector."""
    source, between = graph.bottoms[layer][0], graph.tops[layer][0]
    output = output_channels(product, graph.tops[product][0].rank)
    reason = unknown_fields(layer) or unknown_fields(product)
    if reason is not None:
        return reason
    if isinstance(output, Reason):
        return output
    if layer.type == "Flatten" and flattens_images(layer, source.rank) and output.axis == 1:
        return _Move(1)  # whatever the shapes are
    if source.shape is None or between.shape is None:
        return Reason("its shapes are not known", SHAPE)
    axis = output.axis
    behind = source.shape[axis:], between.shape[axis:]
    if source.shape[:axis] != between.shape[:axis] or prod(behind[0]) != prod(behind[1]):
        return Reason(f"it moves what lies in front of axis {axis} of {product.name!r}")
    move = _RULES[layer.type](layer, axis, source.shape, between.shape)
    return move or Reason(f"it may move what lies in front of axis {axis} of {product.name!r}")


def _permuted(layer: Layer, axis: int, bottom: Shape, top: Shape) -> Optional[_Move]:
    axes = order(spec_of(layer), len(bottom))
    if axes[:axis] != tuple(range(axis)):
        return None
    return _Move(axis, origins(bottom[axis:], [moved - axis for moved in axes[axis:]]))


def _flattened(layer: Layer, axis: int, bottom: Shape, top: Shape) -> Optional[_Move]:
    start = axis_of(layer.param, len(bottom))
    return _Move(axis) if start is not None and start >= axis else None


def _reshaped(layer: Layer, axis: int, bottom: Shape, top: Shape) -> Optional[_Move]:
    """At any other number of images too."""
    return _Move(axis) if axis == 1 and keeps_images(layer, bottom, top) else None


_RULES: Dict[str, Callable[[Layer, int, Shape, Shape], Optional[_Move]]] = {
    "Flatten": _flattened,
    "Permute": _permuted,
    "Reshape": _reshaped,
}


def _reading(product: Layer, move: _Move) -> New:
    """The InnerProduct ``product`` that reads what lies in front of the move."""
    param, (weights, *biases) = product.param, product.blobs
    if param.inner_product_param.axis != move.axis:
        param = copied(param)
        param.inner_product_param.axis = move.axis
    if move.origins is None or (move.origins == np.arange(len(move.origins))).all():
        return param, product.blobs
    numbers = [np.arange(size) for size in weights.shape]
    numbers[inputs_axis(product)] = np.argsort(move.origins)
    turned = selected(weights, numbers, (), inputs_axis(product))
    return copied(param), (turned, *biases)

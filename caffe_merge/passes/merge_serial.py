"""merge-serial: two convolutions in a row become one.

    x -> Convolution W1, b1 -> Convolution W2, b2 -> y        x -> Convolution W, b -> y

    W = W2 * W1 (taps convolved, channels multiplied)         b = W2 b1 + b2

InnerProducts likewise, and an InnerProduct behind a convolution whose kernel covers its input. The
second must not pad if the first has a bias, nor if the first has a kernel larger than 1x1: the
border would differ. By default it is done where neither multiply-adds nor weights grow.

A Deconvolution takes in the 1x1 convolution before or behind it, or another Deconvolution. A bias
before it goes in only where all of its output places see as much of it: it would be a bias no more.
"""

from math import prod
from typing import List, NamedTuple, Optional, Tuple, Union

from caffe_merge.algebra.kernels import Kernel
from caffe_merge.algebra.maps import LinearMap, Transposed, chained
from caffe_merge.arrays import count
from caffe_merge.layers.axes import axis_of, flattens_images, from_front
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.branches import multiply_adds
from caffe_merge.passes.rewriting.layer_kernels import (
    as_layer,
    full_input_kernel,
    inner_product_kernel,
    map_of,
)
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Pass,
    Refused,
    Rewrite,
    kept,
)

LARGE = 1 << 20  # an input size, to see whether a kernel gives out more places than it reads


class MergeSerial(Pass):
    """Chains the kernels of consecutive linear layers."""

    name = "merge-serial"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        if self.options.serial == "never":
            return findings
        fixed = self.fixed(graph)
        for layer in graph.layers:
            pair = _pair(graph, layer)
            if pair is None or findings.have(pair):
                continue
            rewrite: Union[Rewrite, Reason] = kept("one of them is")
            if fixed.isdisjoint(pair):
                rewrite = _merged(graph, pair, self.options.serial == "always")
            if isinstance(rewrite, Reason):
                findings.append(
                    Refused(
                        layer,
                        Reason.about(f"behind {pair[0].type} {pair[0].name!r}", rewrite),
                    )
                )
                continue
            findings.add(rewrite)
        return findings


def _pair(graph: Graph, layer: Layer) -> Optional[Tuple[Layer, ...]]:
    """The linear producer of the linear ``layer``, a Flatten between them if there is one, and it.

    None where ``layer`` is not linear or its producer is not, or has other readers.
    """
    if layer.type not in LINEAR_TYPES or len(graph.bottoms[layer]) != 1:
        return None
    pair = [layer]
    version = graph.bottoms[layer][0]
    if layer.type == "InnerProduct" and version.producer.type == "Flatten":
        pair.insert(0, version.producer)
        if len(version.readers) > 1:
            return None
        version = graph.bottoms[version.producer][0]
    first = version.producer
    if first.type not in LINEAR_TYPES or len(version.readers) > 1:
        return None
    if layer.type != "InnerProduct" and first.type == "InnerProduct":
        return None
    if layer.type == "InnerProduct" and first.type == "Deconvolution":
        return None
    return (first, *pair)


class _Pair(NamedTuple):
    """Two layers as maps, what the first reads, and the multiply-adds and weights of both.

    ``places`` is at how many places one layer would compute its kernel; 1 without shapes, and then
    ``cost`` is that of one place.
    """

    first: LinearMap
    second: LinearMap
    source: Version
    cost: int
    weights: int
    places: int = 1


def _merged(graph: Graph, pair: Tuple[Layer, ...], always: bool) -> Union[Rewrite, Reason]:
    is_product = pair[-1].type == "InnerProduct"
    kernels = (_inner_product_pair if is_product else _convolution_pair)(graph, pair)
    if isinstance(kernels, Reason):
        return kernels
    merged = chained(kernels.first, kernels.second)
    if isinstance(merged, Reason):
        return merged
    if not always and merged.cost * kernels.places > kernels.cost:
        return Reason("one layer would take more multiply-adds than the two")
    if not always and merged.cost > kernels.weights:
        return Reason("one layer would have more weights than the two")
    survivor = _survivor(pair, kernels.first, merged)
    reason = None if survivor is pair[0] else graph.why_not_move(kernels.source, pair)
    if reason is not None:
        return reason
    param, blobs = as_layer(survivor, merged)
    if is_product:
        param = from_front(param, graph.bottoms[survivor][0].rank)
    changes: Changes = {survivor: (param, blobs)}
    (other,) = {pair[0], pair[-1]} - {survivor}
    return Rewrite(
        layers=pair,
        changes=changes,
        note=f"merged into {survivor.type} {survivor.name!r}",
        kept_note=f"took in {other.name!r}",
    )


def _survivor(pair: Tuple[Layer, ...], first: LinearMap, merged: LinearMap) -> Layer:
    """The layer that stays: of the type of ``merged``, the first where it has its taps already."""
    fitting = [pair[0], pair[-1]]
    if isinstance(merged, Transposed):
        fitting = [layer for layer in fitting if layer.type == "Deconvolution"]
    return fitting[0] if merged.axes and merged.axes == first.axes else fitting[-1]


def _convolution_pair(graph: Graph, pair: Tuple[Layer, ...]) -> Union[_Pair, Reason]:
    first, second = (map_of(graph, layer) for layer in pair)
    for linear in (first, second):
        if linear is None or isinstance(linear, Reason):
            return linear or Reason("it has not one bottom and one top")
    assert isinstance(first, (Kernel, Transposed))
    assert isinstance(second, (Kernel, Transposed))
    source, between, end = graph.bottoms[pair[0]][0], graph.tops[pair[0]][0], graph.tops[pair[1]][0]
    weights = first.cost + second.cost
    if source.shape is None or between.shape is None or end.shape is None:
        widens = isinstance(second, Kernel) and any(
            axis.places(LARGE) > LARGE for axis in second.axes
        )
        if widens or isinstance(first, Transposed):
            return Reason("its shapes are not known")  # so that one of the two might cost less
        return _Pair(first, second, source, weights, weights)
    cost = multiply_adds(first, source, between) + multiply_adds(second, between, end)
    spreads = isinstance(first, Transposed) or isinstance(second, Transposed)
    places = prod((source.shape if spreads else end.shape)[2:])
    return _Pair(first, second, source, cost, weights, places)


def _inner_product_pair(graph: Graph, pair: Tuple[Layer, ...]) -> Union[_Pair, Reason]:
    second = inner_product_kernel(graph, pair[-1])
    if pair[0].type == "InnerProduct":
        first = inner_product_kernel(graph, pair[0])
        ranks = [graph.bottoms[layer][0].rank for layer in (pair[0], pair[-1])]
        axes = {axis_of(layer.param, rank) for layer, rank in zip((pair[0], pair[-1]), ranks)}
        if len(axes) > 1 or None in axes or len(pair) > 2:
            return Reason("the two lie along different axes")
    else:
        first = full_input_kernel(graph, pair[0])
        if axis_of(pair[-1].param, graph.bottoms[pair[-1]][0].rank) != 1:
            return Reason("its axis is not 1")
    if isinstance(first, Reason):
        return first
    if isinstance(second, Reason):
        return second
    if len(pair) > 2 and not flattens_images(pair[1], graph.bottoms[pair[1]][0].rank):
        return Reason(f"{pair[1].name!r} does not flatten all of each image")
    weights = count(pair[0].blobs[0].shape) + second.cost  # as many as multiply-adds
    return _Pair(first, second, graph.bottoms[pair[0]][0], weights, weights)

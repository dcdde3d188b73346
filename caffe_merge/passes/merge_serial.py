"""merge-serial: a convolution right behind a convolution becomes one with it.

    x -> Convolution W1, b1 -> Convolution W2, b2 -> y        x -> Convolution W, b -> y

    W = W2 * W1 (taps convolved, channels multiplied)         b = W2 b1 + b2

InnerProducts likewise, and an InnerProduct behind a convolution whose kernel covers its input. The
second must not pad what the first gave a bias, nor what the first sees more than a point of: the
border would differ. By default it is done where neither multiply-adds nor weights grow.
"""

from math import prod
from typing import List, NamedTuple, Optional, Set, Tuple, Union

from caffe_merge.algebra.kernels import Kernel, chained
from caffe_merge.arrays import count
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS, Output, output
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes._kernels import as_convolution, as_inner_product, covering, kernel, product
from caffe_merge.passes._pass import Changes, Found, Pass, Refused, Rewrite

LINEAR = (*CONVOLUTIONS, "InnerProduct")


class MergeSerial(Pass):
    """Chains the kernels of consecutive linear layers."""

    name = "merge-serial"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        if self.options.serial == "never":
            return found
        used: Set[Layer] = set()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            pair = _pair(graph, layer)
            if pair is None or not used.isdisjoint(pair):
                continue
            answer: Union[Rewrite, Reason] = Reason("one of them is kept as asked with --keep")
            if fixed.isdisjoint(pair):
                answer = _merged(graph, pair, self.options.serial == "always")
            if isinstance(answer, Reason):
                found.append(Refused(layer, f"behind {pair[0].type} {pair[0].name!r}: {answer}"))
                continue
            found.append(answer)
            used.update(pair)
        return found


def _pair(graph: Graph, layer: Layer) -> Optional[Tuple[Layer, ...]]:
    """The linear layer that alone feeds the linear ``layer``, a Flatten between perhaps, and it."""
    if layer.type not in LINEAR or len(graph.bottoms[layer]) != 1:
        return None
    pair = [layer]
    version = graph.bottoms[layer][0]
    if layer.type == "InnerProduct" and version.producer.type == "Flatten":
        pair.insert(0, version.producer)
        if len(version.readers) > 1:
            return None
        version = graph.bottoms[version.producer][0]
    first = version.producer
    if first.type not in LINEAR or len(version.readers) > 1:
        return None
    if layer.type != "InnerProduct" and first.type == "InnerProduct":
        return None
    return (first, *pair)


class _Two(NamedTuple):
    """What two layers are, what the first reads, and what both cost: multiply-adds and weights."""

    first: Kernel
    second: Kernel
    source: Version
    cost: int
    weights: int


def _merged(graph: Graph, pair: Tuple[Layer, ...], always: bool) -> Union[Rewrite, Reason]:
    two = _products(graph, pair) if pair[-1].type == "InnerProduct" else _windows(graph, pair)
    if isinstance(two, Reason):
        return two
    whole = chained(two.first, two.second)
    if isinstance(whole, Reason):
        return whole
    end = graph.tops[pair[-1]][0]
    places = prod(end.shape[2:]) if whole.axes and end.shape is not None else 1
    if not always and whole.cost * places > two.cost:
        return Reason("one layer would take more multiply-adds than the two")
    if not always and whole.cost > two.weights:
        return Reason("one layer would have more weights than the two")
    survivor = pair[0] if whole.axes and whole.axes == two.first.axes else pair[-1]
    reason = None if survivor is pair[0] else graph.why_not_move(two.source, pair)
    if reason is not None:
        return Reason(reason)
    make = as_inner_product if survivor.type == "InnerProduct" else as_convolution
    changes: Changes = {survivor: make(survivor, whole)}
    (other,) = {pair[0], pair[-1]} - {survivor}
    return Rewrite(
        layers=pair,
        changes=changes,
        note=f"merged into {survivor.type} {survivor.name!r}",
        kept_note=f"took in {other.name!r}",
    )


def _windows(graph: Graph, pair: Tuple[Layer, ...]) -> Union[_Two, Reason]:
    first, second = (kernel(graph, layer) for layer in pair)
    if not isinstance(first, Kernel) or not isinstance(second, Kernel):
        return next(one for one in (first, second, _ODD) if isinstance(one, Reason))
    between, end = graph.tops[pair[0]][0], graph.tops[pair[1]][0]
    source, weights = graph.bottoms[pair[0]][0], first.cost + second.cost
    if between.shape is None or end.shape is None:
        if any(axis.places(1 << 20) > 1 << 20 for axis in second.axes):
            return Reason("its shapes are not known")  # so that the first might cost less
        return _Two(first, second, source, weights, weights)
    cost = first.cost * prod(between.shape[2:]) + second.cost * prod(end.shape[2:])
    return _Two(first, second, source, cost, weights)


_ODD = Reason("it has not one bottom and one top")


def _products(graph: Graph, pair: Tuple[Layer, ...]) -> Union[_Two, Reason]:
    second = product(graph, pair[-1])
    if pair[0].type == "InnerProduct":
        first = product(graph, pair[0])
        # The first has fewer axes behind it: a negative one is another there.
        written = {layer.param.inner_product_param.axis for layer in (pair[0], pair[-1])}
        known = [output(layer, graph.tops[layer][0].rank) for layer in (pair[0], pair[-1])]
        axes = {one.axis for one in known if isinstance(one, Output)}
        if len(written) > 1 or len(axes) > 1 or len(pair) > 2:
            return Reason("the two lie along different axes")
    else:
        first = covering(graph, pair[0])
        if pair[-1].param.inner_product_param.axis != 1:
            return Reason("its axis is not 1")
    if isinstance(first, Reason):
        return first
    if isinstance(second, Reason):
        return second
    flat = pair[1].param.flatten_param if len(pair) > 2 else None
    if flat is not None and (flat.axis, flat.end_axis) != (1, -1):
        return Reason(f"{pair[1].name!r} does not flatten all of each image")
    weights = count(pair[0].blobs[0].shape) + second.cost  # as many as multiply-adds
    return _Two(first, second, graph.bottoms[pair[0]][0], weights, weights)

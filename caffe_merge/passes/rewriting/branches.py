"""The branches of a sum: each bottom of an Eltwise as a linear map of an earlier blob."""

from itertools import chain
from math import prod
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.algebra.kernels import diagonal
from caffe_merge.algebra.maps import LinearMap, Transposed, added, chained
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.layer_kernels import map_of


class Branch(NamedTuple):
    """Bottom ``number`` of an Eltwise as a linear map of the blob ``source``.

    ``layers`` lie between the two and compute ``kernel``: None if there are no layers, a Reason if
    it cannot be composed. ``cost`` is their multiply-adds (see ``multiply_adds``), ``weights`` the
    number of their weights. ``convolution`` is the layer that may stay for all of them: a
    Deconvolution if there is one, else the first convolution.
    """

    number: int
    source: Version
    layers: Tuple[Layer, ...] = ()
    kernel: Union[LinearMap, Reason, None] = None
    cost: int = 0
    weights: int = 0
    convolution: Optional[Layer] = None

    def after(self, inner: "Branch") -> "Branch":
        """The composition: ``inner`` first, then this branch."""
        return Branch(
            self.number,
            inner.source,
            (*inner.layers, *self.layers),
            _composed(inner.kernel, self.kernel),
            inner.cost + self.cost,
            inner.weights + self.weights,
            _staying(inner.convolution, self.convolution),
        )


def _staying(first: Optional[Layer], second: Optional[Layer]) -> Optional[Layer]:
    """Which of two convolutions may stay for both: the Deconvolution, else the first."""
    if first is None or (second is not None and second.type == "Deconvolution"):
        return second
    return first


def _composed(
    first: Union[LinearMap, Reason, None], second: Union[LinearMap, Reason, None]
) -> Union[LinearMap, Reason, None]:
    """``second`` after ``first``; the identity is None, and the first Reason wins."""
    if second is None or first is None or isinstance(first, Reason):
        return first
    return second if isinstance(second, Reason) else chained(first, second)


Sums = Dict[Layer, Optional[Branch]]  # inner sums as branches; None for layers not to cross

REACH = 64  # the most layers of a branch: each is a kernel within a kernel


def is_sum(layer: Layer) -> bool:
    """Whether it is an Eltwise that adds up several bottoms, none of which it overwrites."""
    param = layer.param
    return (
        layer.type == "Eltwise"
        and param.eltwise_param.operation == param.eltwise_param.SUM
        and unknown_fields(layer) is None
        and len(param.bottom) > 1
        and len(param.top) == 1
        and param.top[0] not in param.bottom
    )


def branches_by_source(graph: Graph, layer: Layer, sums: Sums) -> Collection[List[Branch]]:
    """The branches of the bottoms of a sum, grouped by source; at most one for each bottom."""
    groups: Dict[Version, List[Branch]] = {}
    for number in range(len(graph.bottoms[layer])):
        for branch in _branches(graph, layer, number, sums):
            groups.setdefault(branch.source, []).append(branch)
    return groups.values()


def _branches(graph: Graph, layer: Layer, number: int, sums: Sums) -> List[Branch]:
    """A bottom as a map of itself, of its producer's bottom, and so on while that is linear."""
    version = graph.bottoms[layer][number]
    end = version
    branches = [Branch(number, version)]
    while (
        not isinstance(branches[-1].kernel, Reason)
        and len(version.readers) == 1
        and len(branches[-1].layers) < REACH
    ):
        producer = version.producer
        step = sums[producer] if producer in sums else _step(graph, version, end)
        if step is None:
            break
        version = step.source
        branches.append(branches[-1].after(step))
    return branches


def _step(graph: Graph, version: Version, end: Version) -> Optional[Branch]:
    """The producer of ``version`` as a map of its bottom; None if it is no linear map."""
    layer = version.producer
    kernel = map_of(graph, layer)
    if kernel is None or isinstance(kernel, Reason):
        return None
    source = graph.bottoms[layer][0]
    if layer.type == "Pooling":
        return Branch(0, source, (layer,), kernel)
    convolution = layer if layer.type in (*CONVOLUTIONS, "Deconvolution") else None
    has_shape = end.shape is not None
    cost = multiply_adds(kernel, source, version) if has_shape else kernel.cost
    return Branch(0, source, (layer,), kernel, cost, kernel.cost, convolution)


def multiply_adds(linear: LinearMap, source: Version, end: Version) -> int:
    """Those of a layer that makes ``end`` of ``source``; for one place without shapes."""
    places = source if isinstance(linear, Transposed) else end
    return linear.cost if places.shape is None else linear.cost * prod(places.shape[2:])


def inner_sum(layer: Layer, groups: Collection[List[Branch]]) -> Optional[Branch]:
    """A sum as a branch of an outer sum, where all its bottoms are maps of one blob."""
    factors = factors_of(layer)
    for branches in groups:
        layers = (*chain.from_iterable(branch.layers for branch in branches), layer)
        if factors is None or len(branches) < len(factors) or len(layers) > REACH:
            continue
        kernels: List[LinearMap] = []
        for branch in costliest_first(branches):
            scaled = scaled_kernel(branch, factors[branch.number], kernels)
            if isinstance(scaled, Reason):
                return None
            kernels.append(scaled)
        total = added(kernels)
        if isinstance(total, Reason):
            return None
        return Branch(
            0,
            branches[0].source,
            layers,
            total,
            sum(branch.cost for branch in branches),
            sum(branch.weights for branch in branches),
        )
    return None


def factors_of(layer: Layer) -> Optional[List[float]]:
    """The coeff of each bottom of a sum; None where there are not as many as bottoms."""
    number = len(layer.param.bottom)
    factors = list(layer.param.eltwise_param.coeff) or [1.0] * number
    return factors if len(factors) == number else None


def costliest_first(branches: Sequence[Branch]) -> List[Branch]:
    return sorted(branches, key=lambda branch: -branch.cost)


def scaled_kernel(
    branch: Branch, factor: float, others: Sequence[LinearMap]
) -> Union[LinearMap, Reason]:
    """The map of a branch times ``factor``; an empty one has the channels of ``others``."""
    kernel = branch.kernel
    if isinstance(kernel, Reason):
        return kernel
    if kernel is None:
        if not others:
            return Reason("no branch has a convolution that can be merged")
        ones = np.ones(others[0].inputs)
        kernel = diagonal(ones, 0 * ones, len(others[0].axes))
    return kernel.scaled(factor)


def sum_of(layer: Layer, numbers: Sequence[int], merged: int, factors: Sequence[float]) -> Any:
    """The Eltwise with fewer bottoms; the merged one has its factors in the weights."""
    param = copied(layer.param)
    kept = [1.0 if number == merged else factors[number] for number in numbers]
    param.eltwise_param.ClearField("coeff")
    if any(factor != 1 for factor in kept):
        param.eltwise_param.coeff.extend(kept)
    return param

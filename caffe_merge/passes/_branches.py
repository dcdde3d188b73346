"""Branches: what the bottoms of a sum are as linear maps of blobs further up."""

from itertools import chain
from math import prod
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.algebra.kernels import Kernel, added, chained, diagonal
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes._kernels import kernel_of


class Branch(NamedTuple):
    """Bottom ``number`` of an Eltwise as a map of the blob ``source``.

    ``layers`` are those between; ``kernel`` is what they are together, None where there are none;
    ``cost`` are their multiply-adds (see ``_cost``), ``weights`` their multipliers. ``convolution``
    is the first of those in a row, the one that may stay.
    """

    number: int
    source: Version
    layers: Tuple[Layer, ...] = ()
    kernel: Union[Kernel, Reason, None] = None
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
            inner.convolution or self.convolution,
        )


def _composed(
    first: Union[Kernel, Reason, None], second: Union[Kernel, Reason, None]
) -> Union[Kernel, Reason, None]:
    """``second`` after ``first``; the identity is None, and the first Reason wins."""
    if second is None or not isinstance(first, Kernel):
        return first
    return second if isinstance(second, Reason) else chained(first, second)


Sums = Dict[Layer, Optional[Branch]]  # inner sums as branches; None for layers to go around

REACH = 64  # layers of a branch: each in a row is a call within a call


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
    """The branches from each blob that bottoms of a sum are maps of; at most one for a bottom."""
    groups: Dict[Version, List[Branch]] = {}
    for number in range(len(graph.bottoms[layer])):
        for branch in _branches(graph, layer, number, sums):
            groups.setdefault(branch.source, []).append(branch)
    return groups.values()


def _branches(graph: Graph, layer: Layer, number: int, sums: Sums) -> List[Branch]:
    """A bottom as a map of itself, of what its layer reads, and so on as far as that is linear."""
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
    """The layer that makes ``version``, as a map of its bottom."""
    layer = version.producer
    kernel = kernel_of(graph, layer)
    if not isinstance(kernel, Kernel):
        return None
    source = graph.bottoms[layer][0]
    if layer.type == "Pooling":
        return Branch(0, source, (layer,), kernel)
    convolution = layer if layer.type in CONVOLUTIONS else None
    cost = _cost(version, end, kernel)
    return Branch(0, source, (layer,), kernel, cost, kernel.cost, convolution)


def _cost(top: Version, end: Version, kernel: Kernel) -> int:
    """The multiply-adds that ``kernel`` takes to make ``top``.

    They are counted for one place of ``end`` if the shapes are not known.
    """
    if top.shape is None or end.shape is None:
        return kernel.cost
    return kernel.cost * prod(top.shape[2:])


def inner_sum(layer: Layer, groups: Collection[List[Branch]]) -> Optional[Branch]:
    """A sum as a branch of a sum around it, where all that it adds up are maps of one blob."""
    factors = factors_of(layer)
    for branches in groups:
        layers = (*chain.from_iterable(branch.layers for branch in branches), layer)
        if factors is None or len(branches) < len(factors) or len(layers) > REACH:
            continue
        kernels: List[Kernel] = []
        for branch in costliest_first(branches):
            scaled = times(branch, factors[branch.number], kernels)
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
    """The factor of each bottom of a sum; None where their number does not fit."""
    number = len(layer.param.bottom)
    factors = list(layer.param.eltwise_param.coeff) or [1.0] * number
    return factors if len(factors) == number else None


def costliest_first(branches: Sequence[Branch]) -> List[Branch]:
    return sorted(branches, key=lambda branch: -branch.cost)


def times(branch: Branch, factor: float, others: Sequence[Kernel]) -> Union[Kernel, Reason]:
    """What a branch adds to a sum; that of a blob itself has the channels of the ``others``."""
    kernel = branch.kernel
    if isinstance(kernel, Reason):
        return kernel
    if kernel is None:
        if not others:
            return Reason("no branch has a convolution that can be merged")
        ones = np.ones(others[0].inputs)
        kernel = diagonal(ones, 0 * ones, len(others[0].axes))
    return kernel.times(factor)

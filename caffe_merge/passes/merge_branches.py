"""merge-branches: linear branches that an Eltwise adds up become one convolution.

    x -> Convolution 3x3 -> a
    x -> Convolution 1x1 -> b        x -> Convolution 3x3 -> y
    x -> Scale           -> c
    a + 2 b - c + x      -> y

    W = W3 + 2 W1 - diag(scale) + 1, each placed by its taps; b likewise

A branch is a run of convolutions, per-channel affine layers, means and sums of such branches, or
the blob itself. Where only some of the Eltwise's bottoms come from one blob in this way, those
become one bottom. It is done where it takes no more multiply-adds and weights than the branches.
"""

from math import prod
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from caffe_merge.affine import Refusal, unknown_fields
from caffe_merge.convolutions import as_convolution, kernel
from caffe_merge.graph import Graph, Version
from caffe_merge.kernels import Kernel, added, chained, diagonal
from caffe_merge.layer import Layer
from caffe_merge.linear import CONVOLUTIONS
from caffe_merge.passes.base import Found, Pass, Refused, Rewrite
from caffe_merge.passes.runs import quoted


class Branch(NamedTuple):
    """Bottom ``number`` of an Eltwise as a map of the blob ``source``.

    ``layers`` are those between; ``kernel`` is what they are together, None where there are none;
    ``cost`` are their multiply-adds (see ``_cost``), ``weights`` their multipliers. ``convolution``
    is the first of those in a row, the one that may stay.
    """

    number: int
    source: Version
    layers: Tuple[Layer, ...] = ()
    kernel: Union[Kernel, Refusal, None] = None
    cost: int = 0
    weights: int = 0
    convolution: Optional[Layer] = None

    def behind(self, before: "Branch") -> "Branch":
        """What it does, done behind ``before``."""
        one, two = before.kernel, self.kernel
        if isinstance(one, Kernel):
            one = one if two is None else two if isinstance(two, Refusal) else chained(one, two)
        return Branch(
            self.number,
            before.source,
            (*before.layers, *self.layers),
            one,
            before.cost + self.cost,
            before.weights + self.weights,
            before.convolution or self.convolution,
        )


Sums = Dict[Layer, Optional[Branch]]  # inner sums as branches; None for layers to go around

REACH = 64  # layers of a branch: nobody trains longer ones, and each is a call within a call


class MergeBranches(Pass):
    """Adds up the kernels of parallel branches."""

    name = "merge-branches"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        used: Set[Layer] = set()
        answers: List[Tuple[Layer, Union[Rewrite, Refusal, None]]] = []
        sums: Sums = {layer: None for layer in graph.layers if layer.name in self.keep}
        for layer in graph.layers:
            if layer not in sums and _is_sum(layer):
                families = _families(graph, layer, sums)
                sums[layer] = _inner_sum(layer, families)
                answers.append((layer, _merged(graph, layer, families)))
        for layer, answer in reversed(answers):  # a sum around another one does both
            if isinstance(answer, Refusal):
                found.append(Refused(layer, str(answer)))
            elif answer is not None and used.isdisjoint(answer.layers):
                found.append(answer)
                used.update(answer.layers)
        return found


def _is_sum(layer: Layer) -> bool:
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


def _merged(
    graph: Graph, layer: Layer, families: Collection[List[Branch]]
) -> Union[Rewrite, Refusal, None]:
    """The best that can be made of an Eltwise; None if no two branches come from one blob."""
    refusal: Optional[Refusal] = None
    for branches in _largest_first(families):
        answer = _summed(graph, layer, branches)
        if isinstance(answer, Rewrite):
            return answer
        refusal = refusal or answer
    return refusal


def _largest_first(families: Collection[List[Branch]]) -> List[List[Branch]]:
    """Families of two or more branches with a convolution among them."""
    several = [
        branches
        for branches in families
        if len(branches) > 1 and any(branch.convolution for branch in branches)
    ]
    return sorted(several, key=lambda family: (-len(family), sum(len(b.layers) for b in family)))


def _families(graph: Graph, layer: Layer, sums: Sums) -> Collection[List[Branch]]:
    """The branches from each blob that bottoms of a sum are maps of; at most one for a bottom."""
    families: Dict[Version, List[Branch]] = {}
    for number in range(len(graph.bottoms[layer])):
        for branch in _branches(graph, layer, number, sums):
            families.setdefault(branch.source, []).append(branch)
    return families.values()


def _branches(graph: Graph, layer: Layer, number: int, sums: Sums) -> List[Branch]:
    """A bottom as a map of itself, of what its layer reads, and so on as far as that is linear."""
    version = graph.bottoms[layer][number]
    end = version
    found = [Branch(number, version)]
    while (
        not isinstance(found[-1].kernel, Refusal)
        and len(version.readers) == 1
        and len(found[-1].layers) < REACH
    ):
        producer = version.producer
        step = sums[producer] if producer in sums else _step(graph, version, end)
        if step is None:
            break
        version = step.source
        found.append(found[-1].behind(step))
    return found


def _step(graph: Graph, version: Version, end: Version) -> Optional[Branch]:
    """The layer that makes ``version``, as a map of its bottom."""
    layer = version.producer
    one = kernel(graph, layer)
    if not isinstance(one, Kernel):
        return None
    source = graph.bottoms[layer][0]
    if layer.type == "Pooling":
        return Branch(0, source, (layer,), one)
    convolution = layer if layer.type in CONVOLUTIONS else None
    cost = _cost(version, end, one)
    return Branch(0, source, (layer,), one, cost, one.cost, convolution)


def _cost(top: Version, end: Version, one: Kernel) -> int:
    """The multiply-adds that ``one`` takes to make ``top``.

    They are counted for one place of ``end`` if the shapes are not known.
    """
    if top.shape is None or end.shape is None:
        return one.cost
    return one.cost * prod(top.shape[2:])


def _inner_sum(layer: Layer, families: Collection[List[Branch]]) -> Optional[Branch]:
    """A sum as a branch of a sum around it, where all that it adds up are maps of one blob."""
    factors = _factors(layer)
    whole: Optional[Kernel] = None
    for family in families:
        layers = (*(one for branch in family for one in branch.layers), layer)
        if factors is None or len(family) < len(factors) or len(layers) > REACH:
            continue
        for branch in _costliest_first(family):
            answer = _with(whole, branch, factors[branch.number])
            if isinstance(answer, Refusal):
                return None
            whole = answer
        return Branch(
            0,
            family[0].source,
            layers,
            whole,
            sum(branch.cost for branch in family),
            sum(branch.weights for branch in family),
        )
    return None


def _factors(layer: Layer) -> Optional[List[float]]:
    """The factor of each bottom of a sum; None where their number does not fit."""
    number = len(layer.param.bottom)
    factors = list(layer.param.eltwise_param.coeff) or [1.0] * number
    return factors if len(factors) == number else None


def _costliest_first(branches: Sequence[Branch]) -> List[Branch]:
    return sorted(branches, key=lambda one: -one.cost)


def _summed(graph: Graph, layer: Layer, family: Sequence[Branch]) -> Union[Rewrite, Refusal]:
    """The largest part of a family that one convolution does without taking more for it."""
    factors = _factors(layer)
    if factors is None:
        return Refusal("it has not one coeff for each bottom")
    ordered = _costliest_first(family)
    refusals: List[Refusal] = []
    for first in range(len(ordered) - 1):
        members, whole, refusal = _taken(graph, layer, ordered[first:], factors)
        refusals += [refusal] if refusal is not None else []
        if whole is None or len(members) < 2:
            continue
        if graph.changes_later(family[0].source):
            name = family[0].source.name
            return Refusal(f"the memory of {name!r} is written in place by another")
        answer = _rewrite(graph, layer, members, whole, factors)
        if isinstance(answer, Rewrite):
            return answer
        refusals.append(answer)
    return refusals[0] if refusals else Refusal("its branches have no convolution")


def _taken(
    graph: Graph, layer: Layer, branches: Sequence[Branch], factors: Sequence[float]
) -> Tuple[List[Branch], Optional[Kernel], Optional[Refusal]]:
    """The first of ``branches`` and those that go with it, their sum, why one does not."""
    end = graph.tops[layer][0]
    places = prod(end.shape[2:]) if end.shape is not None else 1
    members: List[Branch] = []
    whole: Optional[Kernel] = None
    refusal: Optional[Refusal] = None
    for branch in branches:
        answer = _with(whole, branch, factors[branch.number])
        if isinstance(answer, Kernel) and members:
            both = [*members, branch]
            if answer.cost * places > sum(one.cost for one in both):
                answer = Refusal("one convolution would take more multiply-adds than its branches")
            elif answer.cost > sum(one.weights for one in both):
                answer = Refusal("one convolution would have more weights than its branches")
        if isinstance(answer, Refusal):
            refusal = refusal or _told(branch, answer)
            continue
        whole = answer
        members.append(branch)
    return members, whole, refusal


def _with(whole: Optional[Kernel], branch: Branch, factor: float) -> Union[Kernel, Refusal]:
    """``whole`` and a branch more, times ``factor``."""
    one = branch.kernel
    if isinstance(one, Refusal):
        return one
    if one is None:
        if whole is None:
            return Refusal("no branch has a convolution that can be merged")
        ones = np.ones(whole.inputs)
        one = diagonal(ones, 0 * ones, len(whole.axes))
    one = one.times(factor)
    return one if whole is None else added([whole, one])


def _told(branch: Branch, why: Refusal) -> Refusal:
    through = quoted([layer.name for layer in branch.layers])
    where = f" through {through}" if branch.layers else ""
    return Refusal(f"its branch from {branch.source.name!r}{where} stays: {why}")


def _rewrite(
    graph: Graph,
    layer: Layer,
    members: Sequence[Branch],
    whole: Kernel,
    coefficients: Sequence[float],
) -> Union[Rewrite, Refusal]:
    chosen = _survivor(members, whole)
    if chosen is None:
        return Refusal("its branches have no convolution")
    survivor = chosen.convolution
    assert survivor is not None
    merged = {branch.number for branch in members}
    region = [one for branch in members for one in branch.layers]
    left = [n for n in range(len(coefficients)) if n == chosen.number or n not in merged]
    changes: Dict[Layer, Any] = {survivor: as_convolution(survivor, whole)}
    if len(left) > 1:
        changes[layer] = (_sum_of(layer, left, chosen.number, coefficients), ())
    others = [one.name for one in region if one is not survivor]
    reads = {one: (0,) for one in region if one.type == "Eltwise"}
    return Rewrite(
        layers=tuple(one for one in graph.layers if one in region or one is layer),
        changes=changes,
        note=f"merged into {survivor.type} {survivor.name!r}",
        kept_note=f"took in {quoted(others)}" if others else "took in its input",
        reads={**reads, layer: tuple(left)},
    )


def _survivor(members: Sequence[Branch], whole: Kernel) -> Optional[Branch]:
    """The branch whose convolution stays: one that has all the taps already, else the largest."""

    def unlike(branch: Branch) -> Tuple[bool, int]:
        one = branch.kernel
        return not isinstance(one, Kernel) or one.axes != whole.axes, len(branch.layers)

    fit = [branch for branch in members if branch.convolution is not None]
    return min(fit, key=unlike, default=None)


def _sum_of(layer: Layer, numbers: Sequence[int], merged: int, factors: Sequence[float]) -> Any:
    """The Eltwise with fewer bottoms; the merged one has its factors in the weights."""
    param = type(layer.param)()
    param.CopyFrom(layer.param)
    left = [1.0 if number == merged else factors[number] for number in numbers]
    param.eltwise_param.ClearField("coeff")
    if any(factor != 1 for factor in left):
        param.eltwise_param.coeff.extend(left)
    return param

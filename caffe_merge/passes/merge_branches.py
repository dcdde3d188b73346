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
from typing import Any, Collection, Dict, List, Optional, Sequence, Set, Tuple, Union

from caffe_merge.algebra.kernels import Kernel, added
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes._branches import (
    Branch,
    Sums,
    costliest_first,
    factors_of,
    families,
    inner_sum,
    is_sum,
    times,
)
from caffe_merge.passes._kernels import as_convolution
from caffe_merge.passes._pass import Found, Pass, Refused, Rewrite
from caffe_merge.passes._runs import quoted
from caffe_merge.schema.messages import copied


class MergeBranches(Pass):
    """Adds up the kernels of parallel branches."""

    name = "merge-branches"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        used: Set[Layer] = set()
        answers: List[Tuple[Layer, Union[Rewrite, Reason, None]]] = []
        sums: Sums = {layer: None for layer in graph.layers if layer.name in self.keep}
        for layer in graph.layers:
            if layer not in sums and is_sum(layer):
                from_blobs = families(graph, layer, sums)
                sums[layer] = inner_sum(layer, from_blobs)
                answers.append((layer, _merged(graph, layer, from_blobs)))
        for layer, answer in reversed(answers):  # a sum around another one does both
            if isinstance(answer, Reason):
                found.append(Refused(layer, str(answer)))
            elif answer is not None and used.isdisjoint(answer.layers):
                found.append(answer)
                used.update(answer.layers)
        return found


def _merged(
    graph: Graph, layer: Layer, found: Collection[List[Branch]]
) -> Union[Rewrite, Reason, None]:
    """The best that can be made of an Eltwise; None if no two branches come from one blob."""
    refusal: Optional[Reason] = None
    for branches in _largest_first(found):
        answer = _summed(graph, layer, branches)
        if isinstance(answer, Rewrite):
            return answer
        refusal = refusal or answer
    return refusal


def _largest_first(found: Collection[List[Branch]]) -> List[List[Branch]]:
    """Families of two or more branches with a convolution among them."""
    several = [
        branches
        for branches in found
        if len(branches) > 1 and any(branch.convolution for branch in branches)
    ]
    return sorted(several, key=lambda family: (-len(family), sum(len(b.layers) for b in family)))


def _summed(graph: Graph, layer: Layer, family: Sequence[Branch]) -> Union[Rewrite, Reason]:
    """The largest part of a family that one convolution does without taking more for it."""
    factors = factors_of(layer)
    if factors is None:
        return Reason("it has not one coeff for each bottom")
    ordered = costliest_first(family)
    refusals: List[Reason] = []
    for first in range(len(ordered) - 1):
        members, whole, refusal = _taken(graph, layer, ordered[first:], factors)
        refusals += [refusal] if refusal is not None else []
        if whole is None or len(members) < 2:
            continue
        reason = graph.why_not_move(family[0].source)
        if reason is not None:
            return Reason(reason)
        answer = _rewrite(graph, layer, members, whole, factors)
        if isinstance(answer, Rewrite):
            return answer
        refusals.append(answer)
    return refusals[0] if refusals else Reason("its branches have no convolution")


def _taken(
    graph: Graph, layer: Layer, branches: Sequence[Branch], factors: Sequence[float]
) -> Tuple[List[Branch], Optional[Kernel], Optional[Reason]]:
    """The first of ``branches`` and those that go with it, their sum, why one does not."""
    end = graph.tops[layer][0]
    places = prod(end.shape[2:]) if end.shape is not None else 1
    members: List[Branch] = []
    kernels: List[Kernel] = []
    whole: Optional[Kernel] = None
    refusal: Optional[Reason] = None
    for branch in branches:
        one = times(branch, factors[branch.number], kernels)
        answer = one if isinstance(one, Reason) else added([*kernels, one])
        if isinstance(answer, Kernel) and members:
            both = [*members, branch]
            if answer.cost * places > sum(each.cost for each in both):
                answer = Reason("one convolution would take more multiply-adds than its branches")
            elif answer.cost > sum(each.weights for each in both):
                answer = Reason("one convolution would have more weights than its branches")
        if isinstance(answer, Reason) or isinstance(one, Reason):
            refusal = refusal or _told(branch, Reason(answer))
            continue
        kernels.append(one)
        whole = answer
        members.append(branch)
    return members, whole, refusal


def _told(branch: Branch, why: Reason) -> Reason:
    through = quoted([layer.name for layer in branch.layers])
    where = f" through {through}" if branch.layers else ""
    return Reason(f"its branch from {branch.source.name!r}{where} stays: {why}")


def _rewrite(
    graph: Graph,
    layer: Layer,
    members: Sequence[Branch],
    whole: Kernel,
    coefficients: Sequence[float],
) -> Union[Rewrite, Reason]:
    chosen = _survivor(members, whole)
    if chosen is None:
        return Reason("its branches have no convolution")
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
        layers=graph.in_order([*region, layer]),
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
    param = copied(layer.param)
    left = [1.0 if number == merged else factors[number] for number in numbers]
    param.eltwise_param.ClearField("coeff")
    if any(factor != 1 for factor in left):
        param.eltwise_param.coeff.extend(left)
    return param

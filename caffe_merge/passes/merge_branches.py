"""merge-branches: linear branches that an Eltwise adds up become one convolution.

    x -> Convolution 3x3 -> a
    x -> Convolution 1x1 -> b        x -> Convolution 3x3 -> y
    x -> Scale           -> c
    a + 2 b - c + x      -> y

    W = W3 + 2 W1 - diag(scale) + 1, each placed by its taps; b likewise

A branch is a run of convolutions, per-channel affine layers and means, or the blob itself. Where
only some of the Eltwise's bottoms come from one blob in this way, those become one bottom. It is
done where it takes no more multiply-adds than the branches did.
"""

from math import prod
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

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

    ``layers`` are those between, in net order; ``kernel`` is what they are together, None where
    there are none; ``cost`` is their multiply-adds (see ``_cost``).
    """

    number: int
    source: Version
    layers: Tuple[Layer, ...] = ()
    kernel: Union[Kernel, Refusal, None] = None
    cost: int = 0

    @property
    def convolution(self) -> Optional[Layer]:
        """The first convolution of the branch, if it has one."""
        return next((layer for layer in self.layers if layer.type in CONVOLUTIONS), None)


class MergeBranches(Pass):
    """Adds up the kernels of parallel branches."""

    name = "merge-branches"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        used: Set[Layer] = set()
        fixed = {layer for layer in graph.layers if layer.name in self.keep}
        fixed.update(graph.sharers())
        for layer in graph.layers:
            if layer in fixed or not _is_sum(layer):
                continue
            answer = _merged(graph, layer, fixed)
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


def _merged(graph: Graph, layer: Layer, fixed: Set[Layer]) -> Union[Rewrite, Refusal, None]:
    """The best that can be made of an Eltwise; None if no two branches come from one blob."""
    refusal: Optional[Refusal] = None
    for branches in _families(graph, layer, fixed):
        answer = _summed(graph, layer, branches)
        if isinstance(answer, Rewrite):
            return answer
        refusal = refusal or answer
    return refusal


def _families(graph: Graph, layer: Layer, fixed: Set[Layer]) -> List[List[Branch]]:
    """Branches that come from one blob, two or more of them; the largest families first."""
    families: Dict[Version, List[Branch]] = {}
    for number in range(len(graph.bottoms[layer])):
        for branch in _branches(graph, layer, number, fixed):
            families.setdefault(branch.source, []).append(branch)
    several = [
        branches
        for branches in families.values()
        if len(branches) > 1 and any(branch.convolution for branch in branches)
    ]
    return sorted(several, key=lambda family: (-len(family), sum(len(b.layers) for b in family)))


def _branches(graph: Graph, layer: Layer, number: int, fixed: Set[Layer]) -> List[Branch]:
    """A bottom as a map of itself, of what its layer reads, and so on as far as that is linear."""
    version = graph.bottoms[layer][number]
    end = version
    found = [Branch(number, version)]
    whole: Union[Kernel, Refusal, None] = None
    while (
        not isinstance(whole, Refusal)
        and len(version.readers) == 1
        and version.producer not in fixed
    ):
        one = kernel(graph, version.producer)
        if not isinstance(one, Kernel):
            break
        last = found[-1]
        whole = one if whole is None else chained(one, whole)
        cost = last.cost + _cost(graph, version, end, one)
        layers = (version.producer, *last.layers)
        version = graph.bottoms[version.producer][0]
        found.append(Branch(number, version, layers, whole, cost))
    return found


def _cost(graph: Graph, top: Version, end: Version, one: Kernel) -> int:
    """The multiply-adds that ``one`` takes to make ``top``; those of a mean are no products.

    They are counted for one place of ``end`` if the shapes are not known.
    """
    if top.producer.type == "Pooling":
        return 0
    if top.shape is None or end.shape is None:
        return one.cost
    return one.cost * prod(top.shape[2:])


def _summed(graph: Graph, layer: Layer, family: Sequence[Branch]) -> Union[Rewrite, Refusal]:
    coefficients = list(layer.param.eltwise_param.coeff) or [1.0] * len(layer.param.bottom)
    if len(coefficients) != len(layer.param.bottom):
        return Refusal("it has not one coeff for each bottom")
    end = graph.bottoms[layer][family[0].number]
    places = prod(end.shape[2:]) if end.shape is not None else 1
    members: List[Branch] = []
    whole: Optional[Kernel] = None
    refusal: Optional[Refusal] = None
    for branch in sorted(family, key=lambda one: -one.cost):
        answer = _with(whole, branch, coefficients[branch.number])
        if isinstance(answer, Kernel):
            cost = sum(one.cost for one in members) + branch.cost
            if members and answer.cost * places > cost:
                answer = Refusal("one convolution would take more multiply-adds than its branches")
        if isinstance(answer, Refusal):
            refusal = refusal or _told(branch, answer)
            continue
        whole = answer
        members.append(branch)
    if whole is None or len(members) < 2:
        return refusal or Refusal("its branches have no convolution")
    if graph.changes_later(family[0].source):
        return Refusal(f"the memory of {family[0].source.name!r} is written in place by another")
    return _rewrite(graph, layer, members, whole, coefficients)


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
    note = f"merged into {survivor.type} {survivor.name!r}"
    return Rewrite(
        layers=tuple(one for one in graph.layers if one in region or one is layer),
        changes=changes,
        note=note,
        kept_note=f"took in {quoted(others)}" if others else "took in its input",
        reads={layer: tuple(left)},
    )


def _survivor(members: Sequence[Branch], whole: Kernel) -> Optional[Branch]:
    """The branch whose convolution stays: one that has all the taps already, else the largest."""
    fit = [branch for branch in members if branch.convolution is not None]
    same = [b for b in fit if isinstance(b.kernel, Kernel) and b.kernel.axes == whole.axes]
    return next(iter(same + fit), None)


def _sum_of(layer: Layer, numbers: Sequence[int], merged: int, factors: Sequence[float]) -> Any:
    """The Eltwise with fewer bottoms; the merged one has its factors in the weights."""
    param = type(layer.param)()
    param.CopyFrom(layer.param)
    left = [1.0 if number == merged else factors[number] for number in numbers]
    param.eltwise_param.ClearField("coeff")
    if any(factor != 1 for factor in left):
        param.eltwise_param.coeff.extend(left)
    return param

"""merge-branches: linear branches that an Eltwise adds up become one convolution or Deconvolution.

    x -> Convolution 3x3 -> a
    x -> Convolution 1x1 -> b        x -> Convolution 3x3 -> y
    x -> Scale           -> c
    a + 2 b - c + x      -> y

    W = W3 + 2 W1 - diag(scale) + 1, each placed by its taps; b likewise

(Ding et al.: RepVGG, 2021, for 3x3, 1x1 and the blob itself.)

A branch is a run of convolutions, per-channel affine layers, means and sums of such branches, or
the blob itself. Deconvolutions of one stride are added up alike, with what is 1x1 before and behind
them; a convolution of another kernel is no branch beside them. Where only some of the Eltwise's
bottoms come from one blob in this way, those become one bottom. It is done where it takes no more
multiply-adds and weights than the branches.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple, Union

from caffe_merge.algebra.maps import LinearMap, Transposed, added
from caffe_merge.errors import Text
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.branches import (
    Branch,
    Sums,
    branches_by_source,
    costliest_first,
    factors_of,
    inner_sum,
    is_sum,
    multiply_adds,
    scaled_kernel,
    sum_of,
)
from caffe_merge.passes.rewriting.layer_kernels import as_layer
from caffe_merge.passes.rewriting.rewrite import Finding, Findings, Pass, Refused, Rewrite
from caffe_merge.wording import named


class MergeBranches(Pass):
    """Adds up the kernels of parallel branches."""

    name = "merge-branches"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        candidates: List[Tuple[Layer, Union[Rewrite, Reason, None]]] = []
        sums: Sums = {layer: None for layer in graph.layers if layer.name in self.keep}
        for layer in graph.layers:
            if layer not in sums and is_sum(layer):
                groups = branches_by_source(graph, layer, sums)
                sums[layer] = inner_sum(layer, groups)
                candidates.append((layer, _merged(graph, layer, groups)))
        for layer, rewrite in reversed(candidates):  # a sum around another one does both
            if isinstance(rewrite, Reason):
                findings.append(Refused(layer, rewrite))
            elif rewrite is not None:
                findings.add(rewrite)
        return findings


def _merged(
    graph: Graph, layer: Layer, groups: Collection[List[Branch]]
) -> Union[Rewrite, Reason, None]:
    """The rewrite that removes most branches; None if no two branches come from one blob."""
    refusal: Optional[Reason] = None
    for branches in _largest_first(groups):
        rewrite = _summed(graph, layer, branches)
        if isinstance(rewrite, Rewrite):
            return rewrite
        refusal = refusal or rewrite
    return refusal


def _largest_first(groups: Collection[List[Branch]]) -> List[List[Branch]]:
    """Groups of two or more branches with a convolution among them, the largest first."""
    several = [
        branches
        for branches in groups
        if len(branches) > 1 and any(branch.convolution for branch in branches)
    ]
    return sorted(several, key=lambda group: (-len(group), sum(len(b.layers) for b in group)))


def _summed(graph: Graph, layer: Layer, branches: Sequence[Branch]) -> Union[Rewrite, Reason]:
    """The most branches of one source that one convolution replaces at no higher cost."""
    factors = factors_of(layer)
    if factors is None:
        return Reason("it has not one coeff for each bottom")
    ordered = costliest_first(branches)
    refusals: List[Reason] = []
    for first in range(len(ordered) - 1):
        members, kernel, refusal = _addable(graph, layer, ordered[first:], factors)
        refusals += [refusal] if refusal is not None else []
        if kernel is None or len(members) < 2:
            continue
        reason = graph.why_not_move(branches[0].source)
        if reason is not None:
            return reason
        rewrite = _rewrite(graph, layer, members, kernel, factors)
        if isinstance(rewrite, Rewrite):
            return rewrite
        refusals.append(rewrite)
    return refusals[0] if refusals else Reason("its branches have no convolution")


def _addable(
    graph: Graph, layer: Layer, branches: Sequence[Branch], factors: Sequence[float]
) -> Tuple[List[Branch], Optional[LinearMap], Optional[Reason]]:
    """The first of ``branches`` and those that can be added to it, their sum, why one cannot."""
    end = graph.tops[layer][0]
    members: List[Branch] = []
    kernels: List[LinearMap] = []
    total: Optional[LinearMap] = None
    refusal: Optional[Reason] = None
    for branch in branches:
        scaled = scaled_kernel(branch, factors[branch.number], kernels)
        candidate = scaled if isinstance(scaled, Reason) else added([*kernels, scaled])
        if not isinstance(candidate, Reason) and members:
            both = [*members, branch]
            cost = multiply_adds(candidate, branch.source, end)
            if cost > sum(member.cost for member in both):
                candidate = Reason(
                    "one convolution would take more multiply-adds than its branches"
                )
            elif candidate.cost > sum(member.weights for member in both):
                candidate = Reason("one convolution would have more weights than its branches")
        if isinstance(candidate, Reason):
            refusal = refusal or _stays(branch, candidate)
            continue
        assert not isinstance(scaled, Reason)
        kernels.append(scaled)
        total = candidate
        members.append(branch)
    return members, total, refusal


def _stays(branch: Branch, why: Reason) -> Reason:
    through = named([layer.name for layer in branch.layers])
    where = f" through {through}" if branch.layers else ""
    return Reason(Text(f"its branch from {branch.source.name!r}{where} stays: ", why))


def _rewrite(
    graph: Graph,
    layer: Layer,
    members: Sequence[Branch],
    kernel: LinearMap,
    coefficients: Sequence[float],
) -> Union[Rewrite, Reason]:
    chosen = _survivor(members, kernel)
    if chosen is None:
        return Reason("its branches have no convolution")
    survivor = chosen.convolution
    assert survivor is not None
    merged = {branch.number for branch in members}
    inside = [inner for branch in members for inner in branch.layers]
    kept = [n for n in range(len(coefficients)) if n == chosen.number or n not in merged]
    changes: Dict[Layer, Any] = {survivor: as_layer(survivor, kernel)}
    if len(kept) > 1:
        changes[layer] = (sum_of(layer, kept, chosen.number, coefficients), ())
    others = [inner.name for inner in inside if inner is not survivor]
    reads = {inner: (0,) for inner in inside if inner.type == "Eltwise"}
    return Rewrite(
        layers=graph.in_order([*inside, layer]),
        changes=changes,
        note=f"merged into {survivor.type} {survivor.name!r}",
        kept_note=f"took in {named(others)}" if others else "took in its input",
        reads={**reads, layer: tuple(kept)},
    )


def _survivor(members: Sequence[Branch], kernel: LinearMap) -> Optional[Branch]:
    """The branch whose convolution stays: one that has all the taps already, else the largest."""

    def distance(branch: Branch) -> Tuple[bool, int]:
        branch_kernel = branch.kernel
        alike = isinstance(branch_kernel, type(kernel)) and branch_kernel.axes == kernel.axes
        return not alike, len(branch.layers)

    kind = isinstance(kernel, Transposed)
    fit = [
        branch
        for branch in members
        if branch.convolution is not None and (branch.convolution.type == "Deconvolution") == kind
    ]
    return min(fit, key=distance, default=None)

"""equalize: balances the ranges of channels across consecutive layers, for 8-bit quantization.

    x -> Convolution W1, b1 -> ReLU -> Convolution W2, b2 -> y

    W1'[i] = W1[i] / s[i]      b1'[i] = b1[i] / s[i]      W2'[o, i] = W2[o, i] s[i]

As ReLU(z / s) = ReLU(z) / s for s > 0, y stays what it is; so it does through PReLU, Pooling,
Concat, Slice, Flatten and layers that are affine per channel, whose shifts are divided by s. What
an Eltwise adds up or compares has one s. Only where ``--equalize`` asks for it: nothing is saved,
but the weights round better with one scale per tensor. algebra/equalize.py has the formula of s.
"""

from copy import copy
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.equalize import Tensor, equalized
from caffe_merge.arrays import Float64, Indices
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import LINEAR_TYPES, folded
from caffe_merge.layers.per_channel import affine_of, as_scale
from caffe_merge.layers.ranges import channel_ranges, ranges_between
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.options import Options
from caffe_merge.passes.rewriting.channel_classes import Classes, classes_of
from caffe_merge.passes.rewriting.forward_folding import folded_forward
from caffe_merge.passes.rewriting.rewrite import Changes, Finding, Findings, Pass, Refused, Rewrite
from caffe_merge.wording import named

WORTH = 0.25  # bits that some channel must move, for a rewrite of its component
CONSTANT = 64  # bias / range of a channel that is nearly its bias: it would outgrow the others


class Touched(NamedTuple):
    """A layer that reads or makes channels of a component."""

    layer: Layer
    reads: bool
    makes: bool


class Equalize(Pass):
    """Moves scales between layers, so that the ranges of channels come together (--equalize)."""

    name = "equalize"

    def __init__(self, options: Optional[Options] = None) -> None:
        super().__init__(options)
        # Components that share a layer change in different rounds, by the scales of one solution.
        self._structure: Tuple[object, ...] = ()
        self._scales: Float64 = np.ones(1)
        self._done: Set[int] = set()
        self._pending: Dict[int, Changes] = {}

    def find(self, graph: Graph) -> List[Finding]:
        classes = classes_of(graph, self.fixed(graph))
        self._solve(graph, classes)
        findings = Findings()
        findings += [Refused(layer, reason) for layer, reason in classes.refused]
        touched = _touched(graph, classes)
        for component in range(1, int(classes.component_of.max()) + 1):
            factors = np.where(classes.component_of == component, self._scales, 1.0)
            if component in self._done or np.abs(np.log2(factors)).max() < WORTH:
                continue
            changes = _rescaled(graph, classes, touched.get(component, ()), factors)
            if findings.add(_rewrite(graph, changes)):
                self._pending[component] = changes
        return findings

    def _solve(self, graph: Graph, classes: Classes) -> None:
        """Find the scales, if the graph is another one than that of the last round."""
        for component, changes in self._pending.items():
            if all(layer.blobs is blobs for layer, (_, blobs) in changes.items()):
                self._done.add(component)
        self._pending.clear()
        structure = tuple(graph.layers), *(labels.tobytes() for labels in classes.of.values())
        if structure == self._structure:
            return
        self._structure = structure
        self._done.clear()
        tensors = [tensor for layer in graph.layers for tensor in _tensors(graph, classes, layer)]
        component_of = classes.component_of.copy()
        component_of[_constant(graph, classes)] = 0
        self._scales = equalized(tensors, component_of)


def _rewrite(graph: Graph, changes: Changes) -> Rewrite:
    names = [
        layer.name for layer in graph.layers if layer in changes and layer.type in LINEAR_TYPES
    ]
    return Rewrite(
        layers=graph.in_order(changes),
        changes=changes,
        note="",
        kept_note=f"its channels were equalised: {named(names)}",
    )


def _touched(graph: Graph, classes: Classes) -> Dict[int, List[Touched]]:
    """For each component the layers that read or make channels of it, in net order."""
    components = classes.components()
    none: FrozenSet[int] = frozenset()
    touched: Dict[int, List[Touched]] = {}
    for layer in graph.layers:
        reads, makes = (
            none.union(*(components.get(version, none) for version in versions))
            for versions in (graph.bottoms[layer], graph.tops[layer])
        )
        for component in reads | makes:
            touched.setdefault(component, []).append(
                Touched(layer, component in reads, component in makes)
            )
    return touched


def _rescaled(
    graph: Graph, classes: Classes, touched: Iterable[Touched], factors: Float64
) -> Changes:
    """The layers that make, read or hand on channels of a component; ``factors`` are by class."""
    changes: Changes = {}
    for layer, reads, makes in touched:
        bottoms, tops = graph.bottoms[layer], graph.tops[layer]
        new: New = layer.param, layer.blobs
        if layer.type not in LINEAR_TYPES:
            changes[layer] = _between(layer, bottoms[0], factors[classes.of[tops[0]]])
            continue
        if makes:
            scale = 1 / factors[classes.of[tops[0]]]
            new = folded(layer, Affine(scale, np.zeros_like(scale), 1))
        if reads:
            scale = factors[classes.of[bottoms[0]]]
            new = folded_forward(_with(layer, new), Affine(scale, np.zeros_like(scale), 1))
        changes[layer] = new
    return changes


def _with(layer: Layer, new: New) -> Layer:
    """``layer`` with other parameters and blobs."""
    other = copy(layer)
    other.param, other.blobs = new
    return other


def _between(layer: Layer, bottom: Version, scale: Float64) -> New:
    """A layer that hands ``scale`` on: as it is, but for a shift."""
    affine = affine_of(layer, bottom.rank)
    if not isinstance(affine, Affine) or not affine.shift.any():
        return layer.param, layer.blobs
    affine = affine.over(len(scale), 1)
    return as_scale(layer, affine._replace(shift=affine.shift / scale))


def _tensors(graph: Graph, classes: Classes, layer: Layer) -> List[Tensor]:
    """The weights of a linear ``layer`` that has channels to move; none of another."""
    ends = graph.bottoms[layer], graph.tops[layer]
    if layer.type not in LINEAR_TYPES or [len(end) for end in ends] != [1, 1]:
        return []
    (bottom,), (top,) = ends
    outputs, inputs = classes.of.get(top), classes.of.get(bottom)
    if not any(channels is not None and channels.any() for channels in (outputs, inputs)):
        return []
    if isinstance(channel_ranges(layer), Reason):
        return []
    ranges = ranges_between(layer, None if inputs is None else len(inputs))
    group, makes, reads = ranges.shape
    outputs = np.zeros(group * makes, np.intp) if outputs is None else outputs
    inputs = np.zeros(group * reads, np.intp) if inputs is None else inputs
    return [Tensor(ranges, outputs.reshape(group, makes), inputs.reshape(group, reads))]


def _constant(graph: Graph, classes: Classes) -> Indices:
    """The classes of channels that are nearly the bias of their layer."""
    constant: List[Indices] = []
    for layer in graph.layers:
        outputs = classes.of.get(graph.tops[layer][0]) if graph.tops[layer] else None
        if layer.type not in LINEAR_TYPES or outputs is None or len(layer.blobs) < 2:
            continue
        ranges = channel_ranges(layer)
        if not isinstance(ranges, Reason):
            constant.append(outputs[np.abs(layer.blobs[1].float64()) > CONSTANT * ranges])
    return np.concatenate([np.zeros(0, np.intp), *constant])

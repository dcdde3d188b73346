"""Classes of channels that can be scaled together without a change of the net's outputs.

The output channels of a linear layer may be multiplied by any positive factor if the linear layers
that read them divide by it. In between, the factor commutes with ReLU, PReLU, Pooling, layers that
move channels, and layers that are affine per channel. An Eltwise requires one factor for the
channels that it adds or compares: these are in one class.
"""

from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.arrays import Indices, distinct
from caffe_merge.layers.catalogue import AFFINE, DROPOUT, of_family
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, output_channels
from caffe_merge.layers.moving import RULES
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.shapes.forks import DEPTHWISE
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import OUTPUT, SHAPE, SHARED, Reason
from caffe_merge.passes.rewriting.affine_propagation import Maps, forward_maps, is_product
from caffe_merge.passes.rewriting.forward_folding import why_not_folded
from caffe_merge.passes.rewriting.rewrite import kept
from caffe_merge.wording import counted, named

PER_CHANNEL = of_family(AFFINE, DROPOUT)
_STOPPED = Reason("a multiplier does not go through it")


class Classes(NamedTuple):
    """The classes of channels, numbered from 1; class 0 is that of channels that stay.

    ``of`` has the class of each channel (axis 1) of a blob; blobs without an entry stay whole.
    ``component_of`` has for each class the number of its component: classes that meet in a blob,
    and so change in one rewrite. ``refused`` are linear layers of which all channels stay, and why.
    """

    of: Dict[Version, Indices]
    component_of: Indices
    refused: List[Tuple[Layer, Reason]]

    def components(self) -> Dict[Version, FrozenSet[int]]:
        """The components of which each blob has channels."""
        components_in = {
            version: distinct(self.component_of[labels]) for version, labels in self.of.items()
        }
        return {
            version: frozenset(numbers.tolist()) - {0} for version, numbers in components_in.items()
        }


def classes_of(graph: Graph, fixed: Set[Layer]) -> Classes:
    """The classes of ``graph``; the layers of ``fixed`` stay as they are."""
    search = _Search(graph, fixed)
    for layer in graph.layers:
        search.visit(layer)
    for version in graph.outputs:
        search.stop([version], Reason(f"{version.name!r} is a net output", OUTPUT, minor=True))
    return search.classes()


class _Search:
    """Visits the layers in net order, and gives each channel a label; tied labels are one class."""

    def __init__(self, graph: Graph, fixed: Set[Layer]) -> None:
        self.graph = graph
        self.fixed = fixed
        self.sharers = graph.sharers()
        self.labels: Dict[Version, Indices] = {}
        self.ties = _Ties()
        self.stops: List[Tuple[Indices, Reason]] = []
        self.refused: List[Tuple[Layer, Reason]] = []

    def stop(self, versions: Sequence[Version], why: Reason) -> None:
        """Forbid any factor for the channels of ``versions``."""
        for version in versions:
            if version in self.labels:
                self.stops.append((self.labels[version], why))

    def visit(self, layer: Layer) -> None:
        """Label the tops of ``layer``, or stop what it reads."""
        bottoms = self.graph.bottoms[layer]
        reason = self._why_not(layer)
        ends = len(bottoms), len(self.graph.tops[layer])
        if reason is None and layer.type in LINEAR_TYPES and ends == (1, 1):
            self._linear(layer)
            return
        if not any(bottom in self.labels for bottom in bottoms):
            return
        if reason is None:
            reason = self._between(layer)
        if reason is not None:
            self.stop(bottoms, Reason.about(f"{layer.type} {layer.name!r} reads it", reason))

    def _why_not(self, layer: Layer) -> Optional[Reason]:
        """Why ``layer`` may not change, or stand between layers that do."""
        reason: Optional[Reason] = None
        if layer in self.fixed:
            reason = kept("it is")
        elif layer in self.sharers and layer.type in (*LINEAR_TYPES, *PER_CHANNEL):
            names = named([other.name for other in self.sharers[layer]])
            reason = Reason(f"it shares its weights with {names}", SHARED)
        if reason is not None and layer.type in LINEAR_TYPES:
            self.refused.append((layer, reason))
        return reason

    def _linear(self, layer: Layer) -> None:
        """A layer that can divide by the factors of its bottom, and whose top may have others."""
        (bottom,), tops = self.graph.bottoms[layer], self.graph.tops[layer]
        labels = self.labels.get(bottom)
        if labels is not None:
            ones = Affine(np.ones(len(labels)), np.zeros(len(labels)), 1)
            reason = why_not_folded(layer, ones, bottom.shape)
            if reason is None and not _reads(layer, len(labels)):
                reason = Reason(f"its weights are not for {counted(len(labels), 'channel')}")
            if reason is not None:
                self.stop([bottom], Reason.about(f"{layer.type} {layer.name!r} reads it", reason))
        output = output_channels(layer, tops[0].rank)
        if isinstance(output, Reason):
            self.refused.append((layer, output))
        elif output.axis != 1:
            self.refused.append((layer, Reason(f"its channels lie on axis {output.axis}, not 1")))
        else:
            self.labels[tops[0]] = self.ties.fresh(output.channels)

    def _between(self, layer: Layer) -> Optional[Reason]:
        """Label the tops of a layer that factors commute with; or why they do not."""
        bottoms, tops = self.graph.bottoms[layer], self.graph.tops[layer]
        labels = [self._labels_of(bottom) for bottom in bottoms]
        known_labels = [label for label in labels if label is not None]
        if len(known_labels) < len(labels):
            return Reason("its shapes are not known", SHAPE)
        if layer.type == "Eltwise":
            return self._eltwise(layer, known_labels)
        if layer.type in RULES and not is_product(layer) and layer.type not in PER_CHANNEL:
            # Labels go where multipliers go, as long as none is computed from several.
            maps: Maps = [
                Affine(label.astype(np.float64), np.zeros(len(label)), 1) for label in known_labels
            ]
            shapes = [bottom.shape for bottom in bottoms], [top.shape for top in tops]
            handed_on = forward_maps(layer, maps, *shapes)
            if isinstance(handed_on, Reason):
                return handed_on
            if not all(affine and affine.axis == 1 for affine in handed_on):
                return _STOPPED
            for top, affine in zip(tops, handed_on):
                assert affine is not None
                self.labels[top] = affine.scale.astype(np.intp)
                assert np.isin(self.labels[top], np.concatenate(known_labels)).all()
            return None
        if layer.type not in PER_CHANNEL:
            return _STOPPED
        layer_map = affine_of(layer, bottoms[0].rank)
        if not isinstance(layer_map, Affine):
            return layer_map or _STOPPED
        if layer_map.axis not in (None, 1) or layer_map.channels not in (
            None,
            len(known_labels[0]),
        ):
            return Reason(f"it acts along axis {layer_map.axis}")
        self.labels[tops[0]] = known_labels[0]
        return None

    def _labels_of(self, version: Version) -> Optional[Indices]:
        """Its labels, 0 for channels that stay; None if their number is not known."""
        if version in self.labels:
            return self.labels[version]
        if version.shape is None or len(version.shape) < 2:
            return None
        return np.zeros(version.shape[1], np.intp)

    def _eltwise(self, layer: Layer, labels: Sequence[Indices]) -> Optional[Reason]:
        """A sum or maximum of blobs of one shape: their channels have one multiplier."""
        (top,), param = self.graph.tops[layer], layer.param.eltwise_param
        reason = unknown_fields(layer)
        if reason is not None:
            return reason
        if param.operation not in (param.SUM, param.MAX):
            return _STOPPED
        if any(bottom.shape != top.shape for bottom in self.graph.bottoms[layer]):
            return Reason("its bottoms have different shapes")
        for other in labels[1:]:
            both = (labels[0] > 0) & (other > 0)
            self.ties.tie(labels[0][both], other[both])
            why = Reason(f"{layer.type} {layer.name!r} joins it with what stays")
            self.stops += [(side[~both], why) for side in (labels[0], other)]
        self.labels[top] = labels[0]
        return None

    def classes(self) -> Classes:
        """The classes, once all layers are visited."""
        root_of = self.ties.roots()
        why: Dict[int, Reason] = {}
        for labels, reason in self.stops:
            for root in _distinct(root_of[labels], len(root_of)).tolist():
                why.setdefault(root, reason)
        stays = np.zeros(len(root_of), bool)
        stays[[0, *why]] = True
        live = _distinct(root_of[~stays[root_of]], len(root_of))
        number = np.zeros(len(root_of), np.intp)
        number[live] = np.arange(1, len(live) + 1)
        class_of = {version: number[root_of[labels]] for version, labels in self.labels.items()}
        refused = list(self.refused)
        for layer in self.graph.layers:
            top = self.graph.tops[layer][0] if self.graph.tops[layer] else None
            if (
                layer.type in LINEAR_TYPES
                and top in class_of
                and class_of[top].size
                and not class_of[top].any()
            ):
                first = int(root_of[self.labels[top]][0])
                refused.append((layer, why[first]))
        return Classes(class_of, _components(class_of.values(), len(live) + 1), refused)


def _reads(layer: Layer, channels: int) -> bool:
    """Whether the weights of a linear ``layer`` are for so many channels.

    Where a shape on the way is not known they may be for others.
    """
    shape = layer.blobs[0].shape
    if layer.type == "InnerProduct":
        width = shape[0 if layer.param.inner_product_param.transpose else 1]
        return channels > 0 and width % channels == 0
    if layer.type in ("Deconvolution", DEPTHWISE):
        return shape[0] == channels
    return bool(shape[1] * layer.param.convolution_param.group == channels)


class _Ties:
    """Labels that are tied, as a forest: each has a smaller one above it, or is a root."""

    def __init__(self) -> None:
        self._above: Indices = np.zeros(1, np.intp)

    def fresh(self, number: int) -> Indices:
        """So many new labels."""
        start = len(self._above)
        labels = np.arange(start, start + number)
        self._above = np.concatenate([self._above, labels])
        return labels

    def tie(self, first: Indices, second: Indices) -> None:
        """Tie ``first`` to ``second``, one by one."""
        while True:
            roots = self.roots()
            first_roots, second_roots = roots[first], roots[second]
            if (first_roots == second_roots).all():
                return
            # A label that stands several times is tied to the least first, to others then.
            np.minimum.at(
                self._above,
                np.maximum(first_roots, second_roots),
                np.minimum(first_roots, second_roots),
            )

    def roots(self) -> Indices:
        """The root of each label."""
        above = self._above
        while True:
            higher = above[above]
            if (higher == above).all():
                self._above = above
                return above
            above = higher


def _components(classes: Iterable[Indices], number: int) -> Indices:
    """For each class the number of its component, from 1 in order; 0 for class 0."""
    ties = _Ties()
    ties.fresh(number - 1)
    for blob in classes:
        live = _distinct(blob[blob > 0], number)
        ties.tie(live[:1].repeat(len(live)), live)
    roots = ties.roots()
    component_of = np.zeros(number, np.intp)
    firsts = _distinct(roots, number)
    component_of[firsts] = np.arange(len(firsts))
    numbers: Indices = component_of[roots]
    return numbers


def _distinct(labels: Indices, number: int) -> Indices:
    """The distinct ones of ``labels``, which are below ``number``, in order."""
    present = np.zeros(number, bool)
    present[labels] = True
    return np.flatnonzero(present)

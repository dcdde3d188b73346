"""An affine map per channel folded backwards, into the producers of a blob's values.

The layers are visited in reverse order. A layer that can absorb the map does so; a layer that the
map commutes with requests maps of its bottoms. A blob may change only if all readers of its values
request the same map.
"""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers import norms
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import folded, output_channels
from caffe_merge.layers.moving import RULES, reads_shape_only
from caffe_merge.layers.per_channel import affine_of, as_scale
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import READERS, SHAPE, Reason
from caffe_merge.passes.rewriting.affine_propagation import Maps, backward_maps, is_product
from caffe_merge.passes.rewriting.affine_runs import Run, why_not_take
from caffe_merge.passes.rewriting.rewrite import Changes, kept
from caffe_merge.wording import named

Choice = Tuple[Layer, int]  # a product, and the number of the factor that takes the map
Requests = Dict[Tuple[Layer, int], Optional[Affine]]  # the map that each reader of a blob asks for


class BackwardFold(NamedTuple):
    """The layers that absorb a map, those that it goes through, and all their new parameters.

    ``changes`` also has the layers that read only the shape of a blob whose values change.
    """

    targets: List[Layer]
    through: List[Layer]
    changes: Changes


def fold_backward(graph: Graph, run: Run, keep: FrozenSet[str]) -> Union[BackwardFold, Reason]:
    """The map of ``run`` folded backwards from its source, or why that is not possible.

    Of the factors of a product, the first that can absorb the map does.
    """
    avoided: Set[Choice] = set()
    first: Optional[Reason] = None
    while True:
        attempt = _Attempt(graph, run, keep, avoided)
        reason = attempt.go() or graph.why_not_output(run.source, run.layers[-1])
        if reason is None:
            return attempt.fold
        through = [layer.name for layer in reversed(attempt.fold.through)]
        about = Reason.about(f"back through {named(through)}", reason) if through else reason
        first = first or about
        if attempt.culprit is None:
            return first
        avoided.add(attempt.culprit)


class _Attempt:
    """One attempt, which leaves out some factors of products.

    ``culprit`` is the last choice of a factor before the attempt failed; None if there was none.
    """

    def __init__(self, graph: Graph, run: Run, keep: FrozenSet[str], avoided: Set[Choice]) -> None:
        self.graph = graph
        self.run = run
        self.keep = keep
        self.avoided = avoided
        self.requests: Dict[Version, Requests] = {run.source: {(run.layers[0], 0): run.affine}}
        self.choices: Dict[Version, Optional[Choice]] = {run.source: None}
        self.culprit: Optional[Choice] = None
        self.fold = BackwardFold([], [], {})

    def go(self) -> Optional[Reason]:
        """Walk up the net from the source of the run; why the map does not go back, if so."""
        layers = self.graph.layers
        for layer in reversed(layers[: layers.index(self.run.layers[0])]):
            tops = self.graph.tops[layer]
            if any(affine for top in tops for affine in self.requests.get(top, {}).values()):
                choices = [self.choices.get(top) for top in tops]
                self.culprit = next(filter(None, choices), None)
                reason = self._visit(layer, self.culprit)
                if reason is not None:
                    return reason
        return None

    def _visit(self, layer: Layer, choice: Optional[Choice]) -> Optional[Reason]:
        """Have ``layer`` absorb the maps requested of its tops, or request them of its bottoms."""
        maps: Maps = []
        for top in self.graph.tops[layer]:
            agreed = self._agreed(top)
            if isinstance(agreed, Reason):
                return agreed
            maps.append(agreed)
        if layer.type in RULES and affine_of(layer, self.graph.tops[layer][0].rank) is None:
            return self._pass_on(layer, maps, choice)
        if is_product(layer):
            return self._pass_on(layer, maps, choice)
        (top, affine), *_ = ((t, m) for t, m in zip(self.graph.tops[layer], maps) if m)
        over = self.graph.overwritten_by(top)
        if over is not None and not self.graph.is_private(over):
            return Reason(f"{layer.name!r} is written over {over.name!r}, which keeps its name")
        new = _with(top, affine, self.keep)
        if isinstance(new, Reason):
            return new
        self.fold.changes[layer] = new
        self.fold.targets.append(layer)
        return None

    def _agreed(self, version: Version) -> Union[Affine, Reason, None]:
        """The map that all readers of the values of ``version`` request, or why there is none."""
        requests = self.requests.get(version, {})
        if not any(requests.values()):
            return None
        first, *others = requests.values()
        unasked = [reading for reading in version.readers if reading not in requests]
        names = [reader.name for reader, n in unasked if not reads_shape_only(reader, n)]
        names += [reader.name for (reader, _), affine in requests.items() if affine is None]
        if names:
            maker = version.producer.name
            return Reason(
                f"the output of layer {maker!r} is read by {named(names)} as well", READERS
            )
        if not all(_equal(first, other) for other in others):
            return Reason(f"those that read {version.name!r} would need maps that differ")
        for reader, _ in unasked:
            if reader.name in self.keep:
                return kept(f"layer {reader.name!r}, which reads {version.name!r}, is")
            self.fold.changes.setdefault(reader, (reader.param, reader.blobs))
        return first

    def _pass_on(self, layer: Layer, maps: Maps, choice: Optional[Choice]) -> Optional[Reason]:
        """Request of the bottoms of ``layer`` the maps that give its tops ``maps``."""
        self.fold.through.append(layer)
        if layer.name in self.keep:
            return kept(f"layer {layer.name!r} is")
        bottoms, number = self.graph.bottoms[layer], 0
        if is_product(layer):
            free = [n for n in range(len(bottoms)) if (layer, n) not in self.avoided]
            if not free:
                return Reason(f"no factor of {layer.name!r} takes it in")
            number = free[0]
            self.culprit = choice = (layer, number)
        shapes = [bottom.shape for bottom in bottoms]
        requested = backward_maps(
            layer, maps, shapes, [top.shape for top in self.graph.tops[layer]], number
        )
        if isinstance(requested, Reason):
            return requested
        self.fold.changes[layer] = (layer.param, layer.blobs)
        for n, (bottom, affine) in enumerate(zip(bottoms, requested)):
            if not reads_shape_only(layer, n):
                self.requests.setdefault(bottom, {})[layer, n] = affine
                self.choices.setdefault(bottom, choice)
        return None


def _equal(first: Optional[Affine], second: Optional[Affine]) -> bool:
    if first is None or second is None:
        return first is second
    return first.axis == second.axis and all(map(np.array_equal, first[:2], second[:2]))


def _with(version: Version, affine: Affine, keep: FrozenSet[str]) -> Union[New, Reason]:
    """The producer of ``version`` with ``affine`` in it: a linear layer, a Scale or BatchNorm."""
    producer, rank = version.producer, version.rank
    producer_map = affine_of(producer, rank) if producer.param.bottom else None
    may_be_scale = producer.type in ("Scale", *norms.TYPES) and norms.has_scale(producer)
    if isinstance(producer_map, Affine) and may_be_scale:
        return _scaled(version, producer_map, affine, keep)
    reason = why_not_take(version, affine, keep)
    output = output_channels(producer, rank) if reason is None else reason
    if isinstance(output, Reason):
        return output
    return folded(producer, affine.over(output.channels, output.axis))


def _scaled(
    version: Version, producer_map: Affine, affine: Affine, keep: FrozenSet[str]
) -> Union[New, Reason]:
    """The Scale that computes ``producer_map`` and then ``affine``."""
    producer = version.producer
    if producer.name in keep:
        return kept(f"layer {producer.name!r}, which feeds it, is")
    if producer_map.axis is not None and affine.axis not in (None, producer_map.axis):
        return Reason(
            f"layer {producer.name!r}, which feeds it, acts along axis {producer_map.axis}"
        )
    joined = producer_map.then(affine)
    if joined.axis is None:
        if version.shape is None or len(version.shape) < 2:
            return Reason("the number of its channels is not known", SHAPE)
        joined = joined.over(version.shape[1], 1)
    return as_scale(producer, joined)

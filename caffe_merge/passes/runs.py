"""Runs: layers that follow one another and are one affine map per channel together."""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from caffe_merge.affine import Refusal, affine
from caffe_merge.fold import Affine
from caffe_merge.graph import Graph, Version
from caffe_merge.layer import Layer
from caffe_merge.linear import output

KEPT = Refusal("kept as asked with --keep")


class Run(NamedTuple):
    """Affine layers in a row, nothing else reading between them, and the map they are."""

    layers: Tuple[Layer, ...]
    affine: Affine
    source: Version
    why_not: Optional[Refusal]

    @property
    def producer(self) -> Layer:
        """The layer that feeds the run."""
        return self.source.producer


def runs(graph: Graph, keep: FrozenSet[str]) -> Tuple[List[Run], List[Tuple[Layer, Refusal]]]:
    """The longest runs of ``graph``, and the layers of affine types that are in none, with why.

    A run's ``why_not`` is None where its producer is linear and can take the run in.
    """
    found: List[Run] = []
    refused: List[Tuple[Layer, Refusal]] = []
    open_run: Optional[Run] = None
    sharers = graph.sharers()
    order = {layer: number for number, layer in enumerate(graph.layers)}
    seen = set()
    for layer in graph.layers:
        if layer in seen:
            continue
        chain: Optional[Layer] = layer
        open_run = None
        while chain is not None:
            source = graph.bottoms[chain][0] if graph.bottoms[chain] else None
            answer = affine(chain, source.rank if source else None)
            if answer is not None and chain.name in keep:
                answer = KEPT
            if isinstance(answer, Refusal):
                refused.append((chain, answer))
                seen.add(chain)
            if not isinstance(answer, Affine) or source is None:
                break
            if open_run is None:
                open_run = Run((chain,), answer, source, None)
            elif _composable(open_run.affine, answer):
                joined = open_run.affine.then(answer)
                open_run = open_run._replace(layers=(*open_run.layers, chain), affine=joined)
            else:
                break
            seen.add(chain)
            chain = graph.tops[chain][0].reader
            if chain is not None and order[chain] <= order[open_run.layers[-1]]:
                break
        if open_run is not None:
            found.append(open_run._replace(why_not=why_not(graph, open_run, sharers, keep)))
    return found, refused


def _composable(one: Affine, other: Affine) -> bool:
    if one.axis is None or other.axis is None:
        return True
    return one.axis == other.axis and one.channels == other.channels


def why_not(
    graph: Graph, run: Run, sharers: Dict[Layer, List[Layer]], keep: FrozenSet[str]
) -> Optional[Refusal]:
    """Why a run cannot be folded into the layer that feeds it; None if it can."""
    producer = run.producer
    if run.source.is_input:
        return Refusal(f"its bottom {run.source.name!r} is a net input")
    target = output(producer, run.source.rank)
    if isinstance(target, Refusal):
        return _about(producer, target)
    if producer.name in keep:
        return Refusal(f"layer {producer.name!r}, which feeds it, is kept as asked with --keep")
    if len(run.source.readers) > 1:
        others = [reader.name for reader, _ in run.source.readers if reader is not run.layers[0]]
        return Refusal(f"the output of layer {producer.name!r} is read by {quoted(others)} as well")
    if producer in sharers:
        others = [layer.name for layer in sharers[producer]]
        return Refusal(f"layer {producer.name!r} shares its weights with {quoted(others)}")
    if run.affine.axis not in (None, target.axis):
        return Refusal(
            f"it acts along axis {run.affine.axis}, the channels of layer {producer.name!r} "
            f"lie on axis {target.axis}"
        )
    if run.affine.channels not in (None, target.channels):
        return Refusal(
            f"it has {run.affine.channels} channels, layer {producer.name!r} has {target.channels}"
        )
    return None


def _about(producer: Layer, refusal: Refusal) -> Refusal:
    if refusal.startswith("layer "):  # not linear at all
        return Refusal(f"it is fed by {refusal[len('layer ') :].replace(' is a ', ', a ', 1)}")
    return Refusal(f"layer {producer.name!r}, which feeds it, cannot take it in: {refusal}")


def quoted(names: List[str]) -> str:
    """Layer names for a sentence, the first few of many."""
    shown = ", ".join(repr(name) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")

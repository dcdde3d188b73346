"""Runs: chains of layers that together compute one affine map per channel."""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, output_channels
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import INPUT, READERS, Reason
from caffe_merge.passes.rewriting.rewrite import Changes, Rewrite, kept
from caffe_merge.wording import counted, named, with_article

KEPT_AS_ASKED = kept()


class Run(NamedTuple):
    """A chain of affine layers without other readers in between, and the map that it computes.

    ``source`` is the bottom of the first layer. ``refusal`` says why the producer of ``source``
    cannot have the map folded into it; None if it can.
    """

    layers: Tuple[Layer, ...]
    affine: Affine
    source: Version
    refusal: Optional[Reason] = None

    @property
    def producer(self) -> Layer:
        """The layer that produces the run's bottom."""
        return self.source.producer


def runs(graph: Graph, keep: FrozenSet[str]) -> Tuple[List[Run], List[Tuple[Layer, Reason]]]:
    """The longest runs of ``graph``; and the layers of affine types outside any run, with why."""
    by_end: Dict[Version, Run] = {}  # the top of the last layer -> the run
    refused: List[Tuple[Layer, Reason]] = []
    for layer in graph.layers:
        if not graph.bottoms[layer]:
            continue
        source = graph.bottoms[layer][0]
        affine = affine_of(layer, source.rank)
        if affine is None:
            continue
        if layer.name in keep:
            affine = KEPT_AS_ASKED
        if isinstance(affine, Reason):
            refused.append((layer, affine))
            continue
        top = graph.tops[layer][0]
        run = by_end.get(source)
        if run is None or not _joins(graph, run, top, affine):
            by_end[top] = Run((layer,), affine, source)
            continue
        del by_end[source]
        joined = run.affine.then(affine)
        by_end[top] = run._replace(layers=(*run.layers, layer), affine=joined)
    finished = [run._replace(refusal=why_not_fold(run, keep)) for run in by_end.values()]
    return finished, refused


def _joins(graph: Graph, run: Run, top: Version, affine: Affine) -> bool:
    """Whether a layer that applies ``affine`` to the run's end and writes ``top`` extends it."""
    end = graph.tops[run.layers[-1]][0]
    if len(end.readers) > 1:
        return False
    in_place = end.name == run.source.name
    if in_place and end.name != top.name and not graph.may_lose_name(run.source):
        return False  # a name that is kept would have another value
    if in_place and graph.memory_is_read_elsewhere(run.source):
        return False
    run_affine = run.affine
    if run_affine.axis is None or affine.axis is None:
        return True
    return (run_affine.axis, run_affine.channels) == (affine.axis, affine.channels)


def why_not_fold(run: Run, keep: FrozenSet[str]) -> Optional[Reason]:
    """Why a run cannot be folded into its producer; None if it can."""
    reason = why_not_take(run.source, run.affine, keep)
    others = [reader.name for reader, _ in run.source.readers if reader is not run.layers[0]]
    if reason is None and others:
        name = run.producer.name
        return Reason(f"the output of layer {name!r} is read by {named(others)} as well", READERS)
    return reason


def why_not_take(source: Version, affine: Affine, keep: FrozenSet[str]) -> Optional[Reason]:
    """Why ``affine`` cannot be folded into the producer of ``source``, whatever else reads it."""
    producer = source.producer
    if source.is_input:
        return Reason(f"its bottom {source.name!r} is a net input", INPUT, minor=True)
    if producer.type not in LINEAR_TYPES:
        text = f"it is fed by {producer.name!r}, {with_article(producer.type)}"
        return Reason(text, minor=True)
    output = output_channels(producer, source.rank)
    if isinstance(output, Reason):
        return Reason(f"layer {producer.name!r}, which feeds it, cannot take it in: {output}")
    if producer.name in keep:
        return kept(f"layer {producer.name!r}, which feeds it, is")
    if affine.axis not in (None, output.axis):
        return Reason(
            f"it acts along axis {affine.axis}, the channels of layer {producer.name!r} "
            f"lie on axis {output.axis}"
        )
    channels = affine.channels
    if channels is not None and channels != output.channels:
        size = counted(channels, "channel")
        return Reason(f"it has {size}, layer {producer.name!r} has {output.channels}")
    return None


def forward_rewrite(graph: Graph, layer: Layer, changes: Changes) -> Union[Rewrite, Reason]:
    """The rewrite that removes ``layer``, folded into its consumers as ``changes`` say."""
    region = {layer, *changes}
    reason = graph.why_not_move(graph.bottoms[layer][0], region)
    if reason is not None:
        return reason
    return Rewrite(
        layers=graph.in_order(region),
        changes=changes,
        note="folded forwards into " + named([consumer.name for consumer in changes]),
        kept_note=f"took in {layer.name!r}",
    )

"""fold-through: affine layers behind ReLU, PReLU and Pooling fold into the producer before those.

    x -> Convolution W, b -> ReLU -> Scale -> y        x -> Convolution W', b' -> ReLU -> y

    ReLU(s z) = s ReLU(z) for s >= 0, so W' = s W (along output channels), b' = s b

A positive multiplier goes through all of them, any through a mean; a shift goes through a maximum,
and through a mean that does not pad.
"""

from typing import FrozenSet, List, Tuple, Union

from caffe_merge.layers.catalogue import that
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, folded, output_channels
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes._forwards import propagated
from caffe_merge.passes._pass import Changes, Finding, Pass, Refused, Rewrite, kept
from caffe_merge.passes._runs import Run, quoted, runs, why_not_fold

THROUGH = that("back")


class FoldThrough(Pass):
    """Folds multipliers backwards through what is between them and a linear layer."""

    name = "fold-through"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        for run in runs(graph, self.keep)[0]:
            between, extended = _extended(graph, run)
            if not between or extended.producer.type not in LINEAR_TYPES:
                continue
            rewrite = _rewrite(extended, between, self.keep)
            if isinstance(rewrite, Reason):
                names = quoted([layer.name for layer in between])
                findings += [
                    Refused(layer, Reason.about(f"back through {names}", rewrite))
                    for layer in run.layers
                ]
            else:
                findings.append(rewrite)
        return findings


def _extended(graph: Graph, run: Run) -> Tuple[List[Layer], Run]:
    """The layers that the map may go through backwards, and the run with them in front."""
    between: List[Layer] = []
    source = run.source
    while source.producer.type in THROUGH and len(source.readers) == 1:
        layer = source.producer
        if len(graph.tops[layer]) > 1 or unknown_fields(layer) is not None:
            break
        between.insert(0, layer)
        source = graph.bottoms[layer][0]
    return between, run._replace(layers=(*between, *run.layers), source=source)


def _rewrite(run: Run, between: List[Layer], keep: FrozenSet[str]) -> Union[Rewrite, Reason]:
    reason = why_not_fold(run, keep)
    if reason is not None:
        return reason
    fixed = [layer.name for layer in between if layer.name in keep]
    if fixed:
        return kept(f"{quoted(fixed)} are")
    for layer in between:
        maps = propagated(layer, [run.affine], [None], [None])
        if isinstance(maps, Reason):
            return maps
    producer = run.producer
    output = output_channels(producer, run.source.rank)
    assert not isinstance(output, Reason)
    changes: Changes = {producer: folded(producer, run.affine.over(output.channels, output.axis))}
    changes.update({layer: (layer.param, layer.blobs) for layer in between})
    folded_layers = [layer for layer in run.layers if layer not in between]
    return Rewrite(
        layers=(producer, *run.layers),
        changes=changes,
        note=f"folded into {producer.type} {producer.name!r}",
        kept_note="took in " + quoted([layer.name for layer in folded_layers]),
    )

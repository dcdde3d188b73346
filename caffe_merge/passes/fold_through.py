"""fold-through: what goes through ReLU, PReLU and Pooling goes back into what is before them.

    x -> Convolution W, b -> ReLU -> Scale -> y        x -> Convolution W', b' -> ReLU -> y

    ReLU(s z) = s ReLU(z) for s >= 0, so W' = s W (along output channels), b' = s b

A positive multiplier goes through all of them, any through a mean; a shift goes through a maximum,
and through a mean that does not pad.
"""

from typing import FrozenSet, List, Tuple, Union

from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, folded, output
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes._forwards import handed_on
from caffe_merge.passes._pass import Changes, Found, Pass, Refused, Rewrite
from caffe_merge.passes._runs import Run, quoted, runs, why_not

THROUGH = ("PReLU", "Pooling", "ReLU")


class FoldThrough(Pass):
    """Folds multipliers backwards through what is between them and a linear layer."""

    name = "fold-through"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        for run in runs(graph, self.keep)[0]:
            between, longer = _behind(graph, run)
            if not between or longer.producer.type not in LINEAR_TYPES:
                continue
            answer = _through(longer, between, self.keep)
            if isinstance(answer, Reason):
                names = quoted([layer.name for layer in between])
                found += [Refused(one, f"back through {names}: {answer}") for one in run.layers]
            else:
                found.append(answer)
        return found


def _behind(graph: Graph, run: Run) -> Tuple[List[Layer], Run]:
    """The layers that a multiplier may pass, and the run as one that begins before them."""
    between: List[Layer] = []
    source = run.source
    while source.producer.type in THROUGH and len(source.readers) == 1:
        layer = source.producer
        if len(graph.tops[layer]) > 1 or unknown_fields(layer) is not None:
            break
        between.insert(0, layer)
        source = graph.bottoms[layer][0]
    return between, run._replace(layers=(*between, *run.layers), source=source)


def _through(run: Run, between: List[Layer], keep: FrozenSet[str]) -> Union[Rewrite, Reason]:
    reason = why_not(run, keep)
    if reason is not None:
        return reason
    kept = [layer.name for layer in between if layer.name in keep]
    if kept:
        return Reason(f"{quoted(kept)} are kept as asked with --keep")
    for layer in between:
        answer = handed_on(layer, [run.affine], [None], [None])
        if isinstance(answer, Reason):
            return answer
    producer = run.producer
    target = output(producer, run.source.rank)
    assert not isinstance(target, str)
    changes: Changes = {producer: folded(producer, run.affine.over(target.channels, target.axis))}
    changes.update({layer: (layer.param, layer.blobs) for layer in between})
    gone = [layer for layer in run.layers if layer not in between]
    return Rewrite(
        layers=(producer, *run.layers),
        changes=changes,
        note=f"folded into {producer.type} {producer.name!r}",
        kept_note="took in " + quoted([layer.name for layer in gone]),
    )

"""What a target would refuse or compute wrongly of a net, layer by layer, and what to do."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.passes.targets.facts import LayerFacts, net_meets
from caffe_merge.passes.targets.table import NET, Row, Source, Target, table

SCHEMA = "caffe_merge.check/1"


class Problem(NamedTuple):
    """One thing that a target does not take as it is; ``layer`` is empty if it is the net's.

    ``form`` is what ``merge --target`` does about it, "" if nothing; ``advice`` what to do.
    """

    layer: str
    type: str
    effect: str
    why: str
    form: str
    advice: str
    source: Source

    def to_json(self) -> Dict[str, Any]:
        """It as plain data."""
        return {**self._asdict(), "source": self.source._asdict()}


def check(net: Net, graph: Graph, target: Target) -> List[Problem]:
    """All that ``target`` would not take of ``net``, whose graph is ``graph``; in net order."""
    problems = [
        _problem(row, "", "")
        for row in target.rows
        if NET in row.types and net_meets(net, row.where)
    ]
    for layer in graph.layers:
        problems += _of_layer(LayerFacts(graph, layer), target)
    return problems


def matching(facts: LayerFacts, target: Target) -> Iterator[Row]:
    """The rows of ``target`` that hold for one layer."""
    for row in target.rows:
        if (facts.type in row.types or "any" in row.types) and facts.meets(row.where):
            yield row


def asked(graph: Graph, target: Target, form: str) -> Iterator[Layer]:
    """The layers of ``graph`` that rows of ``target`` want in another ``form``, in net order."""
    rows = [row for row in target.rows if row.form == form]
    for layer in graph.layers:
        facts = LayerFacts(graph, layer)
        fitting = (row for row in rows if facts.type in row.types or "any" in row.types)
        if any(facts.meets(row.where) for row in fitting):
            yield layer


def _of_layer(facts: LayerFacts, target: Target) -> List[Problem]:
    name, kind = facts.layer.name, facts.type
    problems = [_problem(row, name, kind) for row in matching(facts, target)]
    unknown = _unknown_type(facts, target)
    return problems if problems or unknown is None else [unknown]


def _unknown_type(facts: LayerFacts, target: Target) -> Optional[Problem]:
    if not target.types or facts.type in target.types:
        return None
    why = target.types_why or "it has no layer of this type"
    advice = "take the layer out, or put in its place layers that the target has"
    name, kind = facts.layer.name, facts.type
    return Problem(name, kind, target.types_effect, why, "", advice, target.types_source)


def _problem(row: Row, layer: str, kind: str) -> Problem:
    advice = table().forms[row.form] if row.form else row.advice
    return Problem(layer, kind, row.effect, row.why, row.form, advice, row.source)

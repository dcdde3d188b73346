"""Holds the rewrites of a merge against its target, and notes what the target still refuses.

Some forms are not rewrites of layers: net-level inputs become layers, and blobs get names without
blanks, when the text is read (net/text_forms.py); others are made by the writer and noted here.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from caffe_merge.errors import OptionName, Text
from caffe_merge.formats.schema.messages import copied
from caffe_merge.merging.report import Report
from caffe_merge.merging.rewiring import free_name
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.net.text_forms import TEXT_FORMS, without_blanks
from caffe_merge.notes import ASKED, Note, Reason
from caffe_merge.passes.rewriting.rewrite import Rewrite
from caffe_merge.passes.targets.check import asked, check, matching
from caffe_merge.passes.targets.facts import LayerFacts
from caffe_merge.passes.targets.table import Row, Target, find

STORED_TYPES, CURRENT_FORMAT, NAMES = "stored-types", "current-format", "names-without-blanks"
OUTPUT_APART = "output-apart"
WRITTEN = {STORED_TYPES, CURRENT_FORMAT}  # by the writer, in whatever it writes


def text_forms(target: str) -> Tuple[str, ...]:
    """The forms of the text that the target of this name asks for."""
    requested = find(target).forms()
    return tuple(form for form in TEXT_FORMS if form in requested)


def why_not(graph: Graph, rewrite: Rewrite, target: Target) -> Optional[Reason]:
    """Why ``target`` would not take a layer that ``rewrite`` makes, and took those before."""
    before: Set[Row] = set()
    for layer in rewrite.layers:
        before.update(_rows_without_form(LayerFacts(graph, layer), target))
    had_unknown = any(_is_unknown(layer.type, target) for layer in rewrite.layers)
    for layer, (param, blobs) in rewrite.changes.items():
        facts = LayerFacts(graph, layer, param, blobs)
        new = [row for row in _rows_without_form(facts, target) if row not in before]
        subject = OptionName("target"), f" {target.name}: "
        if new:
            return Reason(Text(*subject, f"it would not take what it becomes: {new[0].why}"), ASKED)
        if _is_unknown(facts.type, target) and not had_unknown:
            return Reason(Text(*subject, f"it has no {facts.type}"), ASKED)
    return None


def _rows_without_form(facts: LayerFacts, target: Target) -> Iterator[Row]:
    """The rows that are true of a layer, and that no form of the target mends."""
    return (row for row in matching(facts, target) if not row.form)


def _is_unknown(kind: str, target: Target) -> bool:
    return bool(target.types) and kind not in target.types


def problems(net: Net, graph: Graph, target: Target, merged: bool = False) -> List[Dict[str, Any]]:
    """What ``target`` would not take, as plain data; of a merged net but for what is written so."""
    return [
        problem.to_json()
        for problem in check(net, graph, target)
        if not merged or problem.form not in WRITTEN
    ]


def note_remaining(net: Net, graph: Graph, target: Target, report: Report) -> None:
    """The forms that are the writer's, once all layers are final; notes on what is left."""
    forms = target.forms()
    if NAMES in forms:
        _rename_layers(net, report)
    net.stored_types = STORED_TYPES in forms
    _set_outputs_apart(graph, target, report)
    for problem in check(net, graph, target):
        if problem.form not in WRITTEN:
            subject = OptionName("target"), f" {target.name}: "
            advice = f"{problem.form} cannot be done here" if problem.form else problem.advice
            text = Text(*subject, f"{problem.effect}: {problem.why}; {advice}")
            report.notes.append(Note("target", problem.layer, text))


def _set_outputs_apart(graph: Graph, target: Target, report: Report) -> None:
    """Have net outputs written by one layer each: what it wrote over in place gets another name."""
    for layer in asked(graph, target, OUTPUT_APART):
        for top in graph.tops[layer]:
            before = graph.overwritten_by(top)
            if before is None or not top.is_output or graph.first_write(before).is_input:
                continue
            name = graph.unused_name(before, f"{top.name}_before")
            graph.rename_all(before, name)
            text = f"writes the output {top.name!r} alone: what it reads is called {name!r} now"
            report.notes.append(Note("target-form", layer.name, text))


def _rename_layers(net: Net, report: Report) -> None:
    """Give layers names without blanks, each still its own."""
    taken = {layer.name for layer in net.all_layers}
    for layer in net.layers:
        name = without_blanks(layer.name)
        if name == layer.name:
            continue
        new = free_name(name, taken)
        text = f"is called {new!r} now: the target takes no blanks in names"
        report.notes.append(Note("target-form", layer.name, text))
        layer.param = copied(layer.param)
        layer.param.name = new

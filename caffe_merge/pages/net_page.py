"""The page of one net: its picture, its sizes, the ranges of its weights, a table of its layers."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.layers.range_table import table
from caffe_merge.net.loading import Net
from caffe_merge.net.measures import activation_bytes
from caffe_merge.net.propagation import parameter_counts
from caffe_merge.pages import charts, layers, ranges, rendering, targets
from caffe_merge.pages.drawing import colour_of, draw
from caffe_merge.pages.facts import KEPT, Facts
from caffe_merge.pages.snapshot import Node, Snapshots
from caffe_merge.wording import counted


def prepare(flags: Mapping[str, Any]) -> str:
    """Where the page of the command show goes; checked before anything is done."""
    return prepared(flags["output"] or rendering.beside(flags["model"]), flags)


def prepared(path: str, flags: Mapping[str, Any]) -> str:
    """``path``, if a page may be written there."""
    read = (flags[name] for name in ("model", "weights", "proto"))
    rendering.check(path, [name for name in read if name])
    return path


def write(
    path: str,
    net: Net,
    name_of: Callable[[str], str] = str,
    target: Optional[Mapping[str, Any]] = None,
) -> None:
    """Write the page of ``net``, options called by ``name_of``.

    ``target`` is what one would not take of it (targets.of_check).
    Raises UsageError without Jinja2 or over a file that is no page, NetError for a net that Caffe
    would not build, and FileError as writing does.
    """
    rendering.check_free(path)
    title = net.name or os.path.basename(net.document.path)
    rendering.write(path, "net.html", title, content(net, target), name_of)


def content(net: Net, target: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """All that the template prints, by the names that it has there."""
    graph = net.graph()
    nodes = Snapshots().take(graph, parameter_counts(net.layers, net.input_shapes))
    facts = [Facts(node.number, KEPT, node, node) for node in nodes]
    numbers = {node.name: node.number for node in nodes}
    weights = {"after": table(net.layers).to_json()} if net.index else None
    return {
        "files": [net.document.path, *([net.index.path] if net.index else [])],
        "tiles": list(_tiles(nodes, activation_bytes(graph))),
        "drawn": draw({counted(len(nodes), "layer"): nodes}, {fact.number: fact for fact in facts}),
        "sums": _sums(nodes),
        "ranges": weights and ranges.section(weights, numbers),
        "for_target": target and targets.section(target, numbers),
        "errors": None,
        "notes": layers.notes([note._asdict() for note in net.notes]),
        "comparison_details": [],
        **layers.page_data(facts),
    }


def _tiles(nodes: Sequence[Node], activations: Optional[int]) -> Iterator[Tuple[str, str]]:
    yield "layers", f"{len(nodes):,}"
    for title, values in (
        ("parameters", [node.values for node in nodes]),
        ("multiply-adds", [node.multiply_adds for node in nodes]),
    ):
        yield title, _sum(values)[0]
    yield "activations", "?" if activations is None else charts.as_bytes(activations)
    for node in nodes:
        if not node.bottoms:
            yield f"input {node.name}", layers.outputs(node) or "?"


def _sum(values: Sequence[Optional[int]]) -> Tuple[str, int]:
    """The sum of what is known, as text and as number."""
    total = sum(value or 0 for value in values)
    return f"{'at least ' if None in values else ''}{charts.short(total)}", total


def _sums(nodes: Sequence[Node]) -> List[Mapping[str, Any]]:
    """What the layers of each type come to, the type with most multiply-adds first."""
    types: Dict[str, List[Node]] = {}
    for node in nodes:
        types.setdefault(node.type, []).append(node)
    whole = sum(node.multiply_adds or 0 for node in nodes) or 1
    rows = []
    for kind, of_kind in types.items():
        products = _sum([node.multiply_adds for node in of_kind])
        rows.append(
            {
                "type": kind,
                "colour": colour_of(kind),
                "layers": len(of_kind),
                "parameters": _sum([node.values for node in of_kind]),
                "products": products,
                "share": round(100 * products[1] / whole, 1),
            }
        )
    return sorted(rows, key=lambda row: -row["products"][1])

"""What a page tells of each layer, in its table and where it is pointed at; and the notes."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.pages import charts
from caffe_merge.pages.drawing import colour_of, sized
from caffe_merge.pages.facts import Facts
from caffe_merge.pages.snapshot import Node


def row(fact: Facts) -> Dict[str, Any]:
    """One row of the table of layers."""
    before, after = fact.before, fact.after
    return {
        "number": fact.number,
        "name": fact.node.name,
        "type": _both(before and before.type, after and after.type),
        "colour": colour_of(fact.node.type),
        "fate": fact.fate,
        "output": _both(outputs(before), outputs(after)),
        "parameters": _counts(before and before.values, after and after.values),
        "products": _counts(before and before.multiply_adds, after and after.multiply_adds),
        "error": fact.error,
        "beyond": fact.beyond,
        "why": "; ".join(_why(fact)),
    }


def _counts(before: Optional[int], after: Optional[int]) -> Tuple[str, float]:
    """Both numbers as text, once if they are the same, and one to sort by."""
    texts = [charts.short(value) if value else "" for value in (before, after)]
    return _both(*texts), max(before or 0, after or 0)


def _why(fact: Facts) -> Iterator[str]:
    yield from (f"{name}: {text}" for name, text in fact.rewrites)
    if fact.stayed:
        yield f"still there: {fact.stayed}"
    else:
        yield from (f"not {name}: {text}" for name, text in fact.refusals)


def _both(before: Optional[str], after: Optional[str]) -> str:
    texts = dict.fromkeys(text for text in (before, after) if text)
    return " \N{RIGHTWARDS ARROW} ".join(texts)


def outputs(node: Optional[Node]) -> Optional[str]:
    return node and ", ".join(map(sized, node.outputs))


def details(fact: Facts) -> Dict[str, Any]:
    """What the page shows of one layer where it is pointed at."""
    before, after = fact.before, fact.after
    entries = [
        (title, _both(*(node and text(node) for node in (before, after))))
        for title, text in (
            ("reads", lambda node: ", ".join(node.bottoms)),
            ("makes", lambda node: ", ".join(node.tops)),
            ("output", outputs),
            ("weights", lambda node: ", ".join(map(sized, node.blobs))),
            ("multiply-adds", lambda node: _number(node.multiply_adds)),
        )
    ]
    if fact.error is not None:
        entries.append(("error", f"{fact.error:.2e}{' (beyond its limit)' if fact.beyond else ''}"))
    return {
        "name": fact.node.name,
        "type": _both(before and before.type, after and after.type),
        "fate": fact.fate,
        "rewrites": fact.rewrites,
        "refusals": fact.refusals,
        "stayed": fact.stayed,
        "rows": [entry for entry in entries if entry[1]],
        "before": before and before.parameters,
        "after": after and after.parameters,
    }


def _number(value: Optional[int]) -> str:
    return f"{value:,}" if value else ""


def notes(met: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """The notes of a report (its JSON) by kind."""
    kinds: Dict[str, List[Tuple[str, str]]] = {}
    for note in met:
        kinds.setdefault(note["kind"], []).append((note["layer"], note["text"]))
    return [
        {"kind": kind, "count": len(notes), "text": notes[0][1], "notes": notes}
        for kind, notes in kinds.items()
    ]


def page_data(facts: Sequence[Facts]) -> Dict[str, Any]:
    """What templates print of all layers, and what the script reads, by the names there."""
    return {
        "rows": [row(fact) for fact in facts],
        "fates": list(dict.fromkeys(fact.fate for fact in facts)),
        "types": sorted({fact.node.type for fact in facts}),
        "data": {"layers": {fact.number: details(fact) for fact in facts}},
    }

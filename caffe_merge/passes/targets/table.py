"""The table of targets (targets.json): read, checked, and as typed rows.

A target is a program that reads Caffe pairs. Each of its rows says of which layers, under which
condition, it refuses them, computes them wrongly, or demands another form. docs/targets.md is made
from the same file by tools/make_targets.py.
"""

import functools
import json
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple

from caffe_merge.errors import UsageError, meant
from caffe_merge.passes.targets.conditions import Clause, parse

FILE = Path(__file__).with_name("targets.json")
NET = "net"  # in place of layer types: the row is about the net as a whole

REFUSED, WRONG, DEMANDED = "refused", "wrong", "demanded"
EFFECTS = {
    REFUSED: "the target stops with an error, or crashes",
    WRONG: "the target goes on and computes something else, without an error",
    DEMANDED: "the target's documents ask for another form, or set a limit",
}


class Source(NamedTuple):
    """Where a row is from: what was run or read, and when."""

    text: str
    date: str


class Row(NamedTuple):
    """One fact about a target: layers of ``types`` that meet ``where`` have the ``effect``.

    ``form`` is the rewrite of ``merge`` that makes such a layer one that the target takes, "" if
    there is none; ``advice`` is what the user may do then.
    """

    types: Tuple[str, ...]
    where: Tuple[Clause, ...]
    condition: str
    effect: str
    why: str
    form: str
    advice: str
    source: Source


class Target(NamedTuple):
    """A reader of Caffe pairs. ``types`` are the layer types that it has; empty if not known."""

    name: str
    title: str
    about: str
    types: FrozenSet[str]
    types_source: Source
    types_effect: str
    types_why: str
    rows: Tuple[Row, ...]

    def forms(self) -> Tuple[str, ...]:
        """The forms that its rows ask for, each once."""
        return tuple(dict.fromkeys(row.form for row in self.rows if row.form))


class Table(NamedTuple):
    """All targets by name, and what each form does, in words."""

    targets: Dict[str, Target]
    forms: Dict[str, str]


@functools.lru_cache(maxsize=None)
def table() -> Table:
    """The table of the package, read once."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    targets = [_target(entry) for entry in data["targets"]]
    return Table({target.name: target for target in targets}, data["forms"])


def find(name: str) -> Target:
    """The target of this name, in any case of letters. Raises UsageError where there is none."""
    targets, lower = table().targets, str(name).lower()
    if lower not in targets:
        raise UsageError(f"no target is called {name!r}{meant(lower, targets)}")
    return targets[lower]


def _target(entry: Dict[str, Any]) -> Target:
    sources = {key: Source(*value) for key, value in entry["sources"].items()}
    types = entry.get("types", {})
    return Target(
        entry["name"],
        entry["title"],
        entry["about"],
        frozenset(types.get("names", "").split()),
        sources[types["source"]] if types else Source("", ""),
        types.get("effect", REFUSED),
        types.get("why", ""),
        tuple(_row(row, sources) for row in _rows(entry)),
    )


def _rows(entry: Dict[str, Any]) -> List[Dict[str, str]]:
    rows: List[Dict[str, str]] = entry["rows"]
    return rows


def _row(row: Dict[str, str], sources: Dict[str, Source]) -> Row:
    condition = row.get("where", "")
    return Row(
        tuple(row["types"].split()),
        parse(condition),
        condition,
        row["effect"],
        row["why"],
        row.get("form", ""),
        row.get("advice", ""),
        sources[row["source"]],
    )

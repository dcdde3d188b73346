"""What a page says of a layer: what became of it, by which rewrites, and why others refused it.

The report calls layers by name, and several may have one: what it says of a name is said of each.
"""

from bisect import bisect_left
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from caffe_merge.pages.layout import interleaved
from caffe_merge.pages.snapshot import Node

KEPT, CHANGED, MOVED, GONE, ADDED = "kept", "changed", "moved", "gone", "added"
Said = Tuple[str, str]  # a pass, and what it says of a layer


class Facts(NamedTuple):
    """One layer. ``before`` and ``after`` are None where the net has it not.

    ``error`` is the largest of the blobs that it makes, None if none was compared, ``beyond`` is
    true if one is beyond its limit. ``stayed`` is the reason of a layer that merges are about, as
    a BatchNorm, and that is still there.
    """

    number: int
    fate: str
    before: Optional[Node]
    after: Optional[Node]
    rewrites: Tuple[Said, ...] = ()
    refusals: Tuple[Said, ...] = ()
    stayed: str = ""
    error: Optional[float] = None
    beyond: bool = False

    @property
    def node(self) -> Node:
        """The layer as it was, or as it is if it is new."""
        node = self.before or self.after
        assert node is not None
        return node


def gather(
    before: Sequence[Node],
    after: Sequence[Node],
    report: Mapping[str, Any],
    about: Mapping[str, str] = MappingProxyType({}),
) -> List[Facts]:
    """The facts of all layers of a net before and after, of which ``report`` (its JSON) tells.

    ``about`` says what each pass does, by its name.
    """
    rewrites, changed = _rewrites(report, about)
    refusals: Dict[str, List[Said]] = {}
    for refusal in report["refusals"]:
        refusals.setdefault(refusal["layer"], []).append((refusal["rewrite"], refusal["reason"]))
    stayed = {fate["layer"]: fate["detail"] for fate in report["fates"] if fate["fate"] == "kept"}
    errors, beyond = _errors((before, after), report.get("validation"))
    old, new = ({node.number: node for node in nodes} for nodes in (before, after))
    moved = _moved(old, new)
    out = []
    for number in interleaved(old, [number for number in new if number not in moved]):
        was, now = old.get(number), new.get(number)
        name = (was or new[number]).name
        is_changed = name in changed or (was and now and was.parameters != now.parameters)
        fate = GONE if now is None else ADDED if was is None else CHANGED if is_changed else KEPT
        out.append(
            Facts(
                number,
                MOVED if number in moved else fate,
                was,
                now,
                tuple(rewrites.get(name, ())),
                tuple(refusals.get(name, ())),
                stayed.get(name, ""),
                errors.get(number),
                number in beyond,
            )
        )
    return out


def _rewrites(
    report: Mapping[str, Any], about: Mapping[str, str]
) -> Tuple[Dict[str, List[Said]], Set[str]]:
    """By the name of each layer what passes did, and the names of those that they changed."""
    remarks: Dict[str, List[Said]] = {}
    for change in report["changes"]:
        name, removed, others = change["rewrite"], change["removed"], change["changed"]
        taken_in = f"takes in {_names(removed)}" if removed else about.get(name, "is changed")
        for layer in removed:
            remarks.setdefault(layer, []).append((name, change["note"] or "is gone"))
        for layer in others:
            remarks.setdefault(layer, []).append((name, taken_in))
        for layer in change["added"]:
            remarks.setdefault(layer, []).append((name, "is new"))
    return remarks, {layer for change in report["changes"] for layer in change["changed"]}


def _names(layers: Sequence[str]) -> str:
    return ", ".join(map(repr, layers))


def _errors(
    nets: Sequence[Sequence[Node]], validation: Optional[Mapping[str, Any]]
) -> Tuple[Dict[int, float], Set[int]]:
    """The largest error of each layer's blobs, and the layers with one beyond its limit."""
    errors: Dict[int, float] = {}
    beyond: Set[int] = set()
    makers = list(map(Makers, nets))
    for blob in validation["blobs"] if validation else ():
        for number in {maker.of(blob["name"], blob["reader"]) for maker in makers} - {None}:
            assert number is not None
            if is_beyond(blob):
                beyond.add(number)
            if blob["max_error"] is not None:
                errors[number] = max(blob["max_error"], errors.get(number, 0.0))
    return errors, beyond


def is_beyond(blob: Mapping[str, Any]) -> bool:
    """Whether an entry of ``validation.blobs`` fails its comparison."""
    error = blob["max_error"]
    return bool(blob["problem"]) or error is None or error > blob["limit"]


class Makers:
    """Tells which layer of a net makes a blob."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._last: Dict[str, int] = {}
        self._read: Dict[Tuple[str, str], int] = {}
        for node in nodes:
            for name in node.bottoms:
                self._read[name, node.name] = self._last[name]
            self._last.update(dict.fromkeys(node.tops, node.number))

    def of(self, blob: str, reader: str = "") -> Optional[int]:
        """The layer that makes ``blob`` as ``reader`` reads it, or as it is in the end."""
        return self._read.get((blob, reader)) if reader else self._last.get(blob)


def _moved(old: Mapping[int, Node], new: Mapping[int, Node]) -> Set[int]:
    """The layers that do not stand in the order in which they stood; as few as explain it."""
    order = {number: at for at, number in enumerate(old)}
    both = [number for number in new if number in order]
    stay = rising([order[number] for number in both])
    return {number for number, stays in zip(both, stay) if not stays}


def rising(numbers: Sequence[int]) -> List[bool]:
    """Which of different ``numbers`` are in the longest rising sequence of them."""
    lowest: List[int] = []  # the lowest end of a rising sequence of each length
    ends: List[int] = []  # where that is
    before: List[int] = []
    for at, number in enumerate(numbers):
        length = bisect_left(lowest, number)
        lowest[length : length + 1] = [number]
        ends[length : length + 1] = [at]
        before.append(ends[length - 1] if length else -1)
    out = [False] * len(numbers)
    at = ends[-1] if ends else -1
    while at >= 0:
        out[at] = True
        at = before[at]
    return out

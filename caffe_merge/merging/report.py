"""The report of a merge: changes, refusals and sizes, as data, JSON and text."""

from copy import copy
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from caffe_merge.errors import Text
from caffe_merge.layers.catalogue import AFFINE, DROPOUT, NORM, of_family
from caffe_merge.layers.layer import Layer, remembering
from caffe_merge.layers.linear import LINEAR_TYPES
from caffe_merge.net.graph import Graph
from caffe_merge.net.measures import activation_bytes, multiply_adds
from caffe_merge.notes import Note, Reason

if TYPE_CHECKING:
    from caffe_merge.merging.approximation import Approximation
    from caffe_merge.merging.sharing import Unshared
    from caffe_merge.net.loading import Net
    from caffe_merge.pages.snapshot import Nets
    from caffe_merge.passes.rewriting.rewrite import Rewrite

SCHEMA = "caffe_merge.report/1"
# The types of which the report says what became of each layer.
TRACKED = frozenset(of_family(NORM, AFFINE, DROPOUT))


class Change(NamedTuple):
    """One rewrite that was made: the pass, the layers it removed and changed or moved, in words.

    The types are those that the layers had before.
    """

    rewrite: str
    removed: Tuple[str, ...]
    changed: Tuple[str, ...]
    note: str
    removed_types: Tuple[str, ...] = ()
    changed_types: Tuple[str, ...] = ()
    added: Tuple[str, ...] = ()
    added_types: Tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, rewrite: "Rewrite") -> "Change":
        """The record of ``rewrite``, made by the pass ``name``."""
        removed, changed = rewrite.removed, rewrite.changed
        return cls(
            name,
            tuple(layer.name for layer in removed),
            tuple(layer.name for layer in changed),
            rewrite.note,
            tuple(layer.type for layer in removed),
            tuple(layer.type for layer in changed),
            tuple(layer.name for layer in rewrite.new),
            tuple(layer.type for layer in rewrite.new),
        )


class Refusal(NamedTuple):
    """A layer that a pass left as it is, and why; ``kind`` is that of the reason (notes.py)."""

    rewrite: str
    layer: str
    type: str
    kind: str
    reason: Reason


class Fate(NamedTuple):
    """What became of one BatchNorm (or its like), Scale, Bias, Power or Dropout."""

    layer: str
    type: str
    fate: str
    detail: str


class Size(NamedTuple):
    """How large a net is. ``multiply_adds`` of one forward pass, None if no shape is known.

    ``activation_bytes`` is what Caffe holds for the values of all blobs, None if a shape is not
    known.
    """

    layers: int
    parameters: int
    multiply_adds: Optional[int]
    uncounted: int  # layers whose multiply-adds are not known
    activation_bytes: Optional[int]

    @classmethod
    def of(cls, graph: Graph) -> "Size":
        """The size of the layers of ``graph``, which must have its shapes."""
        total = uncounted = 0
        for layer in graph.layers:
            cost = multiply_adds(graph, layer)
            total += cost or 0
            uncounted += cost is None
        parameters = sum(layer.parameters for layer in graph.layers)
        any_counted = uncounted < len(graph.layers)
        products = total if any_counted else None
        return cls(len(graph.layers), parameters, products, uncounted, activation_bytes(graph))


class Report:
    """The result of ``merge``. ``finish`` completes it; the caller may add ``extra`` entries."""

    def __init__(self, net: "Net", graph: Graph) -> None:
        self.name = net.name
        self.before = self.after = Size.of(graph)
        self.changes: List[Change] = []
        self.refusals: List[Refusal] = []
        self.fates: List[Fate] = []
        self.notes: List[Note] = list(net.notes)
        self.unshared: List[Unshared] = []
        self.approximation: Optional[Approximation] = None  # what is not exact, as asked for
        self.target: Optional[Dict[str, Any]] = None  # what it would not take, before and now
        self.input: Optional[Dict[str, Any]] = None  # what an input of raw pixels stands for
        self.extra: Dict[str, Any] = {}
        self.unchanged = False  # what was written is the net as it was loaded
        self.nets: Optional[Nets] = None  # before and after, where a page of it is to be made
        self._tracked = [layer for layer in graph.layers if layer.type in TRACKED]
        self._types = [layer.type for layer in self._tracked]
        self._fates: Dict[Layer, Tuple[str, str]] = {}
        self.weighted_before = self.weighted = _weighted(graph)
        self._blobs = _blobs(graph)
        self.blobs_gone: List[str] = []

    def add(self, name: str, rewrite: "Rewrite") -> None:
        """Write down a rewrite that the pass ``name`` made."""
        self.changes.append(Change.of(name, rewrite))
        if not rewrite.is_exact:
            from caffe_merge.merging.approximation import Approximation

            self.approximation = Approximation.of(rewrite)
        for layer in rewrite.removed:
            self._fates[layer] = ("gone", rewrite.note)
        for layer in rewrite.changed:
            self._fates[layer] = ("changed", rewrite.kept_note)

    def finish(self, graph: Graph, refusals: Mapping[Layer, List[Refusal]]) -> None:
        """Take in the final graph, and the refusals for layers that are still there."""
        self.after = Size.of(graph)
        self.weighted = _weighted(graph)
        left = _blobs(graph)
        self.blobs_gone = [name for name in self._blobs if name not in left]
        self.refusals = [refusal for layer in graph.layers for refusal in refusals.get(layer, ())]
        for layer, kind in zip(self._tracked, self._types):
            fate, detail = self._fates.get(layer, ("kept", ""))
            why = _why([refusal.reason for refusal in refusals.get(layer, ())])
            if fate == "kept":
                detail = why or "no pass that was asked for touches it"
            elif fate == "changed" and why:
                detail = Text(detail, ": ", why)
            self.fates.append(Fate(layer.name, kind, fate, detail))

    def to_json(self) -> Dict[str, Any]:
        """The report as plain data; docs/report.md describes every entry."""
        from caffe_merge.layers.range_table import table

        with remembering():  # most layers are measured once for before and after
            ranges = {
                "before": table(self.weighted_before).to_json(),
                "after": table(self.weighted).to_json(),
            }
        return {
            "schema": SCHEMA,
            "net": self.name,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "changes": [change._asdict() for change in self.changes],
            "refusals": [refusal._asdict() for refusal in self.refusals],
            "fates": [fate._asdict() for fate in self.fates],
            "blobs_gone": self.blobs_gone,
            "notes": [note._asdict() for note in self.notes],
            "unshared": [shared._asdict() for shared in self.unshared],
            "target": self.target,
            "input": self.input,
            "approximation": self.approximation and self.approximation.to_json(),
            "ranges": ranges,
            **self.extra,
        }


def _blobs(graph: Graph) -> Dict[str, None]:
    """The names of the blobs of ``graph``, in net order."""
    return {top.name: None for layer in graph.layers for top in graph.tops[layer]}


def _weighted(graph: Graph) -> List[Layer]:
    """The linear layers of ``graph`` as they are now."""
    return [copy(layer) for layer in graph.layers if layer.type in LINEAR_TYPES]


def _why(reasons: Sequence[Reason]) -> Text:
    """Why a layer is still there: each reason once, minor ones only if there are no others."""
    real = [reason for reason in reasons if not reason.minor]
    return Text.joined("; ", dict.fromkeys(real or reasons))

"""The interface of a pass: it finds rewrites and refusals, and changes nothing itself.

A Rewrite says all that would change; the driver (merging/driver.py) proves it, applies it and
writes it into the report. A Refused is a finding like any other: a layer, and why it stays.
"""

from types import MappingProxyType
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

from caffe_merge.errors import OptionName, Text
from caffe_merge.layers.layer import Layer, New
from caffe_merge.net.graph import Graph
from caffe_merge.notes import ASKED, Reason
from caffe_merge.options import Options

Changes = Dict[Layer, New]
Reads = Mapping[Layer, Tuple[int, ...]]


class Insert(NamedTuple):
    """A layer of one top, put in front of bottom ``number`` of ``reader``, which it reads.

    It reads those of ``more`` too, which ``reader`` reads no longer. A new layer and its top get
    their names when it is put there. A layer of the rewrite itself is moved: it leaves its place,
    and its top gets a new name.
    """

    layer: Layer
    reader: Layer
    number: int
    more: Tuple[int, ...] = ()


class Rewrite(NamedTuple):
    """The layers of a match: some change, others are removed or moved; the outputs stay the same.

    layers     the match
    changes    the new parameters and blobs of the layers that stay; without any the match is a
               chain whose end equals what it reads, and all of it is removed
    note       what the report says of the layers that are removed
    kept_note  what it says of those that change
    reads      for layers of several bottoms, the numbers of those that a layer still reads (all
               without an entry) or, for a removed layer, of the bottom that replaces its top (the
               first without an entry); layers of the match whose tops then have no reader are
               removed as well
    inserts    layers that are new or moved, each in front of one of ``changes``
    in_place   layers, of one bottom and one top, that are to write over their bottom
    premises   layers in front of the match on which it depends: they stay as they are, and the
               proof runs them too
    is_exact   it is proved; one that is not was asked for by the user, and its effect is measured
    """

    layers: Tuple[Layer, ...]
    changes: Changes
    note: str
    kept_note: str = ""
    reads: Reads = MappingProxyType({})
    inserts: Tuple[Insert, ...] = ()
    in_place: Tuple[Layer, ...] = ()
    premises: Tuple[Layer, ...] = ()
    is_exact: bool = True

    @property
    def taken_out(self) -> List[Layer]:
        """The layers that leave their places: removed or moved."""
        return [layer for layer in self.layers if layer not in self.changes]

    @property
    def moved(self) -> List[Layer]:
        """The layers that are put in another place."""
        return [insert.layer for insert in self.inserts if insert.layer in self.layers]

    @property
    def new(self) -> List[Layer]:
        """The layers that the net did not have."""
        return [insert.layer for insert in self.inserts if insert.layer not in self.layers]

    @property
    def removed(self) -> List[Layer]:
        """The layers that are removed."""
        moved = self.moved
        return [layer for layer in self.taken_out if layer not in moved]

    @property
    def changed(self) -> List[Layer]:
        """The layers that are moved, write in place now, or stay with other parameters or blobs.

        The rest only read another blob.
        """
        changed = [
            layer
            for layer, (param, blobs) in self.changes.items()
            if blobs is not layer.blobs or param != layer.param or layer in self.in_place
        ]
        return [*self.moved, *changed]


class Refused(NamedTuple):
    """A layer that stays as it is, and why."""

    layer: Layer
    reason: Reason


Finding = Union[Rewrite, Refused]


class Findings(List[Finding]):
    """What a pass finds, in order; no two of its rewrites share a layer."""

    def __init__(self) -> None:
        super().__init__()
        self._used: Set[Layer] = set()

    def have(self, layers: Iterable[Layer]) -> bool:
        """Whether a rewrite has any of ``layers``."""
        return not self._used.isdisjoint(layers)

    def add(self, rewrite: Rewrite) -> bool:
        """Have ``rewrite``, unless an earlier one has a layer of it; the next round may."""
        if self.have(rewrite.layers):
            return False
        self.append(rewrite)
        self._used.update(rewrite.layers)
        return True


def kept(which: str = "") -> Reason:
    """The reason where the user keeps a layer; ``which`` names the layers: "'a' and 'b' are"."""
    return Reason(Text(f"{which} kept as asked with ".lstrip(), OptionName("keep")), ASKED)


class Pass:
    """One kind of rewrite. It ignores shared weights: merging/sharing.py deals with those."""

    name = ""

    def __init__(self, options: Optional[Options] = None) -> None:
        self.options = options or Options()
        self.keep: FrozenSet[str] = frozenset(self.options.keep)

    def fixed(self, graph: Graph) -> Set[Layer]:
        """The layers of ``graph`` that stay as they are, as asked."""
        return {layer for layer in graph.layers if layer.name in self.keep}

    def find(self, graph: Graph) -> List[Finding]:
        """All matches in ``graph``, each as a Rewrite or Refused; no two rewrites share a layer."""
        raise NotImplementedError

"""What a pass is: it finds rewrites and refusals, and touches nothing.

A Rewrite says all that would change; the driver proves it, hands it to the editor and writes it
into the report. A Refused is a result like any other: a layer and a sentence.
"""

from types import MappingProxyType
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

from caffe_merge.layers.layer import Layer, New
from caffe_merge.net.graph import Graph

Changes = Dict[Layer, New]
Reads = Mapping[Layer, Tuple[int, ...]]


class Rewrite(NamedTuple):
    """Layers of which some change and the others go; what leaves them stays the same.

    ``changes`` are those that stay. ``reads`` says, of a layer of several bottoms, which of them
    (by number) it reads from now on; of one that goes, the one that stands in for its top. Without
    an entry that is all of them, or the first. What then feeds nobody goes as well. The report
    says ``note`` of the layers that go and ``kept_note`` of those that change.
    """

    layers: Tuple[Layer, ...]
    changes: Changes
    note: str
    kept_note: str = ""
    reads: Reads = MappingProxyType({})

    @property
    def removed(self) -> List[Layer]:
        """The layers that go."""
        return [layer for layer in self.layers if layer not in self.changes]

    @property
    def changed(self) -> List[Layer]:
        """The layers that stay and are no longer what they were; some only read another blob."""
        return [
            layer
            for layer, (param, blobs) in self.changes.items()
            if blobs is not layer.blobs or param != layer.param
        ]


class Refused(NamedTuple):
    """A layer that stays as it is, and why."""

    layer: Layer
    reason: str


Finding = Union[Rewrite, Refused]


SERIAL = ("auto", "always", "never")
AFFINE_AS = ("conv", "scale")


class Options(NamedTuple):
    """What the user asked for: layers (by name) that stay as they are, and how far to go.

    ``keep_shared``: weights that layers share stay shared, whatever cannot be done then.
    ``serial`` is "auto" (merge consecutive linear layers where nothing grows), "always" or "never".
    ``affine_as`` is what per-channel layers that are left become, "conv" or "scale"; None leaves
    both as they are.
    """

    keep: FrozenSet[str] = frozenset()
    keep_shared: bool = False
    serial: str = "auto"
    affine_as: Optional[str] = None


class Pass:
    """One rewrite. What layers share is none of its business (caffe_merge.merging.sharing)."""

    name = ""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 - it is immutable
        self.options = options
        self.keep = options.keep

    def fixed(self, graph: Graph) -> Set[Layer]:
        """The layers of ``graph`` that stay as they are, as asked."""
        return {layer for layer in graph.layers if layer.name in self.keep}

    def find(self, graph: Graph) -> List[Finding]:
        """All that the pass would do to ``graph`` now; no two rewrites share a layer."""
        raise NotImplementedError

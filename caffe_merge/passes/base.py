"""What a pass is: it finds rewrites and refusals, and touches nothing.

A Rewrite says all that would change; the driver proves it, hands it to the editor and writes it
into the report. A Refusal is a result like any other: a layer and a sentence.
"""

from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple, Union

from caffe_merge.graph import Graph
from caffe_merge.layer import Layer
from caffe_merge.weights.blobs import Blob

Changes = Dict[Layer, Tuple[Any, Tuple[Blob, ...]]]  # layer -> its new param and blobs


class Rewrite(NamedTuple):
    """A path of layers, each feeding the next, of which some change and the others go.

    What the path computed before, the layers that stay compute after. The report says ``note`` of
    the layers that go and ``kept_note`` of those that change.
    """

    path: Tuple[Layer, ...]
    changes: Changes
    note: str
    kept_note: str = ""

    @property
    def removed(self) -> List[Layer]:
        """The layers that go."""
        return [layer for layer in self.path if layer not in self.changes]


class Refused(NamedTuple):
    """A layer that stays as it is, and why."""

    layer: Layer
    reason: str


Found = Union[Rewrite, Refused]


class Pass:
    """One rewrite. ``keep`` holds the names of layers that must stay as they are."""

    name = ""

    def __init__(self, keep: FrozenSet[str] = frozenset()) -> None:
        self.keep = keep

    def find(self, graph: Graph) -> List[Found]:
        """All that the pass would do to ``graph`` now; no two rewrites share a layer."""
        raise NotImplementedError

"""drop-identity: layers that do nothing at inference go.

    x -> Dropout -> y        x = y

Dropout, Split, a Concat or Slice of one blob, a Scale of 1 and 0, a Power of 1, 1, 0, a
Pooling of 1x1 and what else caffe_merge.identity knows. It stays where a net output would lose its
name, or where it still drops.
"""

from typing import List

from caffe_merge.graph import Graph
from caffe_merge.identity import identity
from caffe_merge.layer import Reason
from caffe_merge.passes.base import Found, Pass, Refused, Rewrite
from caffe_merge.passes.runs import KEPT


class DropIdentity(Pass):
    """Removes layers that give out what they are given."""

    name = "drop-identity"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        for layer in graph.layers:
            answer = identity(graph, layer)
            if isinstance(answer, Reason):
                if layer.type in ("Dropout", "SpatialDropout"):
                    found.append(Refused(layer, str(answer)))
                continue
            if not answer:
                continue
            reason = KEPT if layer.name in self.keep else graph.why_not_bypass(layer)
            if reason is not None:
                found.append(Refused(layer, str(reason)))
            else:
                found.append(Rewrite((layer,), {}, "removed: it does nothing at inference"))
        return found

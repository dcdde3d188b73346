"""Which channels can be removed: those that nothing needs, and nothing that is linked to them."""

from __future__ import annotations

from typing import Dict, Iterable, List

import numpy as np

from caffe_merge.layers.matrices import Mask
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.channel_axis import channels
from caffe_merge.passes.rewriting.channel_links import Link


class Removal:
    """For each channel of each version the number of the reason to keep it; 0 if there is none."""

    def __init__(self, graph: Graph, links: Iterable[Link]) -> None:
        versions = [top for layer in graph.layers for top in graph.tops[layer]]
        self._numbers = {top: np.zeros(channels(top), np.intp) for top in versions if channels(top)}
        self._links = list(links)
        self._reasons: List[Reason] = []

    def pin(self, version: Version, mask: Mask, reason: Reason) -> None:
        """Keep those channels of ``version``, for this reason."""
        numbers = self._numbers.get(version)
        if numbers is not None and mask.any():
            self._reasons.append(reason)
            numbers[mask & (numbers == 0)] = len(self._reasons)

    def pin_all(self, version: Version, reason: Reason) -> None:
        """Keep all channels of ``version``."""
        self.pin(version, np.ones(channels(version), bool), reason)

    def keep_linked(self) -> None:
        """Keep all that is linked to a pinned channel as well, and one channel of each blob."""
        self._spread()
        for version, numbers in self._numbers.items():
            if not numbers.any():
                first = np.arange(len(numbers)) == 0
                self.pin(version, first, Reason("it is the last channel of its blob"))
                self._spread()

    def _spread(self) -> None:
        changed = True
        while changed:
            changed = False
            for bottom, start, top, at, size in (*self._links, *reversed(self._links)):
                below = self._numbers[bottom][start : start + size]
                above = self._numbers[top][at : at + size]
                if ((below == 0) != (above == 0)).any():
                    np.copyto(below, above, where=below == 0)
                    np.copyto(above, below, where=above == 0)
                    changed = True

    def removable(self, version: Version) -> Mask:
        """The channels of ``version`` that can be removed."""
        return np.asarray(self._numbers[version] == 0)

    def why(self, version: Version, mask: Mask) -> Reason:
        """Why the first of those channels of ``version``, which stay, does."""
        return self._reasons[int(self._numbers[version][mask][0]) - 1]

    def groups(self) -> List[Dict[Version, Mask]]:
        """Of each group of versions that lose linked channels, the channels that stay."""
        stay = {version: numbers > 0 for version, numbers in self._numbers.items()}
        loses = {version for version, mask in stay.items() if not mask.all()}
        linked: Dict[Version, List[Version]] = {}
        for link in self._links:
            linked.setdefault(link.bottom, []).append(link.top)
            linked.setdefault(link.top, []).append(link.bottom)
        groups: List[Dict[Version, Mask]] = []
        for version in [version for version in stay if version in loses]:
            if version not in loses:
                continue
            loses.discard(version)
            todo, group = [version], {version: stay[version]}
            while todo:
                for other in linked.get(todo.pop(), ()):
                    if other in loses:
                        loses.discard(other)
                        group[other] = stay[other]
                        todo.append(other)
            groups.append(group)
        return groups

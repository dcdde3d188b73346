"""The ways of the edges between layers that stand in a grid: around the boxes, never over one.

An edge to the next row is one curve in the gap between both rows. A longer one goes straight down
a column where no box is in its way, else down a lane in the gutter to the right of a column. Edges
out of one layer share their lanes, and those of two layers never lie on one another.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from caffe_merge.pages.layout import Place


class Route(NamedTuple):
    """An edge from ``start`` to ``end``.

    ``column`` is the one that a long edge goes down in; in the gutter behind it where there is a
    ``lane``. Both are None of an edge to the next row.
    """

    start: int
    end: int
    column: Optional[int] = None
    lane: Optional[int] = None


class Router:
    """Finds the ways of the edges of one picture; ``lanes`` counts those of each gutter."""

    def __init__(self, places: Mapping[int, Place]) -> None:
        self._places = places
        self._boxes: Dict[int, int] = {}  # for each column the rows with a box, as bits
        for row, column in places.values():
            self._boxes[column] = self._boxes.get(column, 0) | 1 << row
        self._lines: Dict[int, int] = {}  # the same of straight edges
        self._by_source: Dict[Tuple[int, int], int] = {}  # of those, what edges of a layer take
        self._lanes: Dict[int, List[int]] = {}  # for each gutter what its lanes take

    @property
    def lanes(self) -> Dict[int, int]:
        """How many lanes the gutter behind each column has."""
        return {column: len(lanes) for column, lanes in self._lanes.items()}

    def routes(self, start: int, ends: Sequence[int]) -> List[Route]:
        """The ways from ``start`` to the layers that read it."""
        out = []
        far: Dict[int, List[int]] = {}  # by the column behind which their lane is
        for end in ends:
            rows = self._places[end].row - self._places[start].row
            column = self._straight(start, end) if rows > 1 else None
            if rows == 1 or column is not None:
                out.append(Route(start, end, column))
            else:
                column = min(self._places[start].column, self._places[end].column)
                far.setdefault(column, []).append(end)
        for column, others in far.items():
            lane = self._lane(start, others, column)
            out += [Route(start, end, column, lane) for end in others]
        return out

    def _straight(self, start: int, end: int) -> Optional[int]:
        """The column of either end, if nothing stands or goes there between them."""
        bits = (1 << self._places[end].row) - (1 << self._places[start].row + 1)
        for column in (self._places[start].column, self._places[end].column):
            taken = self._lines.get(column, 0) & ~self._by_source.get((start, column), 0)
            if bits & (self._boxes.get(column, 0) | taken):
                continue
            self._lines[column] = self._lines.get(column, 0) | bits
            key = start, column
            self._by_source[key] = self._by_source.get(key, 0) | bits
            return column
        return None

    def _lane(self, start: int, ends: Sequence[int], column: int) -> int:
        rows = [self._places[layer].row for layer in (start, *ends)]
        bits = (1 << max(rows)) - (1 << min(rows))  # the gaps below these rows
        lanes = self._lanes.setdefault(column, [])
        lane = next((at for at, taken in enumerate(lanes) if not taken & bits), len(lanes))
        if lane == len(lanes):
            lanes.append(0)
        lanes[lane] |= bits
        return lane

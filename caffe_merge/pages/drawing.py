"""The picture of a net, or of a net before and after side by side: boxes and lines, in pixels.

A layer stands at the same height and in the same column on both sides, so what went is a gap, and
what was moved is not where it was.
"""

from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from unicodedata import east_asian_width

from caffe_merge.arrays import Shape
from caffe_merge.layers import catalogue
from caffe_merge.pages.facts import ADDED, CHANGED, GONE, KEPT, MOVED, Facts
from caffe_merge.pages.layout import Place, interleaved, places
from caffe_merge.pages.routes import Route, Router
from caffe_merge.pages.snapshot import Node
from caffe_merge.wording import listed, visible

BOX, HEIGHT, GAP = 176, 38, 26  # pixels: a box is so wide and high, and so far from the next row
GUTTER, LANE = 22, 8  # between columns; what each lane adds to it
MARGIN, HEAD = 18, 14  # around a side, and above its first row
NAME, DETAIL = 20, 28  # characters of the two lines in a box
MOST = 20_000  # layers and edges: a picture of more is not made

_SIGNS = {GONE: "\N{MINUS SIGN}", CHANGED: "~", ADDED: "+", MOVED: "\N{UP DOWN ARROW}"}
# The colour of a family of types; any other type is "other".
COLOURS = {
    catalogue.CONVOLUTION: "conv",
    catalogue.DEPTHWISE: "conv",
    catalogue.DECONVOLUTION: "conv",
    catalogue.PRODUCT: "product",
    catalogue.NORM: "norm",
    catalogue.AFFINE: "affine",
    catalogue.DROPOUT: "dropout",
    catalogue.POINTWISE: "pointwise",
    catalogue.POOLING: "pooling",
    catalogue.MOVING: "moving",
    catalogue.JOIN: "join",
    catalogue.DATA: "data",
}


class Box(NamedTuple):
    """One layer: the corner of its box, its colour, what became of it, its lines of text.

    ``sign`` is a letter in a circle at its corner, "" for none; ``mark`` says what it means.
    """

    number: int
    x: int
    y: int
    colour: str
    fate: str
    name: str
    kind: str
    size: str
    sign: str
    mark: str


class Line(NamedTuple):
    """The edges out of one layer as an SVG path; ``is_new`` of those that were not there before."""

    start: int
    path: str
    is_new: bool


class Side(NamedTuple):
    """One net. ``x`` is where it starts in the picture, ``width`` how wide it is."""

    title: str
    x: int
    width: int
    boxes: List[Box]
    lines: List[Line]


class Picture(NamedTuple):
    """One net, or two side by side; ``legend`` has each colour and the types that have it."""

    width: int
    height: int
    sides: List[Side]
    legend: List[Tuple[str, str]]
    box: int = BOX
    tall: int = HEIGHT


Keys = Dict[int, int]  # the place in the grid of each layer, by its number


def draw(nets: Mapping[str, Sequence[Node]], facts: Mapping[int, Facts]) -> Optional[Picture]:
    """The picture of one net, or of a net before and after, by title.

    ``facts`` has those of each layer, by number. None if there is too much to draw.
    """
    if sum(1 + len(node.reads) for nodes in nets.values() for node in nodes) > MOST:
        return None
    keys = [
        {node.number: _key(node, side, facts) for node in nodes}
        for side, nodes in enumerate(nets.values())
    ]
    reads: Dict[int, List[int]] = {}
    for nodes, key in zip(nets.values(), keys):
        reads = _joined(reads, {key[n.number]: [key[other] for other in n.reads] for n in nodes})
    grid = places(reads)
    routers = [Router({key[n.number]: grid[key[n.number]] for n in nodes})
               for nodes, key in zip(nets.values(), keys)]  # fmt: skip
    routes = [_routes(*side) for side in zip(nets.values(), keys, routers)]
    frame = _Frame(grid, routers)
    sides: List[Side] = []
    for at, (title, nodes) in enumerate(nets.items()):
        x = at * frame.width
        boxes = [_box(n, frame.corner(keys[at][n.number], x), facts[n.number]) for n in nodes]
        sides.append(Side(title, x, frame.width, boxes, list(frame.lines(routes, at, x))))
    return Picture(frame.width * len(sides), frame.height, sides, _legend(nets))


def _key(node: Node, side: int, facts: Mapping[int, Facts]) -> int:
    """What stands for the place of a layer: one that was moved has two."""
    return ~node.number if side and facts[node.number].fate == MOVED else node.number


def _joined(reads: Mapping[int, List[int]], more: Mapping[int, List[int]]) -> Dict[int, List[int]]:
    """Who reads whom in either, in an order that is that of both."""
    return {
        key: list(dict.fromkeys([*reads.get(key, ()), *more.get(key, ())]))
        for key in interleaved(reads, more)
    }


def _routes(nodes: Sequence[Node], key: Keys, router: Router) -> Dict[int, List[Route]]:
    """The ways of the edges of one net, by the number of the layer that they start at."""
    ends: Dict[int, List[int]] = {}
    for node in nodes:
        for number in node.reads:
            ends.setdefault(number, []).append(key[node.number])
    return {number: router.routes(key[number], ends[number]) for number in ends}


class _Frame:
    """Pixels of a grid, the same for all sides."""

    def __init__(self, grid: Mapping[int, Place], routers: Sequence[Router]) -> None:
        self._grid = grid
        self._left = [MARGIN]  # of each column
        for column in range(max((place.column for place in grid.values()), default=0) + 1):
            lanes = max(router.lanes.get(column, 0) for router in routers)
            self._left.append(self._left[-1] + BOX + GUTTER + LANE * lanes)
        rows = max((place.row for place in grid.values()), default=0) + 1
        self.height = HEAD + rows * (HEIGHT + GAP)
        self.width = self._left[-1] - GUTTER + MARGIN

    def corner(self, key: int, x: int) -> Tuple[int, int]:
        """The upper left corner of the box at a place, on the side that starts at ``x``."""
        row, column = self._grid[key]
        return x + self._left[column], HEAD + row * (HEIGHT + GAP)

    def lines(
        self, routes: Sequence[Mapping[int, Sequence[Route]]], side: int, x: int
    ) -> Iterator[Line]:
        """The lines of a side, each for what goes out of one layer; new ones apart."""
        for number, ways in routes[side].items():
            old = {(way.start, way.end) for way in routes[0].get(number, ())}
            for is_new in (False, True):
                paths = [self._path(w, x) for w in ways if ((w.start, w.end) not in old) == is_new]
                if paths:
                    yield Line(number, "".join(paths), is_new)

    def _path(self, way: Route, x: int) -> str:
        (x1, y1), (x2, y2) = self.corner(way.start, x), self.corner(way.end, x)
        x1, y1, x2 = x1 + BOX // 2, y1 + HEIGHT, x2 + BOX // 2
        if way.column is None:
            return f"M{x1} {y1}{_bend(x1, y1, x2, y2)}"
        middle = x + self._left[way.column] + BOX // 2
        if way.lane is not None:
            middle += BOX // 2 + GUTTER // 2 + LANE * way.lane
        down, up = y1 + GAP, y2 - GAP
        return f"M{x1} {y1}{_bend(x1, y1, middle, down)}V{up}{_bend(middle, up, x2, y2)}"


def _bend(x1: int, y1: int, x2: int, y2: int) -> str:
    """From one place to another, down at both ends."""
    if x1 == x2:
        return f"V{y2}"
    middle = (y1 + y2) // 2
    return f"C{x1} {middle} {x2} {middle} {x2} {y2}"


def _box(node: Node, corner: Tuple[int, int], fact: Facts) -> Box:
    size = _cut(sized(node.outputs[0]) if node.outputs else "", DETAIL - 5)
    kind = _cut(visible(node.type), DETAIL - len(size) - 1)
    name = _cut(visible(node.name), NAME)
    sign, mark = _SIGNS.get(fact.fate, ""), ""
    if fact.stayed and fact.fate == KEPT:
        sign, mark = "!", "stayed"
    if fact.beyond:
        sign, mark = "\N{MULTIPLICATION SIGN}", "wrong"
    return Box(node.number, *corner, colour_of(node.type), fact.fate, name, kind, size, sign, mark)


def colour_of(kind: str) -> str:
    """The colour of a layer type."""
    row = catalogue.CATALOGUE.get(kind)
    return COLOURS.get(row.family if row else "", "other")


def _legend(nets: Mapping[str, Sequence[Node]]) -> List[Tuple[str, str]]:
    types: Dict[str, Dict[str, None]] = {colour: {} for colour in (*COLOURS.values(), "other")}
    for node in (node for nodes in nets.values() for node in nodes):
        types[colour_of(node.type)][node.type] = None
    return [(colour, listed(list(kinds), 4)) for colour, kinds in types.items() if kinds]


def sized(shape: Optional[Shape]) -> str:
    """``1x64x7x7``, with signs of multiplication in the place of the letters."""
    return "?" if shape is None else "\N{MULTIPLICATION SIGN}".join(map(str, shape)) or "scalar"


def _cut(text: str, most: int) -> str:
    """``text`` in so many places of the width of a letter; of a long one both ends."""
    if _width(text) <= most:
        return text
    half = most // 2
    head, tail = text[: half - 1], text[-half:]
    while _width(head) + _width(tail) >= most:
        head, tail = head[:-1], tail[1:]
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"


def _width(text: str) -> int:
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)

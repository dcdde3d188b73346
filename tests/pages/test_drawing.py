"""The picture: boxes and lines in pixels."""

import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import caffe_merge
from caffe_merge.pages import drawing
from caffe_merge.pages.drawing import BOX, HEIGHT, Picture, draw
from caffe_merge.pages.facts import Facts
from caffe_merge.pages.snapshot import Node, Snapshots
from tests.nets import load, prototxt

SHORTCUT = (
    "data 2 3 8 7",
    "a: Convolution data -> a { convolution_param { num_output: 3 kernel_size: 1 } }",
    "bn: BatchNorm a -> bn",
    "sum: Eltwise bn data -> sum { eltwise_param { operation: MAX } }",
)


def node(number: int, *reads: int, name: str = "", kind: str = "ReLU") -> Node:
    return Node(number, name or f"n{number}", kind, reads, (), (), ((2, 3),), (), 0, 0, ())


def facts(*nets: List[Node], **fates: str) -> Dict[int, Facts]:
    return {n.number: Facts(n.number, fates.get(n.name, "kept"), n, n) for net in nets for n in net}


def picture(*nets: List[Node], **fates: str) -> Picture:
    drawing = draw({f"net {at}": net for at, net in enumerate(nets)}, facts(*nets, **fates))
    assert drawing is not None
    return drawing


def ends(path: str) -> List[Tuple[int, int]]:
    """The first place of a path and, after the M of each other one, that too."""
    return [(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)", path)]


def test_before_and_after_side_by_side(tmp_path: Path) -> None:
    net = load(tmp_path, prototxt(*SHORTCUT))
    snapshots = Snapshots()
    before = snapshots.take(net.graph())
    caffe_merge.merge(net)
    after = snapshots.take(net.graph())
    left, right = picture(before, after).sides
    assert [box.name for box in left.boxes] == ["data", "a", "bn", "sum"]
    assert [box.name for box in right.boxes] == ["data", "a", "sum"]
    was, now = ({box.name: box for box in side.boxes} for side in (left, right))
    for name in now:
        assert (now[name].x - was[name].x, now[name].y) == (right.x, was[name].y)
    assert [line.is_new for line in left.lines] == [False] * 3
    (new,) = (line for line in right.lines if line.is_new)
    assert new.start == after[1].number
    assert ends(new.path) == [(now["a"].x + BOX // 2, now["a"].y + HEIGHT)]
    assert new.path.endswith(f"V{now['sum'].y}"), "straight down through the gap"


def test_lines_go_around_boxes() -> None:
    drawing = picture([node(0), node(1, 0), node(2, 1, 0)])
    (line,) = (line for line in drawing.sides[0].lines if line.start == 0)
    lane = int(re.search(r"C[\d ]+ (\d+) \d+V", line.path).group(1))
    assert all(not box.x <= lane <= box.x + BOX for box in drawing.sides[0].boxes)
    assert lane < drawing.width


def test_a_layer_that_was_moved_stands_where_it_is_now() -> None:
    before = [node(0), node(1, 0), node(2, 1), node(3, 2)]
    after = [node(0), node(2, 0), node(1, 2), node(3, 1)]
    left, right = picture(before, after, n1="moved").sides
    was, now = ({box.number: box for box in side.boxes} for side in (left, right))
    assert [was[n].y < was[n + 1].y for n in range(3)] == [True] * 3
    assert now[0].y < now[2].y < now[1].y < now[3].y
    assert now[1].sign != ""


def test_a_layer_that_is_new_has_a_row(tmp_path: Path) -> None:
    before = [node(0), node(1, 0), node(2, 1)]
    after = [node(0), node(1, 0), node(3, 1), node(2, 3)]
    left, right = picture(before, after, n3="added").sides
    heights = [box.y for box in right.boxes]
    assert heights == sorted(set(heights))
    assert left.boxes[2].y == right.boxes[3].y


def test_signs_tell_fates() -> None:
    nodes = [node(n) for n in range(3)]
    known_shapes = facts(nodes, n0="gone")
    known_shapes[1] = known_shapes[1]._replace(stayed="it is fed by 'x'")
    known_shapes[2] = known_shapes[2]._replace(beyond=True, stayed="why")
    drawing: Any = draw({"before": nodes}, known_shapes)
    assert [box.mark for box in drawing.sides[0].boxes] == ["", "stayed", "wrong"]
    assert len({box.sign for box in drawing.sides[0].boxes}) == 3


def test_text_fits_its_box() -> None:
    wide = "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 40
    names = ["x" * 1000, wide, "it is\n\x1b[31mred\u202e" * 9, "short"]
    boxes = picture([node(at, name=name) for at, name in enumerate(names)]).sides[0].boxes
    for box in boxes:
        assert drawing._width(box.name) <= drawing.NAME
        assert box.name.isprintable()
        assert drawing._width(box.kind) + drawing._width(box.size) < drawing.DETAIL
    assert boxes[3].name == "short"
    assert boxes[0].name.startswith("x")
    assert boxes[0].name.endswith("x")


def test_types_have_colours() -> None:
    drawing = picture([node(0, kind="Convolution"), node(1, kind="BN"), node(2, kind="Unheard")])
    assert [box.colour for box in drawing.sides[0].boxes] == ["conv", "norm", "other"]
    assert drawing.legend == [("conv", "Convolution"), ("norm", "BN"), ("other", "Unheard")]


def test_of_too_much_there_is_no_picture() -> None:
    nodes = [node(number) for number in range(drawing.MOST + 1)]
    assert draw({"": nodes}, {}) is None

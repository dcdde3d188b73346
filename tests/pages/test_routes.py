"""The ways of the lines between boxes."""

from typing import Dict

from caffe_merge.pages.layout import Place
from caffe_merge.pages.routes import Route, Router


def router(places: Dict[int, "tuple[int, int]"]) -> Router:
    return Router({layer: Place(*place) for layer, place in places.items()})


def test_to_the_next_row_it_is_a_curve() -> None:
    assert router({0: (0, 0), 1: (1, 2)}).routes(0, [1]) == [Route(0, 1)]


def test_a_long_line_goes_straight_down_a_free_column() -> None:
    assert router({0: (0, 0), 1: (3, 0)}).routes(0, [1]) == [Route(0, 1, 0)]
    beside = {0: (0, 0), 1: (1, 0), 2: (2, 0), 3: (3, 1)}
    assert router(beside).routes(0, [3]) == [Route(0, 3, 1)]


def test_around_boxes_it_goes_down_a_lane() -> None:
    ways = router({0: (0, 0), 1: (1, 0), 2: (2, 0)})
    assert ways.routes(0, [1, 2]) == [Route(0, 1), Route(0, 2, 0, 0)]
    assert ways.lanes == {0: 1}


def test_lines_of_two_layers_have_lanes_of_their_own_where_they_pass() -> None:
    ways = router({layer: (layer, 0) for layer in range(6)})
    lanes = [ways.routes(layer, [layer + 2])[0].lane for layer in range(4)]
    assert lanes == [0, 1, 0, 1]
    assert len({way.lane for way in ways.routes(0, [3, 4])}) == 1


def test_lines_of_two_layers_never_lie_on_one_another() -> None:
    # Both would go down column 1, which has no box between them.
    ways = router({0: (0, 0), 1: (1, 0), 2: (2, 0), 3: (3, 0), 4: (4, 1), 5: (5, 1)})
    first, second = ways.routes(0, [4])[0], ways.routes(1, [4])[0]
    assert (first.column, first.lane) == (1, None)
    assert second.lane is not None

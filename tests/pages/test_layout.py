"""Where the layers of a net stand in its picture."""

import time
from typing import Dict, List

from caffe_merge.pages.layout import TAIL, Place, interleaved, places
from tests.speed import at_most


def test_a_chain_is_a_column() -> None:
    assert places({5: [], 3: [5], 8: [3]}) == {
        5: Place(0, 0),
        3: Place(1, 0),
        8: Place(2, 0),
    }


def test_a_branch_stands_beside_the_longest_way() -> None:
    # 0 - 1 -------- 5
    #   \ 2 - 3 - 4 /
    grid = places({0: [], 1: [0], 2: [0], 3: [2], 4: [3], 5: [1, 4]})
    assert [grid[layer] for layer in (0, 2, 3, 4, 5)] == [(row, 0) for row in range(5)]
    assert grid[1] == (1, 1)


def test_a_branch_keeps_its_column_free_down_to_its_end() -> None:
    # 1 goes down to 5 beside 2 3 4; 6 branches off 2 meanwhile and must not stand in its way.
    grid = places({0: [], 1: [0], 2: [0], 3: [2], 6: [2], 4: [3, 6], 5: [1, 4]})
    assert grid[1].column != grid[6].column


def test_a_branch_that_waits_long_does_not_keep_its_column() -> None:
    # As the heads of a detector: each branches off the main path, all are joined at its end.
    last = 100
    reads = {0: [], **{layer: [layer - 1] for layer in range(1, last)}}
    heads = {1000 + at: [at] for at in range(0, last, TAIL + 5)}
    grid = places({**reads, **heads, last: [last - 1, *heads]})
    assert {grid[layer].column for layer in heads} == {1}


def test_an_input_stands_above_who_reads_it_first() -> None:
    grid = places({0: [], 1: [], 2: [0], 3: [2], 4: [3, 1]})
    assert grid[1] == (2, 1)


def test_no_two_layers_have_one_place() -> None:
    reads: Dict[int, List[int]] = {0: []}
    for layer in range(1, 300):
        reads[layer] = sorted({(layer * 7) % layer, (layer * layer) % layer, layer // 2})
    grid = places(reads)
    assert len(set(grid.values())) == len(reads)
    assert all(grid[layer].row > grid[other].row for layer in reads for other in reads[layer])


def test_what_reads_a_layer_below_it_is_drawn_all_the_same() -> None:
    assert places({0: [1], 1: []}) == {0: Place(0, 0), 1: Place(0, 1)}


def test_a_thousand_layers_that_read_all_before_them() -> None:
    reads = {layer: list(range(layer)) for layer in range(1000)}
    start = time.process_time()
    grid = places(reads)
    assert time.process_time() - start < at_most(5)
    assert {place.column for place in grid.values()} == {0}


def test_no_layers() -> None:
    assert places({}) == {}


def test_an_order_that_is_that_of_both() -> None:
    assert interleaved([1, 2, 3, 4], [1, 9, 3, 8]) == [1, 9, 2, 3, 8, 4]
    assert interleaved([], [2, 1]) == interleaved([2, 1], []) == [2, 1]

"""Pooling and SPP against real Caffe, and against plain loops."""

from functools import partial

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.layers import shapes
from caffe_merge.reference.pooling import LOWEST
from tests.reference.cases import Case, as_caffe, normal


def pool(name: str, param: str, *bottoms: tuple, tops: int = 1) -> Case:
    """A Pooling of (2, 3, 7, 10) unless told otherwise."""
    body = f'type: "Pooling" pooling_param {{ {param} }}'
    return Case(name, body, bottoms or ((2, 3, 7, 10),), tops)


def spp(name: str, param: str, *bottoms: tuple) -> Case:
    """An SPP layer."""
    return Case(name, f'type: "SPP" spp_param {{ {param} }}', bottoms)


WINDOWS = {
    "even": "kernel_size: 2 stride: 2",
    "ceil": "kernel_size: 3 stride: 2",
    "floor": "kernel_size: 2 stride: 3 round_mode: FLOOR",
    "pad": "kernel_size: 3 stride: 2 pad: 1",
    "pad_same": "kernel_size: 3 pad: 1",
    "pad_clipped": "kernel_size: 2 stride: 3 pad: 1",
    "sides": "kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2",
    "pad_w": "kernel_size: 3 stride: 4 pad_h: 0 pad_w: 1",
    "apart": "kernel_size: 1 stride: 4",
    "global": "global_pooling: true",
    "larger_than_input": "kernel_h: 8 kernel_w: 2 stride: 3",
    "one_row_of_windows": "kernel_h: 7 kernel_w: 3",
}

CASES = [
    *(pool(f"max_{name}", f"pool: MAX {param}") for name, param in WINDOWS.items()),
    *(pool(f"mask_{name}", f"pool: MAX {param}", tops=2) for name, param in WINDOWS.items()),
    *(pool(f"ave_{name}", f"pool: AVE {param}") for name, param in WINDOWS.items()),
    pool("max_of_ties", "kernel_size: 3 stride: 2", (2, 3, 7, 7), tops=2)._replace(
        inputs=lambda expected: [np.ones(shape, np.float32) for shape in expected]
    ),
    spp("spp_one", "pyramid_height: 1", (2, 3, 7, 5)),
    spp("spp_two", "pyramid_height: 2", (2, 3, 7, 5)),
    spp("spp_three_ave", "pyramid_height: 3 pool: AVE", (2, 3, 9, 6)),
]


test_as_caffe = as_caffe(CASES)


PLAIN = [case for case in CASES if "pooling_param" in case.body]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_as_plain_loops(case: Case) -> None:
    layer = case.layer()
    x = (case.inputs or partial(normal, case.name))(case.bottoms)[0].astype(np.float64)
    window = shapes.geometry.pooling_window(layer, x.shape[2:])
    top = shapes.tops(layer, case.bottoms)[0]
    actual = reference.forward(layer, [], [x])
    for n, c, row, column in np.ndindex(*top):
        rows, columns = (
            range(place * s - p, min(place * s - p + k, size + p))
            for place, k, s, p, size in zip((row, column), *window[:3], x.shape[2:])
        )
        inside = [
            (i, j) for i in rows for j in columns if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
        ]
        values = [x[n, c, i, j] for i, j in inside]
        if "AVE" in case.body:
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            expected = sum(values) / area if area else np.nan
            np.testing.assert_allclose(actual[0][n, c, row, column], expected, atol=1e-14)
            continue
        assert actual[0][n, c, row, column] == max(values, default=LOWEST)
        if case.tops > 1:
            i, j = inside[int(np.argmax(values))] if values else (0, -1)
            assert actual[1][n, c, row, column] == i * x.shape[3] + j


def test_stochastic_is_a_mean_weighted_with_the_values() -> None:
    case = pool("s", "pool: STOCHASTIC kernel_size: 2 stride: 2", (1, 1, 2, 4))
    x = np.array([[[[1.0, 3.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]]])
    (y,) = reference.forward(case.layer(), [], [x])
    np.testing.assert_allclose(y, [[[[(1 + 9 + 4) / 6, 0.0]]]])

"""Convolution by tiles: what it computes, when it is taken, and where it is not for use."""

from itertools import product
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from caffe_merge.arrays import Shape
from caffe_merge.layers import shapes
from caffe_merge.layers.shapes.geometry import Window, convolution_window
from caffe_merge.reference import convolution, winograd
from caffe_merge.validation.run import run
from tests.nets import load, prototxt, seeded
from tests.reference import test_convolution

LARGE = (2, 64, 23, 26)
QUICKER = [case for case in test_convolution.CASES if case.name.startswith("tiles")]


def window(kernel: Shape, pad: Shape, pad_end: Shape, **more: Shape) -> Window:
    """A window of stride 1, unless ``more`` says something else."""
    ones = (1,) * len(kernel)
    fields = {"kernel": kernel, "pad": pad, "pad_end": pad_end, "stride": ones, "dilation": ones}
    return Window(**{**fields, **more})


def arrays(x: Shape, weights: Shape) -> Tuple[np.ndarray, np.ndarray]:
    """Seeded values."""
    rng = np.random.default_rng(len(x) + sum(weights))
    return rng.standard_normal(x), rng.standard_normal(weights)


def size_of(x: Shape, span: Window) -> Shape:
    """The places that a window of stride 1 has."""
    sides = zip(x[2:], span.pads, span.extent)
    return tuple(length + pads - extent + 1 for length, pads, extent in sides)


@pytest.mark.parametrize(("m", "k"), [*product([1, 2, 3, 4], [1, 2, 3, 5, 6])])
def test_the_matrices_are_those_of_a_convolution(m: int, k: int) -> None:
    of_outputs, of_weights, of_input = winograd._of_axis(m, k)
    taps, x = arrays((1, m + k - 1), (1, k))[::-1]
    y = of_outputs @ ((of_weights @ taps[0]) * (of_input @ x[0]))
    np.testing.assert_allclose(y, np.correlate(x[0], taps[0]), rtol=0, atol=1e-12)


def test_the_matrices_are_the_published_ones() -> None:
    """F(2, 3) of the paper, at the points 0, 1, -1 and infinity, but for signs."""
    _, of_weights, of_input = winograd._of_axis(2, 3)
    np.testing.assert_array_equal(
        np.abs(of_input), [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    )
    np.testing.assert_array_equal(
        np.abs(of_weights), [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]]
    )


@pytest.mark.parametrize("outputs", [2, 3, 4])
@pytest.mark.parametrize("block", [winograd._BLOCK, 900], ids=["one block", "many blocks"])
@pytest.mark.parametrize(
    ("x", "weights", "pads"),
    [
        ((2, 3, 7), (5, 3, 3), ((1,), (1,))),
        ((2, 3, 7, 10), (5, 3, 3, 3), ((1, 1), (1, 1))),
        ((2, 3, 9, 6), (5, 3, 1, 5), ((0, 2), (0, 3))),
        ((2, 3, 8, 6), (5, 3, 2, 4), ((4, 0), (0, 1))),
        ((2, 6, 8, 5), (4, 3, 3, 2), ((1, 0), (2, 0))),
        ((2, 6, 4, 6, 5), (9, 2, 2, 3, 1), ((1, 1, 0), (0, 1, 0))),
        ((1, 2, 3, 3), (4, 2, 3, 3), ((0, 0), (0, 0))),
    ],
)
def test_tiles_are_the_convolution(
    x: Shape,
    weights: Shape,
    pads: Tuple[Shape, Shape],
    block: int,
    outputs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(winograd, "_BLOCK", block)
    span = window(weights[2:], *pads)
    size, values = size_of(x, span), arrays(x, weights)
    tile = tuple(outputs if k > 1 else 1 for k in weights[2:])
    expected = convolution.convolve(*values, span, size)
    actual = winograd._by_tiles(*values, span, size, tile)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("case", QUICKER, ids=lambda case: case.name)
def test_cases_for_real_caffe_are_such_that_tiles_are_taken(case: Any) -> None:
    layer, (x,) = case.layer(), case.bottoms
    param = layer.param.convolution_param
    weights = (param.num_output, x[param.axis] // param.group)
    span = convolution_window(layer, len(x) - param.axis - 1)
    (top,) = shapes.tops(layer, case.bottoms)
    flat = (int(np.prod(x[: param.axis])), *x[param.axis :])
    assert winograd._tile(flat, weights + span.kernel, span, top[param.axis + 1 :])


@pytest.mark.parametrize(
    ("x", "weights", "more"),
    [
        (LARGE, (72, 64, 3, 3), {"stride": (1, 2)}),
        (LARGE, (72, 64, 3, 3), {"dilation": (2, 2)}),
        (LARGE, (72, 64, 1, 1), {}),
        (LARGE, (64, 1, 3, 3), {}),
        ((2, 64, 3, 3), (72, 64, 3, 3), {}),
        ((2, 3, 23, 26), (4, 3, 3, 3), {}),
        (LARGE, (72, 64, 15, 1), {}),
    ],
    ids=["stride", "dilation", "one tap", "depthwise", "few places", "few channels", "long"],
)
def test_tiles_are_not_taken(x: Shape, weights: Shape, more: Any) -> None:
    kernel = weights[2:]
    span = window(kernel, (0, 0), (0, 0), **more)
    assert winograd._tile(x, weights, span, size_of(x, span)) is None


@pytest.mark.parametrize(
    ("of_input", "of_weights"),
    [
        (np.nan, 1.0), (np.inf, 1.0), (-1e5, 1.0), (1e200, 1.0), (1.0, np.nan), (1.0, -np.inf)
    ],
)  # fmt: skip
def test_values_for_which_tiles_are_not_taken(of_input: float, of_weights: float) -> None:
    """One of them would be in all sums of its tile."""
    x, weights = arrays(LARGE, (72, 64, 3, 3))
    x[0, 5, 8, 9], weights[7, 6, 1, 2] = of_input, of_weights
    span = window((3, 3), (1, 1), (1, 1))
    size = size_of(x.shape, span)
    assert winograd._tile(x.shape, weights.shape, span, size)
    with np.errstate(all="ignore"):
        actual = winograd.convolve(x, weights, span, size)
        expected = convolution.convolve(x, weights, span, size)
    np.testing.assert_array_equal(actual, expected)


def test_nothing_to_read_is_no_tile() -> None:
    x, weights = arrays((0, 64, 23, 26), (72, 64, 3, 3))
    span = window((3, 3), (1, 1), (1, 1))
    assert winograd.convolve(x, weights, span, (23, 26)).shape == (0, 72, 23, 26)


CONVOLUTION = (
    "c: Convolution data -> c { convolution_param { num_output: 72 kernel_size: 3 pad: 1 } }"
)
HALVED = "{ pooling_param { kernel_size: 2 stride: 2 } }"


@pytest.mark.parametrize(
    ("after", "may_differ"),
    [
        (f"p: Pooling c -> p mask {HALVED}", False),
        ("p: ArgMax c -> p", False),
        ("p: Threshold c -> p", False),
        (f"p: Pooling c -> p {HALVED}", True),
        ("p: ReLU c -> p", True),
    ],
)
def test_where_it_matters_which_is_larger_equal_windows_stay_equal(
    after: str, may_differ: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: List[Shape] = []
    by_tiles = winograd._by_tiles

    def recorded(x: np.ndarray, *more: Any) -> np.ndarray:
        taken.append(x.shape)
        return by_tiles(x, *more)

    monkeypatch.setattr(winograd, "_by_tiles", recorded)
    text = prototxt("data 2 64 23 26", CONVOLUTION, after)
    net = load(tmp_path, text, seeded(text))
    blobs = {name: array for name, array, _ in run(net.layers, {"data": np.ones(LARGE)})}
    assert taken == ([LARGE] if may_differ else [])
    mask = blobs.get("mask")
    if mask is not None:  # of windows inside the picture the first place is the largest
        first = np.arange(23 * 26).reshape(23, 26)[2:20:2, 2:24:2]
        inside = mask[:, :, 1:10, 1:12]
        np.testing.assert_array_equal(inside, np.broadcast_to(first, inside.shape))

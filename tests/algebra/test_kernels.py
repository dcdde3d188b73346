"""Kernels added and chained, held against the sum that defines a kernel, term by term."""

from itertools import product
from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caffe_merge.algebra.kernels import (
    POINT,
    Axis,
    Kernel,
    added,
    axis_union,
    chained,
    diagonal,
    mean,
    tap_index,
    widened,
)
from caffe_merge.formats.weights.blobs import ALL
from caffe_merge.notes import Reason
from tests.seeds import examples

SIZES = range(1, 14)  # of an input along an axis

numbers = st.integers
axes = st.builds(Axis, numbers(-3, 0), numbers(1, 4), numbers(1, 3), numbers(1, 3), st.just(False))


def random_kernel(
    outputs: int, inputs: int, group: int, along: Sequence[Axis], bias: bool = True, seed: int = 0
) -> Kernel:
    """A kernel of noise."""
    random = np.random.default_rng([seed, outputs, inputs, group])
    values = random.standard_normal((outputs, inputs // group, *[axis.size for axis in along]))
    biases = random.standard_normal(outputs)
    kernel = Kernel(outputs, inputs, group, tuple(along), lambda rows: values[rows])
    return kernel._replace(bias=lambda: biases) if bias else kernel


def applied(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """What ``kernel`` makes of x (inputs, spatial), by its definition."""
    weights = kernel.weights(ALL)
    places = [axis.places(size) for axis, size in zip(kernel.axes, x.shape[1:])]
    y = np.zeros((kernel.outputs, *places))
    each = kernel.outputs // kernel.group
    depth = kernel.inputs // kernel.group
    for place in product(*map(range, places)):
        for tap in product(*map(range, kernel.taps)):
            at = [
                p * axis.stride + axis.start + t * axis.step
                for p, t, axis in zip(place, tap, kernel.axes)
            ]
            if any(not 0 <= where < size for where, size in zip(at, x.shape[1:])):
                continue
            for o in range(kernel.outputs):
                first = o // each * depth
                seen = x[(slice(first, first + depth), *at)]
                y[(o, *place)] += weights[(o, slice(None), *tap)] @ seen
    bias = np.zeros(kernel.outputs) if kernel.bias is None else kernel.bias()
    return y + bias.reshape(-1, *[1] * len(places))


def image(channels: int, *sizes: int) -> np.ndarray:
    """Noise of this shape."""
    return np.random.default_rng([channels, *sizes]).standard_normal((channels, *sizes))


def fits(axis: Axis, size: int) -> bool:
    """Whether a window lies in the padded input."""
    return size - axis.start - axis.last - 1 >= 0


def same(kernel: Any, x: np.ndarray, expected: np.ndarray) -> None:
    """Assert that ``kernel`` makes ``expected`` of x, and gives its rows alike however asked."""
    assert isinstance(kernel, Kernel), kernel
    np.testing.assert_allclose(applied(kernel, x), expected, rtol=1e-9, atol=1e-9)
    weights = kernel.weights(ALL)
    assert weights.shape == kernel.shape
    some = np.arange(kernel.outputs)[::2]
    np.testing.assert_allclose(kernel.weights(some), weights[some], rtol=1e-12)
    np.testing.assert_allclose(kernel.weights(slice(1, 3)), weights[1:3], rtol=1e-12)


# -- sums ----------------------------------------------------------------------------------


@examples(150)
@given(st.lists(axes, min_size=2, max_size=3))
def test_added_wherever_the_places_agree(along: List[Axis]) -> None:
    """For every size on which the branches agree, there is one kernel that is their sum."""
    along = [axis._replace(stride=along[0].stride) for axis in along]
    kernels = [
        random_kernel(2, 4, group, [axis], seed=group) for group, axis in zip((1, 2, 2), along)
    ]
    whole = added(kernels)
    for size in SIZES:
        places = {axis.places(size) for axis in along}
        if len(places) == 1 and min(places) > 0 and all(fits(axis, size) for axis in along):
            x = image(4, size)
            same(whole, x, np.sum([applied(kernel, x) for kernel in kernels], axis=0))


def test_added_in_two_axes() -> None:
    """ACNet's three kernels, and the blob itself."""
    three, flat = Axis(-1, 3), POINT
    ones = np.ones(4)
    kernels = [
        random_kernel(4, 4, 1, (three, three)),
        random_kernel(4, 4, 1, (flat, three), bias=False),
        random_kernel(4, 4, 4, (three, flat)),
        diagonal(ones, 0 * ones, 2),
    ]
    x = image(4, 5, 6)
    whole = added(kernels)
    same(whole, x, np.sum([applied(kernel, x) for kernel in kernels], axis=0))
    assert isinstance(whole, Kernel)
    assert whole.axes == (three, three)
    assert whole.group == 1


def test_added_without_bias_has_none() -> None:
    """No bias comes from nowhere."""
    whole = added(
        [random_kernel(4, 4, 2, [POINT], bias=False), random_kernel(4, 4, 4, [POINT], bias=False)]
    )
    assert isinstance(whole, Kernel)
    assert whole.bias is None
    assert whole.group == 2


STAY = {
    "strides": ([Axis(0, 1), Axis(0, 1, stride=2)], "differ in their strides, [1, 2]"),
    "mean": (
        [Axis(-1, 3, stride=2), Axis(0, 2, stride=2, ceil=True)],
        "the last window of a mean may stick out",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_axes_that_do_not_unite(name: str) -> None:
    """And the reason."""
    along, reason = STAY[name]
    result = axis_union(along)
    assert isinstance(result, Reason)
    assert reason in result


@examples(150)
@given(st.lists(axes, min_size=2, max_size=3), numbers(1, 3))
def test_united_places(along: List[Axis], stride: int) -> None:
    """The union of axes has their places, also where a window sticks out of the input."""
    along = [axis._replace(stride=stride) for axis in along]
    whole = axis_union(along)
    assert isinstance(whole, Axis)
    assert all(set(axis.taps) <= set(whole.taps) for axis in along)
    for size in SIZES:
        places = {axis.places(size) for axis in along}
        if len(places) == 1 and min(places) > 0:
            assert places == {whole.places(size)}


def test_a_mean_where_it_does_not_stick_out() -> None:
    """The two agree on even sizes only, and there no window of the mean does."""
    assert axis_union([Axis(0, 2, stride=2), Axis(0, 2, stride=2, ceil=True)]) == Axis(
        0, 2, stride=2
    )


def test_channels_differ() -> None:
    """Then nothing can be added."""
    assert "differ in their channels" in str(
        added([random_kernel(4, 4, 1, [POINT]), random_kernel(2, 4, 1, [POINT])])
    )


def test_placed() -> None:
    """The taps of a dilated axis among those of a dense one."""
    index = tap_index([Axis(-2, 3, step=2)], [Axis(-3, 6)])
    np.testing.assert_array_equal(np.arange(6)[index[2]], [1, 3, 5])


def test_widened_to_fewer_groups() -> None:
    """Zeros where a group did not look."""
    narrow = random_kernel(4, 8, 4, [POINT], bias=False)
    x = image(8, 3)
    for group in (1, 2, 4):
        wide = Kernel(4, 8, group, (POINT,), lambda rows, to=group: widened(narrow, to, rows))
        same(wide, x, applied(narrow, x))


# -- products ------------------------------------------------------------------------------


@examples(150)
@given(axes, axes, st.booleans(), st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (4, 2)]))
def test_chained(left: Axis, two: Axis, bias: bool, groups: Tuple[int, int]) -> None:
    """Two kernels in a row are one, on every input in which their windows lie."""
    first = random_kernel(4, 4, groups[0], [left], bias)
    second = random_kernel(4, 4, groups[1], [two], seed=1)
    whole = chained(first, second)
    assume(isinstance(whole, Kernel))
    for size in SIZES:
        if fits(left, size) and fits(two, left.places(size)):
            x = image(4, size)
            same(whole, x, applied(second, applied(first, x)))


def test_chained_in_two_axes() -> None:
    """3 x 1, then 1 x 3 with a stride, through another number of channels."""
    first = random_kernel(6, 4, 2, (Axis(-1, 3), POINT))
    second = random_kernel(2, 6, 1, (POINT, Axis(0, 3, stride=2)), bias=False)
    x = image(4, 5, 7)
    same(chained(first, second), x, applied(second, applied(first, x)))


def test_chained_products() -> None:
    """Kernels without spatial axes: matrices."""
    first, second = random_kernel(5, 7, 1, ()), random_kernel(3, 5, 1, ())
    x = image(7)
    same(chained(first, second), x, applied(second, applied(first, x)))


BORDERS = {
    "bias": (
        random_kernel(2, 2, 1, [POINT]),
        Axis(-1, 3),
        "the second pads what the first gave a bias",
    ),
    "window": (
        random_kernel(2, 2, 1, [Axis(-1, 3)], bias=False),
        Axis(-1, 3),
        "the second pads, and the first would reach into the input",
    ),
    "mean": (
        random_kernel(2, 2, 1, [Axis(0, 2, stride=2, ceil=True)], bias=False),
        POINT,
        "the last window of a mean may stick out",
    ),
    "mean_behind": (
        random_kernel(2, 2, 1, [Axis(0, 1, stride=2)], bias=False),
        Axis(0, 2, stride=2, ceil=True),
        "the last window of a mean may stick out",
    ),
}


@pytest.mark.parametrize("name", BORDERS)
def test_borders_that_keep_two_apart(name: str) -> None:
    """And the reason."""
    first, two, reason = BORDERS[name]
    result = chained(first, random_kernel(2, 2, 1, [two]))
    assert isinstance(result, Reason)
    assert reason in result


@pytest.mark.parametrize("name", ["bias", "window"])
def test_those_borders_differ_indeed(name: str) -> None:
    """The one kernel that would do inside gives something else at the border."""
    first, two, _ = BORDERS[name]
    second = random_kernel(2, 2, 1, [two])
    inner = chained(first, second._replace(axes=(two._replace(start=0),)))
    assert isinstance(inner, Kernel)
    start = first.axes[0].start + two.start
    whole = inner._replace(axes=(inner.axes[0]._replace(start=start),))
    x = image(2, 9)
    expected, actual = applied(second, applied(first, x)), applied(whole, x)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual[:, 2:-2], expected[:, 2:-2])
    assert not np.allclose(actual, expected)


# -- the rest ------------------------------------------------------------------------------


def test_mean_and_times() -> None:
    """Every tap counts alike; a factor reaches weights and bias."""
    x = image(2, 4, 6)
    halves = mean(2, (Axis(0, 2, stride=2), Axis(0, 3, stride=3)))
    expected = x.reshape(2, 2, 2, 2, 3).mean(axis=(2, 4))
    same(halves, x, expected)
    first = random_kernel(2, 2, 1, [POINT, POINT])
    same(first.scaled(-3), x, -3 * applied(first, x))
    assert first.scaled(1) is first


def test_diagonal() -> None:
    """A multiplier and a shift per channel; without a shift there is no bias."""
    scale, shift = np.array([2.0, -1.0]), np.array([0.5, 0.0])
    x = image(2, 3)
    same(diagonal(scale, shift, 1), x, scale[:, np.newaxis] * x + shift[:, np.newaxis])
    assert diagonal(scale, 0 * shift, 1).bias is None


@pytest.mark.parametrize("start", [0, -1, -2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_places_are_those_of_caffe(start: int, stride: int) -> None:
    """conv_layer.cpp rounds down, pooling_layer.cpp up and drops a window beyond the border."""
    for size in range(3, 12):
        room = size - 2 * start - 3
        down = Axis(start, 3, stride=stride)
        assert down.places(size) == room // stride + 1
        up = down._replace(ceil=True)
        windows = [n for n in range(20) if n == 0 or (n - 1) * stride < room]
        beyond = [n for n in windows if start and n * stride >= size - start]
        assert up.places(size) == len(windows) - len(beyond)
        assert up.fits(size) == (room % stride == 0)


def test_absurd_strides() -> None:
    """What is looked into size by size is refused at once where there are too many."""
    for result in (
        axis_union([Axis(0, 3, 1, 4_000_000_000, True), Axis(0, 2, 1, 4_000_000_000)]),
        chained(
            Kernel(1, 1, 1, (Axis(0, 1),), lambda rows: np.ones((1, 1, 1))[rows]),
            Kernel(1, 1, 1, (Axis(0, 3, 1, 4_000_000_000, True),), lambda rows: np.ones((1, 1, 3))),
        ),
    ):
        assert isinstance(result, Reason)
        assert "is more than is looked into" in result


def test_absurd_kernels() -> None:
    """Each pair of their taps would be a product of matrices."""
    large = Kernel(1, 1, 1, (Axis(0, 300),), lambda rows: np.ones((1, 1, 300))[rows])
    result = chained(large, large)
    assert isinstance(result, Reason)
    assert "90000 pairs of taps" in result

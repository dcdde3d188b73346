"""Linear maps added and chained, held against what defines a deconvolution, term by term."""

from itertools import product
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caffe_merge.algebra.kernels import POINT, Axis, Kernel
from caffe_merge.algebra.maps import LinearMap, Transposed, added, as_transposed, chained
from caffe_merge.notes import Reason
from tests.algebra.test_kernels import applied, axes, image, random_kernel
from tests.seeds import examples

GROUPS = [(1, 1), (2, 2), (1, 2), (2, 1), (4, 2)]


def spread(
    outputs: int, inputs: int, group: int, along: Sequence[Axis], bias: bool = True, seed: int = 0
) -> Transposed:
    """A deconvolution of noise."""
    biases = np.random.default_rng([seed, outputs]).standard_normal(outputs)
    of = random_kernel(inputs, outputs, group, along, bias=False, seed=seed)
    return Transposed(of, (lambda: biases) if bias else None)


def sizes_of(linear: LinearMap, sizes: Sequence[int]) -> Optional[Tuple[int, ...]]:
    """How many places it gives out; None if it has none."""
    if isinstance(linear, Kernel):
        out = [axis.places(size) for axis, size in zip(linear.axes, sizes)]
    else:  # deconv_layer.cpp: stride (n - 1) + extent - 2 pad
        out = [a.stride * (n - 1) + a.last + a.start + 1 for a, n in zip(linear.axes, sizes)]
    return tuple(out) if min(out) > 0 else None


def ran(linear: LinearMap, x: np.ndarray) -> np.ndarray:
    """What ``linear`` makes of x (inputs, spatial), by its definition."""
    if isinstance(linear, Kernel):
        return applied(linear, x)
    sizes = sizes_of(linear, x.shape[1:])
    assert sizes is not None
    weights = linear.of.weights(slice(None))
    y = np.zeros((linear.outputs, *sizes))
    each, depth = linear.inputs // linear.of.group, linear.outputs // linear.of.group
    for place in product(*map(range, x.shape[1:])):
        for tap in product(*map(range, linear.of.taps)):
            at = [p * a.stride + a.start + t * a.step for p, t, a in zip(place, tap, linear.axes)]
            if any(not 0 <= where < size for where, size in zip(at, sizes)):
                continue
            for i in range(linear.inputs):
                first = i // each * depth
                taps = weights[(i, slice(None), *tap)]
                y[(slice(first, first + depth), *at)] += taps * x[(i, *place)]
    bias = np.zeros(linear.outputs) if linear.bias is None else linear.bias()
    return y + bias.reshape(-1, *[1] * len(sizes))


def same(linear: Any, x: np.ndarray, expected: np.ndarray) -> None:
    """Assert that ``linear`` makes ``expected`` of x, and gives its rows alike however asked."""
    assert isinstance(linear, Transposed), linear
    np.testing.assert_allclose(ran(linear, x), expected, rtol=1e-9, atol=1e-9)
    of = linear.of
    weights = of.weights(slice(None))
    assert weights.shape == of.shape
    np.testing.assert_allclose(of.weights(np.arange(of.outputs)[::2]), weights[::2], rtol=1e-12)


@examples(100)
@given(st.lists(axes, min_size=2, max_size=3))
def test_added(along: Sequence[Axis]) -> None:
    """Where the outputs have one size the sum is one map, on every input."""
    stride, middle = along[0].stride, along[0].start + along[0].last
    along = [axis._replace(stride=stride) for axis in along]
    assume(all(axis.start + axis.last == middle for axis in along))
    maps = [spread(4, 2, group, [axis], seed=group) for group, axis in zip((1, 2, 2), along)]
    whole = added(maps)
    for size in range(1, 5):
        if sizes_of(maps[0], [size]):
            x = image(2, size)
            same(whole, x, np.sum([ran(linear, x) for linear in maps], axis=0))


def test_added_to_a_point() -> None:
    """A 1x1 convolution beside a deconvolution of stride 1, in two axes."""
    maps = [spread(4, 6, 2, (Axis(-1, 3), POINT)), random_kernel(4, 6, 1, (POINT, POINT))]
    x = image(6, 3, 4)
    whole = added(maps)
    same(whole, x, ran(maps[0], x) + ran(maps[1], x))
    assert isinstance(whole, Transposed)
    assert whole.axes == (Axis(-1, 3), POINT)


@examples(150)
@given(axes, axes, st.booleans(), st.sampled_from(GROUPS), st.sampled_from(["both", "1st", "2nd"]))
def test_chained(left: Axis, two: Axis, bias: bool, groups: Tuple[int, int], which: str) -> None:
    """Two maps in a row are one, on every input; a point may be either."""
    first: LinearMap = spread(4, 2, groups[0] % 3 or 1, [left], bias)
    second: LinearMap = spread(6, 4, groups[1], [two], seed=1)
    if which == "1st":
        first = random_kernel(4, 4, groups[0], [POINT], bias)
    if which == "2nd":
        second = random_kernel(4, 4, groups[1], [POINT], seed=1)
    whole = chained(first, second)
    assume(not isinstance(whole, Reason))
    for size in range(1, 5):
        between = sizes_of(first, [size])
        if between and sizes_of(second, between):
            x = image(first.inputs, size)
            same(whole, x, ran(second, ran(first, x)))


def test_a_bias_where_all_taps_sum_alike() -> None:
    """Nearest-neighbour upsampling: each output place has one tap, and all weigh alike."""
    first = random_kernel(4, 2, 1, [POINT, POINT])
    axis = Axis(-1, 2, stride=2)
    of = Kernel(4, 4, 4, (axis, axis), lambda rows: np.full((4, 1, 2, 2), 0.5)[rows])
    x = image(2, 3, 4)
    same(chained(first, Transposed(of)), x, ran(Transposed(of), applied(first, x)))


APART = {
    "bias": (
        random_kernel(4, 2, 1, [POINT]), spread(3, 4, 1, [Axis(-1, 4, stride=2)]),
        "not all places of the second see as many of the first",
    ),
    "bias_of_taps": (
        random_kernel(4, 2, 1, [POINT]), spread(3, 4, 1, [Axis(0, 2, stride=2)]),
        "differ from place to place",
    ),
    "cut": (
        spread(4, 2, 1, [Axis(-1, 3, stride=2)]), spread(3, 4, 1, [Axis(0, 3)]),
        "the first cuts off places that the second would spread back",
    ),
    "dilation": (
        spread(4, 2, 1, [Axis(0, 3)]), spread(3, 4, 1, [Axis(0, 1, stride=2)]),
        "together their taps lie apart",
    ),
    "window": (
        random_kernel(4, 2, 1, [Axis(0, 3)]), spread(3, 4, 1, [POINT]),
        "a convolution of more than 1x1",
    ),
    "stride": (
        spread(4, 2, 1, [POINT]),
        random_kernel(3, 4, 1, [Axis(0, 1, stride=2)]),
        "or with a stride",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_what_is_not_one(name: str) -> None:
    """And the reason."""
    first, second, reason = APART[name]
    result = chained(first, second)
    assert isinstance(result, Reason)
    assert reason in result


def test_what_is_not_added() -> None:
    """A convolution with a window; other strides; other channels."""
    wide = spread(4, 4, 1, [Axis(-1, 3)])
    assert "more than 1x1" in str(added([wide, random_kernel(4, 4, 1, [Axis(-1, 3)])]))
    assert "strides" in str(added([wide, spread(4, 4, 1, [Axis(-1, 3, stride=2)])]))
    assert "channels" in str(added([wide, spread(2, 4, 1, [Axis(-1, 3)])]))


def test_times() -> None:
    """A factor reaches weights and bias; a transpose is one already."""
    linear = spread(4, 2, 2, [Axis(-1, 4, stride=2)])
    x = image(2, 5)
    same(linear.scaled(-3), x, -3 * ran(linear, x))
    assert linear.scaled(1) is linear
    assert as_transposed(linear) is linear

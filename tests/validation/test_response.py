"""Responses to impulses, of one size and of others, and how far two of them differ."""

import numpy as np
import pytest

from caffe_merge.validation.impulses import SIZE
from caffe_merge.validation.response import Response, difference

LIMIT = 1e-5
BIASES = np.array([0.5, -2.0, 0.0])


def response(impulses: int = 20, wrong: float = 1.0) -> Response:
    """Of a linear layer of three channels; the weights of the second are ``wrong`` times theirs."""
    values = np.random.default_rng(0).standard_normal((impulses + 1, 3, 1, 1)) * SIZE
    values[-1] = 0
    values[:-1, 1] *= wrong
    return Response(("data", -1), (impulses, 1), values + BIASES[:, None, None])


def rectified(of: Response, top: float) -> Response:
    """Behind ``max(0, min(x, top))``, as two ReLUs make it."""
    of = of.with_scaled()
    assert of.scaled is not None
    return of._replace(values=of.values.clip(0, top), scaled=of.scaled.clip(0, top))


@pytest.mark.parametrize("depth", [20, 4608])
def test_impulses_have_other_sizes_of_either_sign_and_are_combined_where_they_are_few(
    depth: int,
) -> None:
    linear = response()._replace(taps=(depth, 1))
    scaled = linear.with_scaled().scaled
    assert scaled is not None
    assert (len(scaled) > 3900) == (depth == 20)
    starts = linear.size_starts()
    largest = np.abs(scaled[..., 0, 0] - BIASES).max(axis=1)
    medians = [np.median(of_size) for of_size in np.split(largest, starts[1:])]
    assert len(medians) == 16
    assert 2000 * medians[-1] < medians[0] < 3e6 * medians[-1]


def test_what_depends_on_few_values_in_each_of_many_groups_has_sums_too() -> None:
    grouped = response(9)._replace(taps=(9, 512)).with_scaled()
    assert grouped.scaled is not None
    assert len(grouped.fewer().values) == 10
    assert 450 < len(grouped.scaled) < 600


def test_all_rows_go_through_a_layer_at_once() -> None:
    for before in (response(), response().with_scaled()):
        behind = before.with_rows(2 * before.rows())
        np.testing.assert_array_equal(behind.values, 2 * before.values)
        assert (behind.scaled is None) == (before.scaled is None)
        if before.scaled is not None:
            np.testing.assert_array_equal(behind.scaled, 2 * before.scaled)


def test_a_linear_response_tells_of_weights_without_other_sizes() -> None:
    error = difference(response(), response(wrong=1.001))
    assert error is not None
    np.testing.assert_allclose(error[0], [0, 1e-3, 0], atol=1e-12)
    assert not error[1:].any()


@pytest.mark.parametrize("top", [1e6, 10.0, 0.1])
def test_what_is_let_through_only_near_0_is_told_by_impulses_that_are_small(top: float) -> None:
    error = difference(rectified(response(), top), rectified(response(wrong=1.001), top))
    assert error is not None
    assert error[:, [0, 2]].max() == 0
    assert error[2:, 1].max() > LIMIT
    assert (error[0, 1] > LIMIT) == (top > SIZE)


def test_a_response_that_is_linear_is_held_against_one_that_is_not() -> None:
    """A ReLU of what is never negative is gone."""
    error = difference(rectified(response(), 1e6), response())
    assert error is not None
    assert (error.max(axis=1) > LIMIT).all()
    same = difference(response().with_scaled(), response())
    assert same is not None
    assert same.max() == 0


@pytest.mark.parametrize("is_linear", [True, False])
def test_values_that_cancel_out_behind_a_relu_are_not_held_against_what_is_left(
    is_linear: bool,
) -> None:
    """A bias is 5e-4 of the largest, and wrong by what a sum of such values may be rounded by."""
    was = response()._replace(values=response().values / SIZE)
    was.values[:, 1] += 1000.0
    now = was._replace(values=was.values.copy())
    now.values[:, 0] += 2e-5 * BIASES[0]
    if not is_linear:
        was, now = was.with_scaled(), now.with_scaled()
    error = difference(was, now)
    assert error is not None
    assert (error.max() > LIMIT) == is_linear


def test_what_would_take_long_has_no_other_sizes() -> None:
    large = Response(("data", -1), (9, 1), np.ones((10, 3, 300, 300))).with_scaled()
    assert large.scaled is not None
    assert large.scaled.shape == (0, 3, 300, 300)
    error = difference(large, large)
    assert error is not None
    assert error.max() == 0


def test_channels_of_another_number_and_what_is_not_finite_tell_nothing() -> None:
    fewer = response()._replace(values=response().values[:, :2])
    assert difference(response(), fewer) is None
    wrong = response(wrong=np.inf)
    assert difference(wrong, response()) is None
    error = difference(response(), wrong)
    assert error is not None
    assert error[0, 1] == np.inf


def test_what_float64_leaves_of_values_that_do_not_change_is_not_judged() -> None:
    constant = np.ones((21, 3, 1, 1))
    rounded = constant.copy()
    rounded[:-1:2] += 2e-16
    error = difference(
        Response(("data", -1), (20, 1), rounded), Response(("data", -1), (20, 1), rounded[::-1])
    )
    assert error is not None
    assert error.max() < LIMIT

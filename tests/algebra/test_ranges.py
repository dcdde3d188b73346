"""Ranges and rounding to 8 bits, against the same sums written out."""

import math

import numpy as np
import pytest

from caffe_merge.algebra.ranges import decibels, spread, squared_errors


def test_spread_of_the_channels_that_are_alive() -> None:
    actual = spread(np.array([8.0, 0.0, 2.0, 4.0]))
    assert actual == (2.0, 4.0, 1.0, 2.0)


def test_no_channel_is_alive() -> None:
    assert spread(np.zeros(3)) == (None, None, None, None)
    assert spread(np.zeros(0)) == (None, None, None, None)


def test_what_is_a_subnormal_double_is_finite() -> None:
    actual = spread(np.array([3.4e38, 5e-324]))
    assert all(value is not None and math.isfinite(value) for value in actual)


def test_errors_are_those_of_the_nearest_step() -> None:
    values = np.array([[0.1, -0.26], [0.7, 100.0]], np.float32)
    errors = squared_errors(values, np.array([[0.25], [0.0]]))
    assert errors == pytest.approx(np.array([[0.1**2, 0.01**2], [0.7**2, 100.0**2]]), rel=1e-5)


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) is None
    assert decibels(0.0, 1.0) is None

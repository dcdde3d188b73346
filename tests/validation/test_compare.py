"""The comparison of two arrays."""

import math
from typing import Optional

import numpy as np
import pytest

from caffe_merge.validation.compare import NOT_FINITE, NOT_FINITE_BEFORE, compare

RANDOM = np.random.default_rng(0)
BLOB = RANDOM.standard_normal((2, 3, 4, 5)).astype(np.float32)


def test_errors_are_relative_to_the_old_blobs_largest_absolute_value() -> None:
    old, new = np.array([-4.0, 1, 0, 2]), np.array([-4.0, 1, 0.02, 2])
    result = compare("a", old, new, output=True)
    assert result.max_error == pytest.approx(0.005)
    assert result.rms_error == pytest.approx(0.0025)
    assert result.cosine == pytest.approx(
        np.dot(old, new) / np.linalg.norm(old) / np.linalg.norm(new)
    )
    assert (result.problem, result.remark, result.shape) == (None, None, (4,))
    np.testing.assert_array_equal(old, [-4, 1, 0, 2])  # untouched


def test_equal_blobs_have_no_error() -> None:
    result = compare("a", BLOB, BLOB.copy(), output=True)
    assert (result.max_error, result.rms_error) == (0, 0)
    assert result.cosine == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_very_large_blobs_are_measured_too(size: float) -> None:
    old = BLOB.astype(np.float64) * size
    result = compare("a", old, old + np.eye(4, 5) * old.max() * 1e-3, output=True)
    assert 1e-4 < result.max_error < 1e-2
    assert result.cosine == pytest.approx(1, abs=1e-5)


def test_float32_and_float64_of_one_blob_agree_to_rounding() -> None:
    exact = RANDOM.standard_normal((3, 4))
    assert 0 < compare("a", exact, exact.astype(np.float32)).max_error < 1e-7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails_on_either_side(bad: float) -> None:
    broken = BLOB.copy()
    broken[1, 2, 3, 4] = bad
    kinds = [(broken, BLOB), (BLOB, broken), (broken, broken)]
    problems = [compare("a", old, new).problem for old, new in kinds]
    assert [(problem, problem.kind) for problem in problems if problem is not None] == [
        ("it was not finite before the merge", NOT_FINITE_BEFORE),
        ("it is not finite after the merge", NOT_FINITE),
        ("it was not finite before the merge", NOT_FINITE_BEFORE),
    ]


def test_another_shape_fails_even_with_the_same_values() -> None:
    result = compare("a", BLOB, BLOB.reshape(2, 3, 5, 4))
    assert result.problem == "its shape was (2, 3, 4, 5) and is (2, 3, 5, 4)"
    assert math.isinf(result.max_error)


@pytest.mark.parametrize(
    ("array", "remark"),
    [
        (np.zeros((2, 3)), "all zero"),
        (np.full((2, 3), -7.0), "constant"),
        (np.full((2, 3), 7.0) + np.eye(2, 3) * 1e-6, "constant"),
        (np.full((2, 3), 7.0) + np.eye(2, 3) * 1e-4, None),
        (np.arange(3.0).reshape(1, 3, 1, 1) + np.zeros((2, 3, 4, 4)), "constant in every channel"),
        (np.arange(3.0).reshape(1, 3, 1, 1) + np.zeros((2, 3, 1, 1)), None),
        (np.array([[0, 1, 1e-9], [1 - 1e-9, 0, 0]]), "saturated at 0 and 1"),
        (np.array([[0, 1, 1e-3], [1, 0, 0]]), None),
        (np.array([[0, 2.0], [2, 0]]), None),
        (np.array([[0.3]]), None),
        (np.zeros((0, 3)), "empty"),
    ],
)
def test_what_proves_little_is_remarked(array: np.ndarray, remark: Optional[str]) -> None:
    result = compare("a", array, array.copy())
    assert (result.remark, result.max_error, result.problem) == (remark, 0, None)


def test_zero_before_and_not_after_fails() -> None:
    result = compare("a", np.zeros(3), np.array([0, 0, 1e-9]))
    assert result.problem == "it was all zero before the merge, and is not after"


def test_argmax_agreement_is_per_sample_and_position_for_outputs_only() -> None:
    old = np.array([[1.0, 2, 3], [3, 2, 1], [0, 1, 0], [5, 4, 4]])
    new = old.copy()
    new[3] = [4, 5, 4]
    assert compare("a", old, new, output=True).argmax_agreement == 0.75
    assert compare("a", old, new).argmax_agreement is None
    assert compare("a", old[:, :1], old[:, :1], output=True).argmax_agreement is None
    maps = RANDOM.standard_normal((1, 4, 2, 2))
    other = maps.copy()
    other[0, :, 0, 0] *= -1
    assert compare("a", maps, other, output=True).argmax_agreement == 0.75


def test_what_is_compared_piece_by_piece_is_found_wherever_it_is() -> None:
    old = np.linspace(-1, 1, 100_003)
    for place in (0, 32_767, 32_768, 100_002):
        new = old.copy()
        new[place] += 0.5
        assert compare("a", old, new).max_error == pytest.approx(0.5)
        new[place] = np.nan
        assert compare("a", old, new).problem == "it is not finite after the merge"

"""Products that do not depend on the order in which a BLAS adds them up."""

from fractions import Fraction

import numpy as np
import pytest

from caffe_merge.algebra import exact


@pytest.mark.parametrize("length", [1, 7, 300])
def test_any_order_gives_the_same_bits(length: int) -> None:
    """Terms of very different sizes, added in any order."""
    random = np.random.default_rng(length)
    left = random.standard_normal((5, length)) * 10.0 ** random.uniform(-6, 6, (5, length))
    right = random.standard_normal((length, 4)) * 10.0 ** random.uniform(-6, 6, (length, 4))
    once = exact.product(left, right)
    for _ in range(5):
        order = random.permutation(length)
        again = exact.product(np.ascontiguousarray(left[:, order]), right[order])
        np.testing.assert_array_equal(again, once)
    terms = np.abs(left).max(axis=1)[:, None] * np.abs(right).max(axis=0) * length
    for row in range(5):
        for column in range(4):
            pairs = zip(left[row], right[:, column])
            true = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in pairs)
            off = abs(Fraction(float(once[row, column])) - true)
            assert off <= Fraction(float(terms[row, column])) * Fraction(1, 2**45)


def test_parts_are_exact() -> None:
    """Each has at most 16 bits of the largest value of its row, and they add up."""
    random = np.random.default_rng(1)
    matrix = random.standard_normal((6, 50)).astype(np.float32).astype(np.float64)
    actual = exact.split(matrix, -1)
    np.testing.assert_array_equal(sum(actual), matrix)
    unit = 2.0 ** np.ceil(np.log2(np.abs(matrix).max(axis=1, keepdims=True)))
    for number, part in enumerate(actual, 1):
        counted = part / (unit * 2.0 ** (-exact.BITS * number))
        np.testing.assert_array_equal(counted, np.rint(counted))
        assert np.abs(counted).max() <= 2**exact.BITS


def test_longer_than_fits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, each exact."""
    random = np.random.default_rng(2)
    left, right = random.standard_normal((2, 3, 40)), random.standard_normal((2, 40, 5))
    once = exact.product(left, right)
    monkeypatch.setattr(exact, "LONGEST", 16)
    np.testing.assert_allclose(exact.product(left, right), once, rtol=1e-13)
    np.testing.assert_allclose(once, left @ right, rtol=1e-12)


def test_what_is_not_finite_stays_so() -> None:
    """It must not be lost: a proof looks for it."""
    with np.errstate(all="ignore"):
        result = exact.product(np.array([[np.inf, 1.0]]), np.ones((2, 2)))
    assert not np.isfinite(result).any()
    np.testing.assert_array_equal(
        exact.product(np.zeros((2, 3)), np.ones((3, 1))), np.zeros((2, 1))
    )


def test_the_smallest_and_largest_floats() -> None:
    """Subnormal weights and huge ones."""
    tiny, huge = float(np.float32(1e-45)), float(np.finfo(np.float32).max)
    np.testing.assert_array_equal(
        exact.product(np.array([[tiny]]), np.array([[tiny]])), tiny * tiny
    )
    np.testing.assert_array_equal(
        exact.product(np.array([[huge]]), np.array([[huge]])), huge * huge
    )

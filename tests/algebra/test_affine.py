"""The array functions of the folds, against plain loops over every value."""

from itertools import product
from typing import Tuple

import numpy as np
import pytest

from caffe_merge.algebra.affine import (
    Affine,
    batch_norm,
    convolution_multiplier,
    deconvolution_multiplier,
    folded_bias,
    inner_product_multiplier,
)


def vectors(seed: int, *sizes: int) -> "list[np.ndarray]":
    """Float64 noise, a vector for each of ``sizes``."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(size) for size in sizes]


@pytest.mark.parametrize("factor", [1.0, 0.37, 999.98, 2e8, -3.0, 1e-30])
@pytest.mark.parametrize("eps", [1e-9, 1e-5, 1e-3, 0.5])
def test_batch_norm(factor: float, eps: float) -> None:
    """It is (x - mean / factor) / sqrt(variance / factor + eps), channel by channel."""
    means = [0.0, -5.0, 1e4, 3e-8]
    variances = [1.0, 5.6e-45, 0.0, 1e6]
    actual = batch_norm(np.array(means) * factor, np.array(variances) * factor, factor, eps)
    assert actual.axis == 1
    for channel, (mean, variance) in enumerate(zip(means, variances)):
        for x in (-2.0, 0.0, 1e5):
            expected = (x - mean) / (variance + eps) ** 0.5
            y = actual.scale[channel] * x + actual.shift[channel]
            assert y == pytest.approx(expected, rel=1e-9, abs=1e-9 * abs(mean) / eps**0.5)


def test_batch_norm_of_factor_zero() -> None:
    """Mean and variance count as 0, whatever is stored: y = x / sqrt(eps)."""
    actual = batch_norm(np.array([3.0, 1e8]), np.array([7.0, 0.0]), 0.0, 0.25)
    np.testing.assert_array_equal(actual.scale, [2, 2])
    np.testing.assert_array_equal(actual.shift, [0, 0])


def test_convolution() -> None:
    """Every weight of output channel o is multiplied by scale[o]."""
    shape = (3, 2, 4, 5)
    (scale,) = vectors(1, 3)
    weights = vectors(2, 120)[0].reshape(shape)
    actual = weights * convolution_multiplier(scale, 4)
    for place in product(*map(range, shape)):
        assert actual[place] == weights[place] * scale[place[0]]


@pytest.mark.parametrize(
    ("shape", "group"),
    [((4, 3, 2, 5), 1), ((4, 3, 2, 5), 2), ((4, 3, 2), 4), ((6, 1, 3, 3), 6), ((6, 2, 2, 1, 3), 3)],
)
def test_deconvolution(shape: Tuple[int, ...], group: int) -> None:
    """W[i, j] makes output channel g * Cout/group + j, g being the group of input channel i."""
    (scale,) = vectors(3, shape[1] * group)
    weights = vectors(4, int(np.prod(shape)))[0].reshape(shape)
    actual = weights * deconvolution_multiplier(scale, shape, group)
    for place in product(*map(range, shape)):
        of_group = place[0] // (shape[0] // group)
        assert actual[place] == weights[place] * scale[of_group * shape[1] + place[1]]


@pytest.mark.parametrize("transpose", [False, True])
def test_inner_product(transpose: bool) -> None:
    """Scale after y = W x + b is the same as the layer of the new weights and bias."""
    scale, shift, bias, x = vectors(5, 3, 3, 3, 4)
    weights = vectors(6, 12)[0].reshape((4, 3) if transpose else (3, 4))
    new = weights * inner_product_multiplier(scale, transpose)
    bias_ = folded_bias(bias, Affine(scale, shift, 1))
    for n in range(3):
        old_row, new_row = (w[:, n] if transpose else w[n] for w in (weights, new))
        y = sum(w * v for w, v in zip(old_row, x)) + bias[n]
        folded = sum(w * v for w, v in zip(new_row, x)) + bias_[n]
        assert folded == pytest.approx(scale[n] * y + shift[n], rel=1e-12)


def test_bias() -> None:
    """No bias is a bias of 0; neither input is written to."""
    scale, shift, bias = vectors(7, 5, 5, 5)
    copies = scale.copy(), shift.copy(), bias.copy()
    np.testing.assert_array_equal(folded_bias(None, Affine(scale, shift, 1)), shift)
    actual = folded_bias(bias, Affine(scale, shift, 1))
    assert list(actual) == [s * b + t for s, b, t in zip(scale, bias, shift)]
    fresh = folded_bias(None, Affine(scale, shift, 1))
    fresh[:] = 0
    for array, copy in zip((scale, shift, bias), copies):
        np.testing.assert_array_equal(array, copy)


def test_then() -> None:
    """One map after another, vectors and scalars in any order."""
    a, b, c, d = vectors(8, 4, 4, 4, 4)
    vector, other = Affine(a, b, 1), Affine(c, d, 1)
    scalar, second = Affine(np.array(3.0), np.array(-1.0)), Affine(np.array(0.5), np.array(2.0))
    for item, two in product((vector, other, scalar, second), repeat=2):
        both = item.then(two)
        assert both.axis == (1 if 1 in (item.axis, two.axis) else None)
        assert both.channels == (4 if both.axis else None)
        for channel in range(4):
            s1, t1, s2, t2, s, t = (
                np.broadcast_to(v, 4)[channel]
                for v in (item.scale, item.shift, two.scale, two.shift, both.scale, both.shift)
            )
            x = 1.7
            assert s * x + t == pytest.approx(s2 * (s1 * x + t1) + t2, rel=1e-12)


def test_over() -> None:
    """A scalar map is the same for every channel; a vector stays what it is."""
    spread = Affine(np.array(2.0), np.array(-1.0)).over(3, 2)
    assert (list(spread.scale), list(spread.shift), spread.axis) == ([2, 2, 2], [-1, -1, -1], 2)
    scale, shift = vectors(9, 3, 3)
    same = Affine(scale, shift, 1).over(3, 1)
    np.testing.assert_array_equal(same.scale, scale)
    np.testing.assert_array_equal(same.shift, shift)
    with pytest.raises(ValueError, match="broadcast"):
        Affine(scale, shift, 1).over(4, 1)

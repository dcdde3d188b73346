"""The scales of cross-layer equalisation, against what the paper's formulas give."""

import numpy as np
import pytest

from caffe_merge.algebra.equalize import Tensor, equalized
from caffe_merge.arrays import Float64, Indices

RANDOM = np.random.default_rng(3)
FIXED = np.zeros((1, 1), np.intp)


def numbers(first: int, channels: int) -> Indices:
    return np.arange(first, first + channels)[np.newaxis]


def tensor(ranges: Float64, outputs: Indices) -> Tensor:
    """A layer that makes channels of these ranges, of inputs that stay."""
    return Tensor(ranges.reshape(1, -1, 1), outputs, FIXED)


def read(ranges: Float64, inputs: Indices) -> Tensor:
    return Tensor(ranges.reshape(1, 1, -1), FIXED, inputs)


def test_two_layers() -> None:
    """Both have the range sqrt(r1 r2), as parts of their largest."""
    first, second = RANDOM.uniform(0.01, 1, 5), RANDOM.uniform(1, 50, 5)
    of = numbers(1, 5)
    scales = equalized([tensor(first, of), read(second, of)], np.array([0, 1, 1, 1, 1, 1]))[1:]
    new_first, new_second = first / scales, second * scales
    assert new_first / new_first.max() == pytest.approx(new_second / new_second.max(), rel=0.02)
    product = first * second
    assert new_first * new_second == pytest.approx(product)
    assert (new_first / new_first.max()) ** 2 == pytest.approx(product / product.max(), rel=0.05)


def test_a_depthwise_layer_between_two() -> None:
    """All three have the cube root of the product (Nagel et al. 2019, appendix A)."""
    first, second, third = (RANDOM.uniform(0.02, 1, 4) for _ in range(3))
    before, behind = numbers(1, 4), numbers(5, 4)
    depthwise = Tensor(second.reshape(4, 1, 1), behind.reshape(4, 1), before.reshape(4, 1))
    tensors = [tensor(first, before), depthwise, read(third, behind)]
    scales = equalized(tensors, np.array([0, *[1] * 4, *[2] * 4]))
    expected = np.cbrt(first * second * third)
    expected /= expected.max()
    for new in (first / scales[1:5], second * scales[1:5] / scales[5:], third * scales[5:]):
        assert new / new.max() == pytest.approx(expected, rel=0.1)


def test_of_layers_that_make_a_sum_the_largest_counts() -> None:
    of = numbers(1, 2)
    tensors = [tensor(np.array([1, 0.25]), of), tensor(np.array([0.01, 0.5]), of),
               read(np.array([1, 0.005]), of)]  # fmt: skip
    scales = equalized(tensors, np.array([0, 1, 1]))
    assert scales[1:] == pytest.approx([1, 10], rel=0.03)


def test_of_layers_that_read_the_largest_part_counts() -> None:
    of = numbers(1, 2)
    tensors = [tensor(np.array([1, 1]), of), read(np.array([50, 0.5]), of),
               read(np.array([1, 0.04]), of)]  # fmt: skip
    scales = equalized(tensors, np.array([0, 1, 1]))
    assert scales[1:] == pytest.approx([1, 5], rel=0.03)


def test_what_stays() -> None:
    """A scale without a component, a range of 0, and one that is faint beside the largest."""
    of = numbers(1, 5)
    first = np.array([1, 0.5, 0, 0.5, 1e-6])
    second = np.array([1, 0.01, 0.1, 0, 1])
    scales = equalized([tensor(first, of), read(second, of)], np.array([0, 1, 0, 1, 1, 1]))
    assert scales.tolist() == [1, 1, 1, 1, 1, 1]


def test_it_ends_where_it_is() -> None:
    """What is equalised is not moved again."""
    first, second = (np.exp(RANDOM.standard_normal(shape)) for shape in ((7, 3), (5, 7)))
    of, component_of = numbers(1, 7), np.array([0, *[1] * 7])
    tensors = [Tensor(first[np.newaxis], of, np.zeros((1, 3), np.intp)),
               Tensor(second[np.newaxis], np.zeros((1, 5), np.intp), of)]  # fmt: skip
    scales = equalized(tensors, component_of)
    assert np.abs(np.log2(scales)).max() > 0.5
    again = [tensors[0]._replace(ranges=first[np.newaxis] / scales[1:, np.newaxis]),
             tensors[1]._replace(ranges=second[np.newaxis] * scales[1:])]  # fmt: skip
    assert equalized(again, component_of) == pytest.approx(np.ones(8), abs=0.02)

"""Matrix products that are the same to the last bit on every machine.

BLAS adds up in an order of its own, another one on each processor, and now and then that moves a
weight to the next float32. Here each operand is cut into parts of a few bits, all multiples of one
power of two per row (or column): sums of their products fit float64 exactly, so no order matters.
The parts are added in a fixed one. (Ozaki, Ogita, Oishi, Rump: Error-free transformations of matrix
multiplication, 2012.)
"""

from typing import List, Sequence

import numpy as np

from caffe_merge.arrays import Float64

BITS = 16
PARTS = 3  # 48 bits of the largest value of a row: float32 has 24
LONGEST = 1 << (52 - 2 * BITS)  # sums of more terms might not fit


def parts(matrix: Float64, axis: int) -> List[Float64]:
    """``matrix`` as a sum of matrices of BITS bits along ``axis``, the one that is added over."""
    _, exponent = np.frexp(np.max(np.abs(matrix), axis=axis, keepdims=True, initial=0.0))
    found = []
    left = matrix
    for number in range(1, PARTS + 1):
        unit = np.ldexp(1.0, exponent - BITS * number)
        part = np.rint(left / unit) * unit
        left = left - part
        found.append(part)
    return found


def times(left: Sequence[Float64], right: Sequence[Float64]) -> Float64:
    """The product of two matrices (or stacks of them) in ``parts``, to 2 ** -48 of its terms."""
    length = left[0].shape[-1]
    total: Float64 = np.zeros((*left[0].shape[:-1], right[0].shape[-1]))
    for start in range(0, length, LONGEST):
        span = slice(start, start + LONGEST)
        for order in reversed(range(PARTS)):  # the small ones first
            for number in range(order + 1):
                one, two = left[number], right[order - number]
                total = total + np.matmul(one[..., span], two[..., span, :])
    return total


def row_products(left: Float64, right: Float64) -> Float64:
    """For each row of ``left`` (n, ...) the sum of its products with that of ``right`` (n, ...)."""
    shape = (len(left), -1)
    lefts, rights = left.reshape(shape)[:, np.newaxis], right.reshape(shape)[..., np.newaxis]
    return product(lefts, rights)[:, 0, 0]


def product(left: Float64, right: Float64) -> Float64:
    """``left @ right``."""
    return times(parts(left, -1), parts(right, -2))

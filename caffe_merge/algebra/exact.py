"""Matrix products that are the same to the last bit on every machine.

BLAS adds in an order that depends on the processor, and now and then that moves a weight to the
next float32. Here each operand is split into parts of a few bits, all multiples of one power of two
per row (or column): sums of their products fit float64 exactly, in whatever order. The parts
themselves are added in a fixed order. (Ozaki, Ogita, Oishi, Rump: Error-free transformations of
matrix multiplication, 2012.)
"""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from caffe_merge.arrays import Float64

BITS = 16
PARTS = 3  # 48 bits of the largest value of a row: float32 has 24
LONGEST = 1 << (52 - 2 * BITS)  # sums of more terms might not fit


def split(matrix: Float64, axis: int) -> List[Float64]:
    """``matrix`` as a sum of PARTS matrices of BITS bits; ``axis`` is the one summed over."""
    _, exponent = np.frexp(np.max(np.abs(matrix), axis=axis, keepdims=True, initial=0.0))
    summands = []
    remainder = matrix
    for number in range(1, PARTS + 1):
        unit = np.ldexp(1.0, exponent - BITS * number)
        part = np.rint(remainder / unit) * unit
        remainder = remainder - part
        summands.append(part)
    return summands


def multiplied(left: Sequence[Float64], right: Sequence[Float64]) -> Float64:
    """The product of two matrices (or stacks of them) in parts, to 2 ** -48 of its terms."""
    length = left[0].shape[-1]
    total: Float64 = np.zeros((*left[0].shape[:-1], right[0].shape[-1]))
    for start in range(0, length, LONGEST):
        span = slice(start, start + LONGEST)
        for order in reversed(range(PARTS)):  # the small ones first
            for number in range(order + 1):
                left_part, right_part = left[number], right[order - number]
                total = total + np.matmul(left_part[..., span], right_part[..., span, :])
    return total


def row_products(left: Float64, right: Float64) -> Float64:
    """For each row of ``left`` (n, ...) the sum of its products with that of ``right`` (n, ...)."""
    shape = (len(left), -1)
    lefts, rights = left.reshape(shape)[:, np.newaxis], right.reshape(shape)[..., np.newaxis]
    return product(lefts, rights)[:, 0, 0]


def product(left: Float64, right: Float64) -> Float64:
    """``left @ right``."""
    return multiplied(split(left, -1), split(right, -2))

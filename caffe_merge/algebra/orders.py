"""Orders of axes: axis n of what comes out is axis ``order[n]`` of what went in."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from caffe_merge.arrays import Indices, Shape, count


def composed(first: Sequence[int], second: Sequence[int]) -> Tuple[int, ...]:
    """The order that ``first`` and then ``second``, of as many axes, come to."""
    return tuple(first[axis] for axis in second)


def origins(shape: Shape, order: Sequence[int]) -> Indices:
    """For each value of an array that is put in ``order``, flat, its place in the old one, flat.

    ``shape`` is that of the old array.
    """
    return np.arange(count(shape)).reshape(shape).transpose(order).ravel()

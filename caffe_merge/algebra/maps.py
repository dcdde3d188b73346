"""Linear maps from blob to blob, added and chained: convolutions, and deconvolutions as transposes.

A deconvolution spreads each place of its input over a window of its output. It is the transpose of
the convolution that reads these windows, and a bias::

    y[o, q] = bias[o] + sum over i, p, t with p * stride + start + t * step = q
                        of weights[i, o, t] x[i, p]

    A^T + B^T = (A + B)^T            B^T A^T = (A B)^T

So all that kernels.py says of sums and compositions, borders included, holds the other way round. A
1x1 convolution of stride 1 is a transpose too, and may be part of either.
"""

from math import prod
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.algebra import kernels
from caffe_merge.algebra.exact import product
from caffe_merge.algebra.kernels import Axis, Bias, Kernel, bias_sum
from caffe_merge.arrays import Float64
from caffe_merge.formats.weights.blobs import ALL, Rows
from caffe_merge.notes import Reason


class Transposed(NamedTuple):
    """The transpose of the kernel ``of``, which has no bias itself, and a bias (outputs)."""

    of: Kernel
    bias: Optional[Bias] = None

    @property
    def outputs(self) -> int:
        """The channels that it gives out."""
        return self.of.inputs

    @property
    def inputs(self) -> int:
        """The channels that it reads."""
        return self.of.outputs

    @property
    def axes(self) -> Tuple[Axis, ...]:
        """The taps, as places of the output."""
        return self.of.axes

    @property
    def cost(self) -> int:
        """Multiply-adds for one place of its input: as many as it has weights."""
        return self.of.cost

    def scaled(self, factor: float) -> "Transposed":
        """The map multiplied by ``factor``."""
        if factor == 1:
            return self
        bias = self.bias
        return Transposed(self.of.scaled(factor), None if bias is None else lambda: factor * bias())


LinearMap = Union[Kernel, Transposed]


def added(maps: Sequence[LinearMap]) -> Union[LinearMap, Reason]:
    """The sum of maps of one input."""
    convolutions = [linear for linear in maps if isinstance(linear, Kernel)]
    if len(convolutions) == len(maps):
        return kernels.added(convolutions)
    transposes = [as_transposed(linear) for linear in maps]
    fitting = [linear for linear in transposes if isinstance(linear, Transposed)]
    if len(fitting) < len(maps):
        return _NOT_BOTH
    total = kernels.added([linear.of for linear in fitting])
    if isinstance(total, Reason):
        return total
    return Transposed(total, bias_sum([linear.bias for linear in maps]))


def chained(first: LinearMap, second: LinearMap) -> Union[LinearMap, Reason]:
    """``second`` after ``first``."""
    if isinstance(first, Kernel) and isinstance(second, Kernel):
        return kernels.chained(first, second)
    inner, outer = as_transposed(first), as_transposed(second)
    if not isinstance(inner, Transposed) or not isinstance(outer, Transposed):
        return _NOT_BOTH
    if any(a.start < 0 and b.size > 1 for a, b in zip(inner.axes, outer.axes)):
        return Reason("the first cuts off places that the second would spread back")
    both = kernels.chained(outer.of, inner.of)
    if isinstance(both, Kernel) and _dilates(both, (*inner.axes, *outer.axes)):
        return Reason("together their taps lie apart, and few readers know such a Deconvolution")
    handed_on = None if inner.bias is None else _of_constant(outer, inner.bias)
    for reason in (both, handed_on):
        if isinstance(reason, Reason):
            return reason
    assert isinstance(both, Kernel)
    assert not isinstance(handed_on, Reason)
    return Transposed(both, bias_sum([handed_on, outer.bias]))


def _dilates(kernel: Kernel, axes: Sequence[Axis]) -> bool:
    """Whether the taps of ``kernel`` lie further apart than those of any of ``axes``."""
    return max((axis.step for axis in kernel.axes), default=1) > max(
        (a.step for a in axes), default=1
    )


_NOT_BOTH = Reason("a convolution of more than 1x1, or with a stride, is no deconvolution")


def as_transposed(linear: LinearMap) -> Union[Transposed, Reason]:
    """The same map as a transpose: of a kernel of 1x1 only."""
    if isinstance(linear, Transposed):
        return linear
    if not all(axis.is_point for axis in linear.axes):
        return _NOT_BOTH
    shape = (linear.group, linear.outputs // linear.group, *linear.shape[1:])

    def weights(rows: Rows) -> Float64:
        by_group = linear.weights(ALL).reshape(shape).swapaxes(1, 2)
        return by_group.reshape(linear.inputs, *by_group.shape[2:])[rows]

    kernel = linear._replace(
        outputs=linear.inputs, inputs=linear.outputs, weights=weights, bias=None,
        depth=linear.depth + 1,
    )  # fmt: skip
    return Transposed(kernel, linear.bias)


def _of_constant(linear: Transposed, values: Bias) -> Union[Bias, Reason, None]:
    """What the map, its own bias apart, makes of ``values`` (inputs) at every place: a bias again.

    It is the same everywhere only where each output place has one tap, and all taps the same sum.
    """
    kernel = linear.of

    def sums() -> Float64:
        """(outputs, taps): the sum over i of weights[i, o, t] values[i]."""
        weights = kernel.weights(ALL).reshape(kernel.group, kernel.outputs // kernel.group, -1)
        rows = values().reshape(kernel.group, 1, -1)
        return product(rows, weights).reshape(kernel.inputs, prod(kernel.taps))

    if all(axis.is_point for axis in kernel.axes):
        return lambda: sums()[:, 0]
    if not values().any():
        return None
    if any((axis.size, axis.step) != (axis.stride, 1) for axis in kernel.axes):
        return Reason("not all places of the second see as many of the first, which has a bias")
    of_taps = sums()
    if (of_taps != of_taps[:, :1]).any():
        return Reason("the second makes values that differ from place to place of the first's bias")
    return lambda: np.asarray(of_taps[:, 0])

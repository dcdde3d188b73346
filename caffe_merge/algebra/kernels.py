"""Convolution kernels added and chained. Array mathematics; no graph, no files.

A Kernel is a convolution without a layer. Per spatial axis its taps lie at start, start + step, ...
of the input, relative to p * stride for the output place p (Caffe's pad is -start, its dilation is
step)::

    y[o, p] = bias[o] + sum over i, t of weights[o, i, t] x[i, p * stride + start + t * step]

Outside the input x is 0. Sums and compositions of such maps are such maps: kernels are added tap by
tap, where their taps lie in the input; composed kernels are convolved with each other. This may
fail at the border of the input: every function checks that first, and returns a Reason if so.
"""

from functools import reduce
from itertools import product
from math import gcd, prod
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.algebra.exact import multiplied, row_products, split
from caffe_merge.arrays import Float64, distinct
from caffe_merge.formats.weights.blobs import ALL, Rows
from caffe_merge.notes import BORDER, Reason

Weights = Callable[[Rows], Float64]
Bias = Callable[[], Float64]

MANY = 16  # from more groups on, all are multiplied at once: each is small
MAX_STRIDE = 1024  # larger ones are refused: checks take time in proportion
MAX_PAIRS = 1 << 16  # the most pairs of taps of two kernels: each is a matrix product
DEEP = 8  # a kernel of more nested kernels is computed at once and kept


class Axis(NamedTuple):
    """The taps along one spatial axis.

    ``ceil``: of Pooling, whose last window may stick out of the input; that one is no convolution.
    """

    start: int
    size: int
    step: int = 1
    stride: int = 1
    ceil: bool = False

    @property
    def last(self) -> int:
        """Where the last tap lies."""
        return self.start + self.step * (self.size - 1)

    @property
    def taps(self) -> range:
        """Where the taps lie."""
        return range(self.start, self.last + 1, self.step)

    @property
    def is_point(self) -> bool:
        """Whether it has one tap, at the output place itself: a kernel of 1x1."""
        return (self.start, self.size, self.stride) == (0, 1, 1)

    def places(self, size: int) -> int:
        """How many output places an input of ``size`` has (conv_layer.cpp, pooling_layer.cpp)."""
        room = size - 2 * self.start - (self.last - self.start + 1)
        if not self.ceil:
            return room // self.stride + 1
        places = -(-room // self.stride) + 1
        if self.start and (places - 1) * self.stride >= size - self.start:
            places -= 1
        return places

    def fits(self, size: int) -> bool:
        """Whether no window of an input of ``size`` sticks out."""
        return not self.ceil or (size - self.start - self.last - 1) % self.stride == 0


POINT = Axis(0, 1)


class Kernel(NamedTuple):
    """A linear map whose weights and bias are computed on demand.

    ``weights(rows)`` are (rows, inputs / group, taps per axis) in float64; ``bias()`` is (outputs).
    ``depth`` is how many levels of kernels it is computed from.
    """

    outputs: int
    inputs: int
    group: int
    axes: Tuple[Axis, ...]
    weights: Weights
    bias: Optional[Bias] = None
    depth: int = 0

    @property
    def taps(self) -> Tuple[int, ...]:
        """The number of taps per axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def shape(self) -> Tuple[int, ...]:
        """The shape of all weights."""
        return (self.outputs, self.inputs // self.group, *self.taps)

    @property
    def cost(self) -> int:
        """Multiply-adds for one output place: as many as it has weights."""
        return prod(self.shape)

    def scaled(self, factor: float) -> "Kernel":
        """The map multiplied by ``factor``."""
        if factor == 1:
            return self
        weights, bias = self.weights, self.bias
        return self._replace(
            weights=lambda rows: factor * weights(rows),
            bias=None if bias is None else lambda: factor * bias(),
        )


def diagonal(scale: Float64, shift: Float64, spatial: int) -> Kernel:
    """y[c] = scale[c] x[c] + shift[c]: a depthwise kernel of one tap."""
    count = len(scale)

    def weights(rows: Rows) -> Float64:
        return scale[rows].reshape(-1, *[1] * (spatial + 1))

    kernel = Kernel(count, count, count, (POINT,) * spatial, weights)
    return kernel._replace(bias=lambda: shift) if shift.any() else kernel


def mean(channels: int, axes: Tuple[Axis, ...]) -> Kernel:
    """The mean of each window: a depthwise kernel of equal weights."""
    weight = 1.0 / prod(axis.size for axis in axes)
    shape = (channels, 1, *[axis.size for axis in axes])

    def weights(rows: Rows) -> Float64:
        return np.broadcast_to(weight, shape)[rows]

    return Kernel(channels, channels, channels, axes, weights)


# -- sums ----------------------------------------------------------------------------------


def added(kernels: Sequence[Kernel]) -> Union[Kernel, Reason]:
    """The sum of maps of one input, on the union of their taps.

    Kernels with different groups are widened to the largest number of groups that fits all.
    """
    first = kernels[0]
    for other in kernels[1:]:
        if (other.outputs, other.inputs) != (first.outputs, first.inputs):
            return Reason("the branches differ in their channels")
    axes = [axis_union(along) for along in zip(*(kernel.axes for kernel in kernels))]
    refusals = [axis for axis in axes if isinstance(axis, Reason)]
    if refusals:
        return refusals[0]
    union = _of_one_step([axis for axis in axes if isinstance(axis, Axis)])
    group = reduce(gcd, [kernel.group for kernel in kernels])
    taps = tuple(axis.size for axis in union)
    shape = (first.outputs, first.inputs // group, *taps)

    def weights(rows: Rows) -> Float64:
        out = np.zeros(shape)[rows]
        for kernel in kernels:
            out[tap_index(kernel.axes, union)] += widened(kernel, group, rows)
        return out

    depth = 1 + max(kernel.depth for kernel in kernels)
    bias = bias_sum([kernel.bias for kernel in kernels])
    return Kernel(first.outputs, first.inputs, group, union, weights, bias, depth)


def _of_one_step(axes: Sequence[Axis]) -> Tuple[Axis, ...]:
    """``axes`` with the same taps, and zeros between some where their steps differ.

    Of dilations many readers of Caffe files know one number for all axes.
    """
    step = reduce(gcd, [axis.step for axis in axes if axis.size > 1], 0)
    return tuple(
        axis._replace(size=(axis.last - axis.start) // step + 1, step=step) if step else axis
        for axis in axes
    )


def axis_union(axes: Sequence[Axis]) -> Union[Axis, Reason]:
    """The axis with the taps of all ``axes``. Where they have as many output places, it has too.

    The number of places grows with -start - last, and the union's lies between those of ``axes``.
    """
    strides = {axis.stride for axis in axes}
    if len(strides) > 1:
        return Reason(f"the branches differ in their strides, {sorted(strides)}")
    start, last = min(axis.start for axis in axes), max(axis.last for axis in axes)
    gaps = [axis.start - start for axis in axes]
    gaps += [axis.step for axis in axes if axis.size > 1]
    step = reduce(gcd, gaps) or 1
    union = Axis(start, (last - start) // step + 1, step, strides.pop())
    if not any(axis.ceil for axis in axes):
        return union
    if union.stride > MAX_STRIDE:
        return Reason(f"a stride of {union.stride} is more than is looked into")
    # The differences between the places repeat with the stride.
    for size in range(last - start + 1, last - start + 1 + 2 * union.stride):
        if len({axis.places(size) for axis in axes}) > 1:
            continue
        if not all(axis.fits(size) for axis in axes):
            return Reason("the last window of a mean may stick out of the input, and counts less")
    return union


def tap_index(axes: Sequence[Axis], union: Sequence[Axis]) -> Tuple[slice, ...]:
    """The index of the taps of ``axes`` in weights that have the taps of ``union``."""
    index = [slice(None), slice(None)]
    for axis, into in zip(axes, union):
        begin = (axis.start - into.start) // into.step
        step = axis.step // into.step if axis.size > 1 else 1
        index.append(slice(begin, begin + (axis.size - 1) * step + 1, step))
    return tuple(index)


def widened(kernel: Kernel, group: int, rows: Rows) -> Float64:
    """Some rows of the weights of ``kernel``, with zeros for the inputs of a larger group."""
    narrow = kernel.weights(rows)
    if kernel.group == group:
        return narrow
    outputs = np.arange(kernel.outputs)[rows]
    depth = kernel.inputs // kernel.group
    # The first input of a row, counted from the first input of its new group.
    begin = outputs // (kernel.outputs // kernel.group) * depth % (kernel.inputs // group)
    wide = np.zeros((len(outputs), kernel.inputs // group, *kernel.taps))
    wide[np.arange(len(outputs))[:, np.newaxis], begin[:, np.newaxis] + np.arange(depth)] = narrow
    return wide


def bias_sum(biases: Sequence[Optional[Bias]]) -> Optional[Bias]:
    """The sum of the biases that are there; None if none is."""
    present = [bias for bias in biases if bias is not None]
    if not present:
        return None
    return lambda: np.sum([bias() for bias in present], axis=0)


# -- products ------------------------------------------------------------------------------


def chained(first: Kernel, second: Kernel) -> Union[Kernel, Reason]:
    """``second`` after ``first``: the taps of one for each tap of the other.

    W[o, i, t + s u] = sum over m of V[o, m, u] W[m, i, t], with s the stride of the first.
    """
    pairs = prod(first.taps) * prod(second.taps)
    if pairs > MAX_PAIRS:
        return Reason(
            f"together their kernels have {pairs} pairs of taps, more than are multiplied"
        )
    axes: List[Axis] = []
    for first_axis, second_axis in zip(first.axes, second.axes):
        axis = _chained_axis(first_axis, second_axis, first.bias is not None)
        if isinstance(axis, Reason):
            return axis
        axes.append(axis)
    taps = _of_one_step(axes)
    biased = first.bias is not None or second.bias is not None
    group = gcd(first.group, second.group)
    return Kernel(
        second.outputs,
        first.inputs,
        group,
        taps,
        _chained_weights(first, second, taps, group),
        _chained_bias(first, second) if biased else None,
        1 + max(first.depth, second.depth),
    )


def _chained_weights(first: Kernel, second: Kernel, axes: Sequence[Axis], group: int) -> Weights:
    """The weights of ``second`` after ``first``, on ``axes``, in groups that fit both."""
    shape = (second.outputs, first.inputs // group, *[axis.size for axis in axes])

    def weights(rows: Rows) -> Float64:
        inner = widened(first, group, ALL).reshape(group, -1, first.inputs // group, *first.taps)
        outer = widened(second, group, rows)
        group_of_row = np.arange(second.outputs)[rows] // (second.outputs // group)
        if group > MANY:
            out = np.zeros((len(outer), 1, *shape[1:]))
            _multiply(outer[:, np.newaxis], inner[group_of_row], first.axes, second.axes, axes, out)
            return out[:, 0]
        out = np.zeros((len(outer), *shape[1:]))
        for number in distinct(group_of_row):
            members = group_of_row == number
            part = np.zeros((1, np.count_nonzero(members), *shape[1:]))
            operands = outer[members][np.newaxis], inner[number : number + 1]
            _multiply(*operands, first.axes, second.axes, axes, part)
            out[members] = part[0]
        return out

    return weights


def _chained_bias(first: Kernel, second: Kernel) -> Bias:
    """b[o] = b2[o] + sum over m, u of V[o, m, u] b1[m]."""

    def bias() -> Float64:
        total = np.zeros(second.outputs) if second.bias is None else second.bias()
        if first.bias is None:
            return total
        values = np.repeat(first.bias(), prod(second.taps)).reshape(second.group, -1)
        values = np.repeat(values, second.outputs // second.group, axis=0)
        return total + row_products(second.weights(ALL), values)

    return bias


def _multiply(
    outer: Float64,
    inner: Float64,
    first: Sequence[Axis],
    second: Sequence[Axis],
    axes: Sequence[Axis],
    out: Float64,
) -> None:
    """Add to ``out`` (g, o, i, taps) outer (g, o, m, taps) times inner (g, m, i, taps).

    Each tap is made contiguous first: numpy before 1.24 multiplies others a hundred times slower.
    """
    lefts, rights = (
        np.ascontiguousarray(np.moveaxis(x, (0, 1, 2), (-3, -2, -1))) for x in (outer, inner)
    )
    left_parts, right_parts = split(lefts, -1), split(rights, -2)
    for outer_tap in product(*(range(axis.size) for axis in second)):
        for inner_tap in product(*(range(axis.size) for axis in first)):
            taps = tuple(
                (a.taps[t] + a.stride * b.taps[u] - axis.start) // axis.step
                for a, b, t, u, axis in zip(first, second, inner_tap, outer_tap, axes)
            )
            out[_tap(taps)] += multiplied(
                [left[outer_tap] for left in left_parts],
                [right[inner_tap] for right in right_parts],
            )


def _tap(taps: Sequence[int]) -> Any:
    """The index of one tap, for all groups, outputs and inputs."""
    return (slice(None), slice(None), slice(None), *taps)


def _chained_axis(first: Axis, second: Axis, biased: bool) -> Union[Axis, Reason]:
    """The taps of ``second`` after ``first`` along an axis; ``biased``: the first has a bias."""
    if first.ceil and first.stride > 1:
        return Reason("the last window of a mean may stick out of the input, and counts less")
    if second.start < 0:
        # Outside the border the second reads zeros, where the first would give other values.
        if biased:
            return Reason(
                "the second pads what the first gave a bias: its border is not the same", BORDER
            )
        if first.size > 1:
            return Reason("the second pads, and the first would reach into the input from there")
    if second.ceil and first.stride > 1:
        return Reason("the last window of a mean may stick out of the input, and counts less")
    start = first.start + first.stride * second.start
    last = first.last + first.stride * second.last
    gaps = [first.step] if first.size > 1 else []
    gaps += [first.stride * second.step] if second.size > 1 else []
    step = reduce(gcd, gaps, 0) or 1
    size = (last - start) // step + 1
    chain = Axis(start, size, step, first.stride * second.stride, second.ceil)
    if not second.ceil:  # floor(floor(x / a) / b) = floor(x / (a b)): as many places
        return chain
    if chain.stride > MAX_STRIDE:
        return Reason(f"a stride of {chain.stride} is more than is looked into")
    extent = last - start + 1
    for length in range(extent, extent + 2 * chain.stride):
        if chain.places(length) != second.places(first.places(length)):
            return Reason("the two reach differently beyond the borders", BORDER)
    return chain

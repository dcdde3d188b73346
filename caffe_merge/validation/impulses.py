"""Impulses: inputs of a linear layer in which only a few values are not 0.

They are had for one output value of the layer, which is a sum over its weights. For each impulse it
is a part of that sum, and all impulses together take each weight once.
"""

from functools import lru_cache
from typing import AbstractSet, Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import CONVOLUTION, DECONVOLUTION, DEPTHWISE, PRODUCT, of_family
from caffe_merge.validation.run import Step
from caffe_merge.validation.seeded import Seeded

SIZE = 1024.0  # of the values that are not 0: a bias is small beside the response
_MOST_ON = 16
FEW = 256  # weights of an output: up to so many, each has an impulse of its own
_COPIED = 1 << 15  # values: they stay in the processor's cache
_CONVOLUTIONS = frozenset(of_family(CONVOLUTION, DEPTHWISE))
_DECONVOLUTIONS = frozenset(of_family(DECONVOLUTION))
_PRODUCTS = frozenset(of_family(PRODUCT))
LINEAR = _CONVOLUTIONS | _DECONVOLUTIONS | _PRODUCTS


class ImpulseResponse(NamedTuple):
    """What a linear layer makes of each impulse and, last, of none: (impulses + 1, channels, ...).

    The last axes are those of a deconvolution's kernel, else of size 1. ``taps`` identifies the
    impulses: how many weights an output has, and in how many groups the channels are. ``rank`` is
    the number of axes of the layer's bottom.
    """

    taps: Tuple[int, int]
    values: np.ndarray
    rank: int


def impulse_response(
    param: Any, blobs: Sequence[np.ndarray], rank: int, some: Optional[np.ndarray] = None
) -> Optional[ImpulseResponse]:
    """What a layer makes of impulses; None if it is not linear, or its channels are not axis 1.

    ``rank`` is the number of axes of its bottom: the layer's axis may be counted from the end. Of a
    convolution or product ``some`` says which weights of each output take part, if not all.
    """
    if param.type not in LINEAR or axis_of(param, rank) != 1:
        return None
    if param.type in _PRODUCTS:
        taps, sums = _of_product(param.inner_product_param, blobs[0], some)
    elif param.type in _CONVOLUTIONS:
        taps, sums = _of_convolution(param.convolution_param, blobs[0], some)
    else:
        taps, sums = _of_deconvolution(param.convolution_param, blobs[0])
    if len(blobs) > 1:
        sums += blobs[1].reshape(-1, *[1] * (sums.ndim - 2))
    return ImpulseResponse(taps, sums, rank)


def _of_product(
    param: Any, weights: np.ndarray, some: Optional[np.ndarray]
) -> Tuple[Tuple[int, int], np.ndarray]:
    outputs = int(param.num_output)
    rows = weights.reshape(-1, outputs).T if param.transpose else weights.reshape(outputs, -1)
    return (rows.shape[1] if some is None else len(some), 1), _sums(rows, some)


def _of_convolution(
    param: Any, weights: np.ndarray, some: Optional[np.ndarray]
) -> Tuple[Tuple[int, int], np.ndarray]:
    rows = weights.reshape(len(weights), -1)
    sums = _sums(rows, some)
    taps = rows.shape[1] if some is None else len(some), _groups(param)
    return taps, sums.reshape(*sums.shape, *[1] * (weights.ndim - 2))


def _of_deconvolution(param: Any, weights: np.ndarray) -> Tuple[Tuple[int, int], np.ndarray]:
    """The impulses are values of one place, of each group's channels."""
    channels, outputs, *kernel = weights.shape
    groups = _groups(param)
    rows = weights.reshape(groups, channels // groups, -1).swapaxes(1, 2)
    sums = _sums(rows.reshape(-1, channels // groups))
    return (channels // groups, groups), sums.reshape(len(sums), groups * outputs, *kernel)


def _groups(param: Any) -> int:
    return max(int(param.group), 1)


def _sums(rows: np.ndarray, some: Optional[np.ndarray] = None) -> np.ndarray:
    """Partial sums of ``rows`` (outputs, weights) and, last, zeros: (impulses + 1, outputs).

    Of some columns alone, if these are given: a few rows of them at a time are copied.
    """
    outputs, depth = len(rows), rows.shape[1] if some is None else len(some)
    on = 1 if depth <= FEW else _MOST_ON
    sums = np.zeros((outputs, -(-depth // on) + 1))
    if some is None:
        _add_up(rows, on, sums)
        return sums.T
    step = max(_COPIED // max(depth, 1), 1)
    for start in range(0, outputs, step):
        block = slice(start, start + step)
        _add_up(np.take(rows[block], some, axis=1), on, sums[block])
    return sums.T


def _add_up(rows: np.ndarray, on: int, sums: np.ndarray) -> None:
    """Put the sums of every ``on`` columns, each times its value, in the first ones of ``sums``."""
    outputs, depth = rows.shape
    values, whole = _values(on), depth // on
    if on == 1:  # the product of a matrix with one number is slow
        np.multiply(rows, values, out=sums[:, :whole])
        return
    # This is a view, whatever is left at the ends of the rows.
    np.matmul(rows[:, : whole * on].reshape(outputs, whole, on), values, out=sums[:, :whole])
    if whole * on < depth:
        sums[:, whole] = rows[:, whole * on :] @ values[: depth - whole * on]


@lru_cache(maxsize=None)
def _values(count: int) -> np.ndarray:
    """The values that are not 0: positive, as behind a ReLU, and irregular: no sum cancels out."""
    values: np.ndarray = Seeded("impulses").uniform((count,), 0.5 * SIZE, SIZE)
    return values


class ImpulseResponses:
    """What the ``changed`` layers of a run, by index, make of impulses where they are linear.

    It is computed while the run has their weights at hand, in float64.
    """

    def __init__(self, changed: AbstractSet[int]) -> None:
        self.by_layer: Dict[int, Optional[ImpulseResponse]] = {}
        self._changed = changed

    def step(self, index: int, step: Optional[Step]) -> None:
        """Take in a layer that was just run."""
        if step is not None and index in self._changed and index not in self.by_layer:
            is_single = len(step.bottoms) == len(step.tops) == 1
            self.by_layer[index] = (
                impulse_response(step.spec.param, step.blobs, step.bottoms[0].ndim)
                if is_single
                else None
            )

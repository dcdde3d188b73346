"""Convolution kernels side by side: of one input, or each of its own part of the input."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import numpy as np

from caffe_merge.algebra.kernels import Bias, Kernel, Weights
from caffe_merge.arrays import Float64
from caffe_merge.formats.weights.blobs import ALL, Rows
from caffe_merge.notes import Reason


def stacked(kernels: Sequence[Kernel]) -> Union[Kernel, Reason]:
    """The outputs of all ``kernels``, one after the other; all read the same input whole."""
    first = kernels[0]
    if any(kernel.axes != first.axes for kernel in kernels):
        return Reason("their windows differ")
    if any(kernel.group > 1 for kernel in kernels):
        return Reason("they are grouped")
    return first._replace(
        outputs=sum(kernel.outputs for kernel in kernels),
        weights=_rows_of_all(kernels),
        bias=_bias_of_all(kernels),
        depth=_depth(kernels),
    )


def grouped(kernels: Sequence[Kernel]) -> Union[Kernel, Reason]:
    """The outputs of all ``kernels``, one after the other; each reads its own part of the input.

    They are the groups of one kernel, or some of its groups each, so they must be equally large.
    """
    first = kernels[0]
    if any(kernel.axes != first.axes for kernel in kernels):
        return Reason("their windows differ")
    if any(kernel.inputs != first.inputs for kernel in kernels):
        return Reason("they read different numbers of channels")
    if any(kernel.outputs != first.outputs for kernel in kernels):
        return Reason("they have different numbers of outputs")
    if any(kernel.group != first.group for kernel in kernels):
        return Reason("they differ in their groups")
    return first._replace(
        outputs=first.outputs * len(kernels),
        inputs=first.inputs * len(kernels),
        group=first.group * len(kernels),
        weights=_rows_of_all(kernels),
        bias=_bias_of_all(kernels),
        depth=_depth(kernels),
    )


def _rows_of_all(kernels: Sequence[Kernel]) -> Weights:
    def weights(rows: Rows) -> Float64:
        return np.concatenate([kernel.weights(ALL) for kernel in kernels])[rows]

    return weights


def _bias_of_all(kernels: Sequence[Kernel]) -> Optional[Bias]:
    """The biases of all, with zeros for those that have none; None if no kernel has one."""
    if all(kernel.bias is None for kernel in kernels):
        return None

    def bias() -> Float64:
        parts = [np.zeros(k.outputs) if k.bias is None else k.bias() for k in kernels]
        return np.concatenate(parts)

    return bias


def _depth(kernels: Sequence[Kernel]) -> int:
    return 1 + max(kernel.depth for kernel in kernels)

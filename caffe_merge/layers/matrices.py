"""The weights of linear layers as matrices of outputs by inputs: what is 0, alike, never above 0.

Most layers have nothing of this. So a few values of each output and each input are looked at
first, and all values only of those that may be. Whose biases all differ has no outputs alike.
"""

from typing import Dict, NamedTuple

import numpy as np

from caffe_merge.arrays import Array, Float64, Indices, distinct
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.layers.layer import Layer, remembered

FIRST = 16  # values of an output that are looked at first: of random ones few are all below 0

Mask = np.ndarray


class Facts(NamedTuple):
    """Of a linear layer without groups, or a depthwise one: a value for each output or input.

    ``zero_inputs`` are 0 in all outputs; of an InnerProduct they are columns, several a channel.
    ``alike`` has for each output the first that has the same weights and bias.
    """

    zero_outputs: Mask
    never_positive: Mask
    zero_inputs: Mask
    alike: Indices

    @property
    def is_plain(self) -> bool:
        """Whether none of it is there."""
        return not self.has_signs and not self.has_alike

    @property
    def has_signs(self) -> bool:
        """Whether an output or input is 0, or an output never above 0."""
        masks = (self.zero_outputs, self.never_positive, self.zero_inputs)
        return any(mask.any() for mask in masks)

    @property
    def has_alike(self) -> bool:
        """Whether two outputs are alike."""
        return bool((self.alike != np.arange(len(self.alike))).any())


def inputs_axis(layer: Layer) -> int:
    """The axis of its weights along which its inputs lie; its outputs lie along the other."""
    if layer.type == "InnerProduct":
        return 0 if layer.param.inner_product_param.transpose else 1
    return 0 if layer.type == "Deconvolution" else 1


def bias_of(layer: Layer) -> Float64:
    """Its bias, zeros where it has none."""
    if len(layer.blobs) > 1:
        return layer.blobs[1].float64()
    axis = 1 - inputs_axis(layer)
    return np.zeros(layer.blobs[0].shape[axis])


@remembered
def facts(layer: Layer) -> Facts:
    """What there is to know of the weights of ``layer``, as they will be read from its file."""
    weights = layer.blobs[0]
    axis = inputs_axis(layer)
    bias = bias_of(layer)
    first = _first(weights, 1 - axis)
    not_positive = np.flatnonzero((first <= 0).all(axis=1))
    rows = _slices(weights, 1 - axis, not_positive)
    zero, never_positive = (np.zeros(len(first), bool) for _ in range(2))
    zero[not_positive] = ~rows.any(axis=1)
    never_positive[not_positive] = (rows <= 0).all(axis=1) & (bias[not_positive] <= 0)
    maybe_zero = np.flatnonzero(~_first(weights, axis).any(axis=1))
    zero_inputs = np.zeros(weights.shape[axis], bool)
    zero_inputs[maybe_zero] = ~_slices(weights, axis, maybe_zero).any(axis=1)
    return Facts(zero, never_positive, zero_inputs, _alike(weights, 1 - axis, first, bias))


def _alike(weights: Blob, axis: int, first: Array, bias: Float64) -> Indices:
    """For each slice along ``axis`` the first that equals it, the biases included."""
    alike = np.arange(len(first))
    if len(distinct(bias.astype(weights.dtype))) == len(first):
        return alike
    _, group, sizes = np.unique(first[:, 0], return_inverse=True, return_counts=True)
    if len(sizes) == len(first):
        return alike
    maybe = np.flatnonzero(sizes[group] > 1)
    values = np.column_stack([_slices(weights, axis, maybe), bias[maybe].astype(weights.dtype)])
    seen: Dict[bytes, int] = {}
    for number, row in zip(maybe.tolist(), values):
        alike[number] = seen.setdefault((row + 0.0).tobytes(), number)  # -0 is 0
    return alike


def _first(weights: Blob, axis: int) -> Array:
    """The first values of each slice along ``axis``: (slices, values)."""
    if axis == 1:
        values = weights.rounded(slice(0, 1))
        return values.reshape(weights.shape[1], -1)[:, :FIRST]
    with np.errstate(over="ignore", invalid="ignore"):
        return weights.heads(FIRST).astype(weights.dtype, copy=False)


def _slices(weights: Blob, axis: int, numbers: Indices) -> Array:
    """Some slices along ``axis``, flat: (slices, values)."""
    if not len(numbers):
        return np.zeros((0, 1))
    if axis == 0:
        return weights.rounded(numbers).reshape(len(numbers), -1)
    values = np.concatenate([weights.rounded(rows)[:, numbers] for rows in weights.spans()])
    return np.moveaxis(values, 1, 0).reshape(len(numbers), -1)

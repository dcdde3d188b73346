"""Affine maps per channel, and how they fold into weights: float64 arrays; no graph, no files.

An affine map per channel, y[c] = scale[c] * x[c] + shift[c], is what BatchNorm, Scale, Bias and
Power are at inference. After a linear layer y = W x + b it folds into the weights, along the axis
of W that counts output channels::

    scale * (W x + b) + shift  =  (scale W) x + (scale b + shift)
"""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.arrays import Float64 as Vector


class Affine(NamedTuple):
    """y = scale * x + shift. Vectors of C values along ``axis``, or 0-d arrays if axis is None."""

    scale: Vector
    shift: Vector
    axis: Optional[int] = None

    @property
    def channels(self) -> Optional[int]:
        """The number of channels; None for a scalar map."""
        return None if self.axis is None else len(self.scale)

    def then(self, other: "Affine") -> "Affine":
        """Both maps, ``other`` last; axis and channels are the same, or one is scalar."""
        scale = other.scale * self.scale
        shift = other.scale * self.shift + other.shift
        shape = np.broadcast(scale, shift).shape
        axis = self.axis if other.axis is None else other.axis
        return Affine(np.broadcast_to(scale, shape), np.broadcast_to(shift, shape), axis)

    def over(self, channels: int, axis: int) -> "Affine":
        """The same map with a vector for each of ``channels``."""
        return Affine(
            np.broadcast_to(self.scale, (channels,)),
            np.broadcast_to(self.shift, (channels,)),
            axis,
        )


def batch_norm(mean: Vector, variance: Vector, factor: float, eps: float) -> Affine:
    """BatchNorm on stored statistics (batch_norm_layer.cpp): y = (x - s mean) / sqrt(s var + eps).

    ``mean`` and ``variance`` are the stored sums (C), ``factor`` the stored count; s is 1/factor,
    and 0 where the factor is 0.
    """
    if factor == 0:
        mean, variance = np.zeros_like(mean), np.zeros_like(variance)
    else:
        mean, variance = mean / factor, variance / factor
    scale = 1.0 / np.sqrt(variance + eps)
    return Affine(scale, -mean * scale, 1)


def convolution_multiplier(scale: Vector, rank: int) -> Vector:
    """``scale`` (Cout) shaped to multiply Convolution weights (Cout, Cin/group, k...)."""
    return scale.reshape((-1,) + (1,) * (rank - 1))


def deconvolution_multiplier(scale: Vector, shape: Tuple[int, ...], group: int) -> Vector:
    """``scale`` (Cout) shaped to multiply Deconvolution weights (Cin, Cout/group, k...).

    Row i belongs to group g = i // (Cin/group); its column j makes output channel
    g * Cout/group + j.
    """
    per_group = scale.reshape(group, 1, -1)
    rows = np.broadcast_to(per_group, (group, shape[0] // group, per_group.shape[2]))
    return rows.reshape(shape[:2] + (1,) * (len(shape) - 2))


def inner_product_multiplier(scale: Vector, transpose: bool) -> Vector:
    """``scale`` (N) shaped to multiply InnerProduct weights (N, K), or (K, N) if transposed."""
    return scale[np.newaxis, :] if transpose else scale[:, np.newaxis]


def folded_bias(bias: Optional[Vector], affine: Affine) -> Vector:
    """The bias (Cout) of a layer with ``affine`` folded into it; ``bias`` None is no bias yet."""
    if bias is None:
        return np.array(affine.shift)
    return affine.scale * bias + affine.shift

"""Array functions of the styles: from named blobs to an affine map per channel. float64.

y = scale (x - mean) / std + bias        std = sqrt(variance + eps), or as the style has it
"""

from typing import Dict, Mapping

import numpy as np

from caffe_merge.algebra.affine import Affine, batch_norm
from caffe_merge.arrays import Float64 as Vector

SMALLEST = float(np.float32(1e-5))  # CUDNN_BN_MIN_EPSILON

# What the blobs of a style may be.
VECTORS = ("mean", "variance", "inverse", "scale", "bias")
SINGLES = ("factor", "unused")


def divided(blobs: Mapping[str, Vector]) -> Dict[str, Vector]:
    """``blobs`` with mean and variance divided by the stored factor; 0 where the factor is 0."""
    out = dict(blobs)
    if "factor" in out:
        factor = float(out.pop("factor")[0])
        for name in {"mean", "variance"} & out.keys():
            out[name] = out[name] / factor if factor else np.zeros_like(out[name])
    return out


def affine(blobs: Mapping[str, Vector], eps: float, outside: bool = False) -> Affine:
    """The map that ``blobs`` are; what is missing is a mean of 0, no division, a scale of 1.

    ``outside`` has eps added to the square root instead of the variance.
    """
    size = next(len(values) for name, values in blobs.items() if name in VECTORS)
    mean = blobs.get("mean", np.zeros(size))
    if "variance" in blobs and not outside:
        factor = float(blobs["factor"][0]) if "factor" in blobs else 1.0
        base = batch_norm(mean, blobs["variance"], factor, eps)
    else:
        base = _uncommon(divided({"mean": mean, **blobs}), eps)
    scale, bias = blobs.get("scale", np.ones(size)), blobs.get("bias", np.zeros(size))
    return base.then(Affine(scale, bias, 1))


def _uncommon(blobs: Mapping[str, Vector], eps: float) -> Affine:
    """(x - mean) by a stored inverse, by sqrt(variance) + eps, or by nothing."""
    mean = blobs["mean"]
    scale = blobs.get("inverse", np.ones(len(mean)))
    if "variance" in blobs:
        scale = 1.0 / (np.sqrt(blobs["variance"]) + eps)
    return Affine(scale, -mean * scale, 1)

"""Array functions of the styles: from named blobs to an affine map per channel. float64.

y = scale (x - mean) / std + bias        std = sqrt(variance + eps), or as the style has it

(Ioffe, Szegedy: Batch Normalization, 2015; of the forks, docs/forks.md has each formula.)
"""

from __future__ import annotations

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
    result = dict(blobs)
    if "factor" in result:
        factor = float(result.pop("factor")[0])
        for name in {"mean", "variance"} & result.keys():
            result[name] = result[name] / factor if factor else np.zeros_like(result[name])
    return result


def affine(blobs: Mapping[str, Vector], eps: float, eps_outside_root: bool = False) -> Affine:
    """The map of a layer with ``blobs``; without some, mean and bias are 0, std and scale 1.

    ``eps_outside_root`` has eps added to the square root instead of the variance.
    """
    size = next(len(values) for name, values in blobs.items() if name in VECTORS)
    mean = blobs.get("mean", np.zeros(size))
    if "variance" in blobs and not eps_outside_root:
        factor = float(blobs["factor"][0]) if "factor" in blobs else 1.0
        base = batch_norm(mean, blobs["variance"], factor, eps)
    else:
        base = _uncommon(divided({"mean": mean, **blobs}), eps)
    scale, bias = blobs.get("scale", np.ones(size)), blobs.get("bias", np.zeros(size))
    return base.then(Affine(scale, bias, 1))


def _uncommon(blobs: Mapping[str, Vector], eps: float) -> Affine:
    """(x - mean) times the stored inverse, or over sqrt(variance) + eps, or as it is."""
    mean = blobs["mean"]
    scale = blobs.get("inverse", np.ones(len(mean)))
    if "variance" in blobs:
        scale = 1.0 / (np.sqrt(blobs["variance"]) + eps)
    return Affine(scale, -mean * scale, 1)

"""One small net as a pair, and the same net merged by hand: what validation has to judge."""

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from tests.nets import write_pair

Blobs = Dict[str, List[np.ndarray]]
Pair = Tuple[Path, Path]

_TOP = """
layer { name: "pool" type: "Pooling" bottom: "%s" top: "pool"
  pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
INPUT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
"""
BEFORE = (
    INPUT
    + """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "scale" }
"""
    + _TOP % "scale"
)
AFTER = (
    INPUT
    + """
layer { name: "conv" type: "Convolution" bottom: "data" top: "scale"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "scale" }
"""
    + _TOP % "scale"
)


def weights(seed: int = 0) -> Tuple[Blobs, Blobs]:
    """The weights of BEFORE and those of AFTER."""
    random = np.random.default_rng(seed)
    conv = random.standard_normal((4, 3, 3, 3)) * 0.1
    mean, variance = random.standard_normal(4), random.uniform(0.5, 2, 4)
    gamma, beta = random.uniform(0.5, 2, 4), random.standard_normal(4)
    # Scaled so that the softmax, fed with pixels, is neither flat nor saturated.
    fc = [random.standard_normal((5, 16)) * 0.03, random.standard_normal(5)]
    factor = gamma / np.sqrt(variance + 1e-5)
    before = {"conv": [conv], "bn": [mean, variance, np.ones(1)], "scale": [gamma, beta], "fc": fc}
    after = {"conv": [conv * factor[:, None, None, None], beta - mean * factor], "fc": fc}
    return before, after


def pairs(folder: Path) -> Tuple[Pair, Pair]:
    """BEFORE and AFTER, written below ``folder``."""
    before, after = weights()
    return (
        write_pair(folder, BEFORE, before, "before"),
        write_pair(folder, AFTER, after, "after"),
    )

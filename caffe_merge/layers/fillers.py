"""The values that Caffe gives a blob which no file has: its fillers, as far as not random.

A weight that is missing from the caffemodel keeps what its filler put there (net.cpp), so a merge
may use it when the filler is deterministic, and must refuse when it is random.
"""

from math import ceil
from typing import Any, Optional, Tuple

import numpy as np

from caffe_merge.errors import NetError


def fill(filler: Any, shape: Tuple[int, ...]) -> Optional[np.ndarray]:
    """A float32 array of ``shape`` as ``filler`` (a FillerParameter) makes it; None if random.

    An absent FillerParameter is a constant 0; Scale's factor (1) and PReLU's slope (0.25) have
    defaults of their own, which their layers know and this does not.
    """
    if filler.type == "constant":
        return np.full(shape, filler.value, np.float32)
    if filler.type == "bilinear":
        return _bilinear(shape)
    return None


def _bilinear(shape: Tuple[int, ...]) -> np.ndarray:
    """The weights of bilinear upsampling, the same in every channel (BilinearFiller, filler.hpp).

    With f = ceil(K / 2), c = (K - 1) / (2 f):  w[y, x] = (1 - |y / f - c|) (1 - |x / f - c|).
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"bilinear filler: expected a square 4-D blob, found shape {shape}")
    half = ceil(shape[3] / 2)
    centre = np.float32((shape[3] - 1) / (2 * half))
    ramp = 1 - np.abs(np.arange(shape[3], dtype=np.float32) / np.float32(half) - centre)
    return np.broadcast_to(np.outer(ramp, ramp), shape).astype(np.float32)

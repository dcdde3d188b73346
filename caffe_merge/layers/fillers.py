"""The values that Caffe gives a blob which no file has: its fillers, as far as not random.

A weight that is missing from the caffemodel keeps what its filler put there (net.cpp), so a merge
may use it when the filler is deterministic, and must refuse when it is random.
"""

from math import ceil, prod
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.errors import NetError
from caffe_merge.layers.catalogue import CATALOGUE

MAX_FILLED = 1 << 27  # values of a whole net; VGG-16 without its InnerProducts wants 124 million


class Constant(NamedTuple):
    """A filler that no text has: as much of a FillerParameter as a constant needs."""

    value: float
    type: str = "constant"


def fillers(param: Any) -> List[Any]:
    """The fillers of the blobs of ``param`` (a LayerParameter), in blob order; [] if not known."""
    row = CATALOGUE.get(param.type)
    if row is None or not row.fillers:
        return []
    block = getattr(param, row.block)
    return [
        getattr(block, filler.field)
        if filler.field and block.HasField(filler.field)
        else Constant(filler.default)
        for filler in row.fillers
        if not filler.one_bottom or len(param.bottom) == 1
    ]


class Room:
    """How many values the fillers of a net may make: a few lines of text can ask for any number.

    ``strict``: what goes beyond is an error, as it would be written to the weights.
    """

    def __init__(self, strict: bool) -> None:
        self.left = MAX_FILLED
        self._strict = strict

    def take(self, shape: Tuple[int, ...], layer: str) -> bool:
        """Whether there is room for a blob of ``shape`` of ``layer``; if so it is taken."""
        self.left -= prod(shape)
        if self.left >= 0:
            return True
        if self._strict:
            raise NetError(
                f"layer {layer!r}: expected fillers that make at most {MAX_FILLED:,} values in the "
                "whole net, found more: the weights file has no weights for too many layers"
            )
        self.left += prod(shape)
        return False


def fill(
    filler: Any, shape: Tuple[int, ...], room: Optional[Room] = None, layer: str = ""
) -> Optional[np.ndarray]:
    """A float32 array of ``shape`` as ``filler`` (a FillerParameter) makes it; None if random.

    None too where ``room`` has no more for a blob of ``layer``; NetError if that is strict.

    It is read-only and takes next to no memory: what is the same is there once.
    """
    if filler.type not in ("constant", "bilinear") or (room and not room.take(shape, layer)):
        return None
    if filler.type == "constant":
        return np.broadcast_to(np.float32(filler.value), shape)
    return _bilinear(shape)


def _bilinear(shape: Tuple[int, ...]) -> np.ndarray:
    """The weights of bilinear upsampling, the same in every channel (BilinearFiller, filler.hpp).

    With f = ceil(K / 2), c = (K - 1) / (2 f):  w[y, x] = (1 - |y / f - c|) (1 - |x / f - c|).
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"bilinear filler: expected a square 4-D blob, found shape {shape}")
    half = ceil(shape[3] / 2)
    centre = np.float32((shape[3] - 1) / (2 * half))
    ramp = 1 - np.abs(np.arange(shape[3], dtype=np.float32) / np.float32(half) - centre)
    return np.broadcast_to(np.outer(ramp, ramp).astype(np.float32), shape)

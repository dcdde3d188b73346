"""What all reference layers share: the signature of their functions, and Unsupported."""

from __future__ import annotations

from typing import Callable, List, Sequence

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers.spec import LayerSpec

Arrays = Sequence[np.ndarray]
TopShapes = List[Shape]

# (layer, blobs, bottoms, the shapes of the tops) -> tops
Function = Callable[[LayerSpec, Arrays, Arrays, TopShapes], List[np.ndarray]]


class Unsupported(CaffeMergeError):  # noqa: N818 - a limit of this engine, no fault of the net
    """A layer, or a parameter of it, that this engine cannot run; says which and why."""

    def __init__(self, layer: LayerSpec, reason: str) -> None:
        super().__init__(f"layer {layer.name!r} ({layer.type}): {reason}")


def in_training(layer: LayerSpec) -> bool:
    """Whether the layer itself asks for phase TRAIN, whatever the net's phase (net.cpp)."""
    return bool(layer.param.HasField("phase") and layer.param.phase == 0)

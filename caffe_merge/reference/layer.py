"""What every reference layer has in common: the form of its function, and how it declines."""

from typing import Any, Callable, List, Sequence

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import CaffeMergeError

Arrays = Sequence[np.ndarray]
TopShapes = List[Shape]

# (layer, blobs, bottoms, the shapes of the tops) -> tops
Function = Callable[[Any, Arrays, Arrays, TopShapes], List[np.ndarray]]


class Unsupported(CaffeMergeError):  # noqa: N818 - a reason to step aside, not a fault
    """A layer, or a parameter of it, whose forward pass is not known here; says which and why."""

    def __init__(self, layer: Any, reason: str) -> None:
        super().__init__(f"layer {layer.name!r} ({layer.type}): {reason}")


def in_training(layer: Any) -> bool:
    """Whether the layer itself asks for phase TRAIN, whatever the net's phase (net.cpp)."""
    return bool(layer.HasField("phase") and layer.phase == 0)

"""Which axis of its bottom a layer's text names: passes and proof ask here, never the field."""

from __future__ import annotations

from typing import Any, Optional

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.outputs import OLD_AXIS


def axis_of(param: Any, rank: Optional[int]) -> Optional[int]:
    """The axis along which, or from which on, a layer works, counted from the front.

    ``param`` are the parameters of a layer with an ``axis``, ``rank`` the number of axes of its
    first bottom. None where it counts from the end of a bottom of unknown rank, or has none such.
    """
    block = getattr(param, CATALOGUE[param.type].block)
    old = OLD_AXIS.get(param.type)
    axis: int = getattr(block, old) if old and block.HasField(old) else block.axis
    if axis < 0 and rank is not None:
        axis += rank
    return axis if axis >= 0 and (rank is None or axis < rank) else None


def from_front(param: Any, rank: Optional[int]) -> Any:
    """``param`` with the same axis, counted from the front: its bottom may have another rank then.

    It is ``param`` itself where that has it so already.
    """
    block = CATALOGUE[param.type].block
    axis = axis_of(param, rank)
    if axis is None or getattr(param, block).axis >= 0:
        return param
    param = copied(param)
    getattr(param, block).axis = axis
    return param


def flattens_images(layer: Layer, rank: Optional[int]) -> bool:
    """Whether the Flatten ``layer`` makes a vector of each image of its bottom."""
    last = (-1,) if rank is None else (-1, rank - 1)
    return axis_of(layer.param, rank) == 1 and layer.param.flatten_param.end_axis in last

"""The forward pass of Caffe's layers in the TEST phase, in numpy and float64."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import List, Optional, Sequence, cast

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import WeightsError
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import CATALOGUE, that
from caffe_merge.layers.shapes.forks import NORMALISED
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, Unsupported
from caffe_merge.wording import counted

__all__ = ["SUPPORTED", "Unsupported", "forward"]

_OF_NORMALISED = "forks"  # the module with what is no layer of a text
SUPPORTED = that("forward") | {NORMALISED}


@lru_cache(maxsize=None)
def _function(kind: str) -> Optional[Function]:
    """The forward pass of the type ``kind``, None if there is none; its module is imported now."""
    if kind not in SUPPORTED:
        return None
    module = _OF_NORMALISED if kind == NORMALISED else CATALOGUE[kind].forward
    functions = import_module(f"{__name__}.{module}").FUNCTIONS
    return cast(Function, functions[kind])


def forward(layer: LayerSpec, blobs: Arrays, bottoms: Arrays) -> List[np.ndarray]:
    """The tops of ``layer`` for float64 ``blobs`` and ``bottoms``.

    A top may be a view of a bottom, so callers must write into neither. Raises Unsupported for a
    layer that cannot be computed here, NetError where the bottoms do not fit it and WeightsError
    where the blobs do not.
    """
    function = _function(layer.type)
    if function is None:
        raise Unsupported(layer, "no such layer here")
    bottom_shapes = [bottom.shape for bottom in bottoms]
    tops = shapes.tops(layer, bottom_shapes)
    if tops is None:
        raise Unsupported(layer, "its top shapes are not known")
    blobs = _fitted(layer, blobs, bottom_shapes)
    with np.errstate(all="ignore"):  # inf and NaN go through, as in Caffe
        return function(layer, blobs, bottoms, tops)


def _fitted(layer: LayerSpec, blobs: Arrays, bottoms: Sequence[Shape]) -> Arrays:
    """``blobs`` in the shapes that ``layer`` expects; 4-D blobs of old files lose leading 1s."""
    expected = cast("List[Shape]", shapes.blobs(layer, bottoms) or [])
    if [blob.shape for blob in blobs] == expected:
        return blobs
    if len(blobs) != len(expected):
        message = f"expected {counted(len(expected), 'blob')}, found {len(blobs)}"
        raise WeightsError(message, layer=layer.name)
    fitted = []
    for index, (blob, shape) in enumerate(zip(blobs, expected)):
        if blob.shape not in (shape, (1,) * (4 - len(shape)) + shape):
            raise WeightsError(
                f"expected shape {shape}, found {blob.shape}", layer=layer.name, blob=index
            )
        fitted.append(blob.reshape(shape))
    return fitted

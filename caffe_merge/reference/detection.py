"""Prior boxes of detectors; shapes.detection has their sizes."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.detection import SIZES, variances
from caffe_merge.layers.shapes.geometry import legacy
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes


def _priors(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """The corners (left, top, right, bottom) of each box, as shares of the image.

    Their centre is at (place + offset) step, the step being image / places where none is given
    (SSD, prior_box_layer.cpp; OpenVINO, prior_box_clustered_layer.cpp).
    """
    rows, columns = legacy(layer, bottoms[0].shape)[2:]
    height, width = _image(layer, legacy(layer, bottoms[1].shape))
    step_y, step_x = _steps(layer, (height / rows, width / columns))
    offset = layer.fork.number("prior_box_param.offset", 0.5)
    sizes = np.array(SIZES[layer.type](layer))
    boxes = np.empty((rows, columns, len(sizes), 4))
    x = ((np.arange(columns) + offset) * step_x)[np.newaxis, :, np.newaxis]
    y = ((np.arange(rows) + offset) * step_y)[:, np.newaxis, np.newaxis]
    for corner, sign in ((0, -0.5), (2, 0.5)):
        boxes[..., corner] = (x + sign * sizes[:, 0]) / width
        boxes[..., corner + 1] = (y + sign * sizes[:, 1]) / height
    if layer.fork.flag("prior_box_param.clip", False):
        boxes = boxes.clip(0, 1)
    spread = np.broadcast_to(variances(layer), boxes.shape)
    return [np.stack([boxes.ravel(), spread.ravel()])[np.newaxis]]


def _image(layer: LayerSpec, data: Shape) -> Tuple[int, int]:
    """Height and width: the text's, else those of the second bottom."""
    fields, block = layer.fork, "prior_box_param.img_"
    both = fields.integer(block + "size", 0)
    height, width = (fields.integer(block + side, both) for side in "hw")
    return (height, width) if height > 0 and width > 0 else (data[2], data[3])


def _steps(layer: LayerSpec, default: Tuple[float, float]) -> Tuple[float, float]:
    """How many pixels there are from place to place, down and across."""
    fields, block = layer.fork, "prior_box_param.step"
    both = fields.number(block, 0.0)
    down, across = (fields.number(f"{block}_{side}", both) for side in "hw")
    return (down, across) if down > 0 and across > 0 else default


FUNCTIONS: Dict[str, Function] = dict.fromkeys(SIZES, _priors)

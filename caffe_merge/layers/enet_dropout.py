"""The one Python layer whose effect is known: the spatial dropout of ENet and ERFNet.

    y = x / (1 - p)        unless param_str says phase TRAIN

Its own ``phase`` decides, not the net's (python/spatial_dropout.py). The weights were trained with
that factor in training and without it at test time, so it is no identity.
"""

from __future__ import annotations

import ast
from typing import Union

from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.forks import SPATIAL_DROPOUT
from caffe_merge.notes import Reason


def dropout(layer: Layer) -> Union[float, Reason, None]:
    """What a SpatialDropoutLayer multiplies by; why that is not known; None if it is none."""
    param = layer.param.python_param
    if (param.module, param.layer) != SPATIAL_DROPOUT:
        return None
    try:
        arguments = ast.literal_eval(param.param_str)
        phase, ratio = str(arguments["phase"]), float(arguments["p"])
    except (ValueError, SyntaxError, LookupError, TypeError, MemoryError, RecursionError):
        return Reason(f"its param_str has no phase and p: {param.param_str[:40]!r}")
    if phase == "TRAIN":
        return Reason("its param_str says phase TRAIN: it drops at inference too")
    if not 0 < ratio < 1:
        return Reason(f"its p is {ratio:g}, not between 0 and 1")
    return 1.0 / (1.0 - ratio)

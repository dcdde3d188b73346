"""Elementwise functions y = f(x) (PReLU: per channel). Formulas: Caffe's files of their names."""

from __future__ import annotations

from math import exp, log
from typing import Any, Callable, Dict, List

import numpy as np

from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.layer import Arrays, Function, TopShapes, Unsupported, in_training


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), in the form that cannot overflow."""
    y: np.ndarray = np.tanh(0.5 * x)
    y += 1
    y *= 0.5
    return y


def _rectified(x: np.ndarray, slope: Any) -> np.ndarray:
    """max(x, 0) + slope min(x, 0)."""
    y: np.ndarray = np.maximum(x, 0) + slope * np.minimum(x, 0)
    return y


def _relu(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    slope = layer.param.relu_param.negative_slope
    if slope:
        return _rectified(x, slope)
    zeros = np.zeros(x.shape[-2:])  # a number in their place takes numpy twice as long
    y: np.ndarray = np.maximum(x, zeros)
    return y


def _elu(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """x, or alpha (e^x - 1) below 0."""
    y: np.ndarray = np.maximum(x, 0) + layer.param.elu_param.alpha * np.expm1(np.minimum(x, 0))
    return y


def _selu(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """Lambda times x, or alpha (e^x - 1) below 0, with its authors' two constants."""
    y: np.ndarray = np.maximum(x, 0) + 1.6732632423543772 * np.expm1(np.minimum(x, 0))
    return 1.0507009873554805 * y


def _hard_sigmoid(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """Compute alpha x + beta, cut to 0 .. 1 (Synopsys, hard_sigmoid_layer.cpp)."""
    fields, block = layer.fork, "hard_sigmoid_param."
    if any(f"hardsigmoid_param.{name}" in fields for name in ("alpha", "beta")):
        block = "hardsigmoid_param."
    alpha, beta = fields.number(block + "alpha", 0.2), fields.number(block + "beta", 0.5)
    return np.clip(alpha * x + beta, 0, 1)


def _hard_swish(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """X min(max(x + 3, 0), 6) / 6 (Synopsys, hard_swish_layer.cpp)."""
    y: np.ndarray = x * np.clip(x / 6 + 0.5, 0, 1)
    return y


def _power(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """(shift + scale x)^power; without x where power scale = 0 (power_layer.cpp)."""
    param = layer.param.power_param
    if not param.power * param.scale:
        return np.full(x.shape, np.power(param.shift, param.power) if param.power else 1.0)
    y: np.ndarray = x * param.scale + param.shift
    return y if param.power == 1 else y**param.power


def _log_base(layer: LayerSpec, base: float) -> float:
    """ln(base), where -1 stands for e."""
    if base == -1:
        return 1.0
    if base <= 0 or (base == 1 and layer.type == "Log"):
        raise Unsupported(layer, f"base {base} has no logarithm to divide by")
    return log(base)


def _exp(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """base^(shift + scale x)."""
    param = layer.param.exp_param
    base = _log_base(layer, param.base)
    y: np.ndarray = np.exp(base * param.scale * x) * exp(base * param.shift)
    return y


def _log(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """The logarithm to ``base`` of shift + scale x."""
    param = layer.param.log_param
    y: np.ndarray = np.log(x * param.scale + param.shift) / _log_base(layer, param.base)
    return y


def _dropout(layer: LayerSpec, x: np.ndarray) -> np.ndarray:
    """Return x as it is: Caffe scales in training (dropout_layer.cpp)."""
    if in_training(layer):
        raise Unsupported(layer, "phase TRAIN drops at random")
    return x


_ELEMENTWISE: Dict[str, Callable[[LayerSpec, np.ndarray], np.ndarray]] = {
    "AbsVal": lambda layer, x: np.abs(x),
    "BNLL": lambda layer, x: np.logaddexp(0, x),
    "Clip": lambda layer, x: np.clip(x, layer.param.clip_param.min, layer.param.clip_param.max),
    "Dropout": _dropout,
    "ELU": _elu,
    "Exp": _exp,
    "HSwish": _hard_swish,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Log": _log,
    "Mish": lambda layer, x: x * np.tanh(np.logaddexp(0, x)),
    "Power": _power,
    "ReLU": _relu,
    "SeLU": _selu,
    "Sigmoid": lambda layer, x: sigmoid(x),
    "Softplus": lambda layer, x: np.logaddexp(0, x),
    "Swish": lambda layer, x: x * sigmoid(layer.param.swish_param.beta * x),
    "TanH": lambda layer, x: np.tanh(x),
    "Threshold": lambda layer, x: np.where(x > layer.param.threshold_param.threshold, 1.0, 0.0),
}


def _elementwise(function: Callable[[LayerSpec, np.ndarray], np.ndarray]) -> Function:
    def forward(
        layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
    ) -> List[np.ndarray]:
        return [function(layer, bottoms[0])]

    return forward


def _prelu(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """max(x, 0) + slope min(x, 0), a slope per channel (axis 1) or one for all."""
    return [_rectified(bottoms[0], blobs[0].reshape(-1, *[1] * (bottoms[0].ndim - 2)))]


FUNCTIONS: Dict[str, Function] = {
    "PReLU": _prelu,
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
}

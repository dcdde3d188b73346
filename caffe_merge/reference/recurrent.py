"""BVLC's LSTM and RNN, a step at a time; shapes.recurrent has what their bottoms are."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from caffe_merge.layers.shapes.recurrent import parts
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.reference.activation import sigmoid
from caffe_merge.reference.layer import Arrays, Function, TopShapes


def _from_inputs(layer: LayerSpec, blobs: Arrays, bottoms: Arrays) -> Tuple[np.ndarray, Arrays]:
    """What x and the shared input add in each step, and the blobs that are left."""
    x, shared = bottoms[0], parts(layer, len(bottoms)).shared
    weights, bias, *rest = blobs
    total: np.ndarray = np.matmul(x.reshape(*x.shape[:2], -1), weights.T) + bias
    if shared is not None:
        more, *rest = rest
        total += np.matmul(bottoms[shared].reshape(x.shape[1], -1), more.T)
    return total, rest


def _states(
    layer: LayerSpec, bottoms: Arrays, top: Tuple[int, ...], number: int
) -> List[np.ndarray]:
    """The state to begin with: the exposed one, else zeros, as in a net that has not run yet."""
    exposed = parts(layer, len(bottoms)).states
    return [bottoms[index][0] for index in exposed] or [np.zeros(top[1:])] * number


def _lstm(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """C' = k f c + i g, h' = o tanh(c') (lstm_layer.cpp, lstm_unit_layer.cpp).

    i, f and o are sigmoids, g is a tanh, of W x + b + U k h in this order; k is the indicator of
    continuation: where it is 0 a sequence begins.
    """
    total, (recurrent,) = _from_inputs(layer, blobs, bottoms)
    h, c = _states(layer, bottoms, tops[0], 2)
    outputs = np.empty(tops[0])
    for step, goes_on in enumerate(bottoms[1][..., np.newaxis]):
        gates = total[step] + np.matmul(h * goes_on, recurrent.T)
        keep, forget, out, new = np.split(gates, 4, axis=1)
        kept = np.where(goes_on == 0, 0.0, goes_on * sigmoid(forget) * c)
        c = kept + sigmoid(keep) * np.tanh(new)
        h = outputs[step] = sigmoid(out) * np.tanh(c)
    return [outputs, h[np.newaxis], c[np.newaxis]][: len(tops)]


def _rnn(layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes) -> List[np.ndarray]:
    """H' = tanh(W x + b + U k h), o = tanh(V h' + d) (rnn_layer.cpp)."""
    total, (recurrent, output, bias) = _from_inputs(layer, blobs, bottoms)
    (h,) = _states(layer, bottoms, tops[0], 1)
    outputs = np.empty(tops[0])
    for step, goes_on in enumerate(bottoms[1][..., np.newaxis]):
        h = np.tanh(total[step] + np.matmul(h * goes_on, recurrent.T))
        outputs[step] = np.tanh(np.matmul(h, output.T) + bias)
    return [outputs, h[np.newaxis]][: len(tops)]


def _indicator(
    layer: LayerSpec, blobs: Arrays, bottoms: Arrays, tops: TopShapes
) -> List[np.ndarray]:
    """0 for the first step unless ``flag``, 1 behind it (continuation_indicator_layer.cpp)."""
    y = np.ones(tops[0])
    y[0] = layer.fork.flag("continuation_indicator_param.flag", False)
    return [y]


FUNCTIONS: Dict[str, Function] = {
    "ContinuationIndicator": _indicator,
    "LSTM": _lstm,
    "RNN": _rnn,
}

"""BVLC's layers with a state: LSTM and RNN, the shapes of their tops and blobs."""

from typing import Dict, List, NamedTuple, Optional

from caffe_merge.arrays import BlobShape, Shape, count
from caffe_merge.layers.shapes.geometry import Rule, error
from caffe_merge.layers.spec import LayerSpec

# The blobs of the state, each of the shape (1, N, num_output).
STATES = {"LSTM": 2, "RNN": 1}


class Parts(NamedTuple):
    """How the bottoms of a recurrent layer are used (recurrent_layer.cpp).

    Behind x (T, N, ...) and the indicator of continuation (T, N) there may be an input that all
    steps share (N, ...), and with ``expose_hidden`` the state to begin with.
    """

    shared: Optional[int]  # the place of the shared input, if there is one
    states: List[int]


def parts(layer: LayerSpec, number: int) -> Parts:
    """The parts that ``number`` bottoms are."""
    exposed = STATES[layer.type] if layer.param.recurrent_param.expose_hidden else 0
    if number not in (2 + exposed, 3 + exposed):
        raise error(layer, f"{2 + exposed} or {3 + exposed} bottoms", number)
    shared = 2 if number == 3 + exposed else None
    return Parts(shared, list(range(number - exposed, number)))


def _recurrent(layer: LayerSpec, bottoms: List[Shape]) -> List[Shape]:
    x, steps, *_ = bottoms
    used, outputs = parts(layer, len(bottoms)), layer.param.recurrent_param.num_output
    if not outputs:
        raise error(layer, "num_output larger than 0", 0)
    if len(x) < 3:
        raise error(layer, "a bottom of steps, sequences and values", f"shape {x}")
    if steps != x[:2]:
        raise error(layer, f"an indicator of shape {x[:2]}, steps and sequences", steps)
    if used.shared is not None and bottoms[used.shared][:1] != x[1:2]:
        raise error(layer, f"a shared input of {x[1]} sequences", bottoms[used.shared])
    state = (1, x[1], outputs)
    for index in used.states:
        if bottoms[index] != state:
            raise error(layer, f"a state of shape {state}", bottoms[index])
    if len(layer.param.top) != 1 + len(used.states):
        raise error(layer, f"as many tops as 1 + {len(used.states)}", len(layer.param.top))
    return [(*x[:2], outputs), *[state] * len(used.states)]


def _weights(layer: LayerSpec, bottoms: List[Optional[Shape]], rows: int) -> List[BlobShape]:
    """From x with a bias, from the shared input, from the last step's output."""
    x, shared = bottoms[0], parts(layer, len(bottoms)).shared if len(bottoms) > 1 else None
    weights: List[BlobShape] = [(rows, None if x is None else count(x[2:])), (rows,)]
    if shared is not None:
        more = bottoms[shared]
        weights.append((rows, None if more is None else count(more[1:])))
    return [*weights, (rows, layer.param.recurrent_param.num_output)]


def blobs(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """The blobs that an LSTM or RNN learns."""
    return _lstm_blobs(layer, bottoms) if layer.type == "LSTM" else _rnn_blobs(layer, bottoms)


def _lstm_blobs(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """Four gates: input, forget, output, and what is remembered (lstm_layer.cpp)."""
    return _weights(layer, bottoms, 4 * layer.param.recurrent_param.num_output)


def _rnn_blobs(layer: LayerSpec, bottoms: List[Optional[Shape]]) -> List[BlobShape]:
    """To the hidden state, and from there, with a bias, to the output (rnn_layer.cpp)."""
    outputs = layer.param.recurrent_param.num_output
    return [*_weights(layer, bottoms, outputs), (outputs, outputs), (outputs,)]


def _indicator(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """0 for the first step, 1 behind it; with a bottom the forks differ."""
    fields, block = layer.fork, "continuation_indicator_param."
    steps, sequences = (
        fields.integer(block + "time_step", 0),
        fields.integer(block + "batch_size", 1),
    )
    return None if bottoms or min(steps, sequences) < 1 else [(steps, sequences)]


RULES: Dict[str, Rule] = {
    "ContinuationIndicator": Rule(_indicator, bottoms=(0, 1)),
    **{kind: Rule(_recurrent, (2, 3 + number), (1, 1 + number)) for kind, number in STATES.items()},
}

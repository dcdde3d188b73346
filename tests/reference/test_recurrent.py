"""LSTM and RNN against real Caffe."""

from typing import List, Tuple

import numpy as np
import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from tests.nets import parse_spec
from tests.reference.cases import Case, Shapes, as_caffe, normal

STEPS, SEQUENCES, OUTPUTS = 4, 3, 5
X, CONT = (STEPS, SEQUENCES, 2, 3), (STEPS, SEQUENCES)
STATIC, STATE = (SEQUENCES, 7), (1, SEQUENCES, OUTPUTS)


def continued(expected: Shapes) -> List[np.ndarray]:
    """Sequences that begin, go on, and, as in noise, something between."""
    inputs = normal("recurrent", expected)
    inputs[1] = np.array([[0, 1, 0.5], [1, 1, -0.7], [0, 1, 1.5], [1, 0, 0]], np.float32)
    return inputs


def recurrent(
    name: str, kind: str, *more: Tuple[int, ...], fields: str = "", tops: int = 1
) -> Case:
    """A layer of x, an indicator and ``more`` bottoms."""
    body = f'type: "{kind}" recurrent_param {{ num_output: {OUTPUTS} {fields} }}'
    return Case(name, body, (X, CONT, *more), tops, inputs=continued)


EXPOSED = "expose_hidden: true"
CASES = [
    recurrent("lstm", "LSTM"),
    recurrent("lstm_static", "LSTM", STATIC),
    recurrent("lstm_exposed", "LSTM", STATE, STATE, fields=EXPOSED, tops=3),
    recurrent("lstm_all", "LSTM", STATIC, STATE, STATE, fields=EXPOSED, tops=3),
    recurrent("rnn", "RNN"),
    recurrent("rnn_static", "RNN", STATIC),
    recurrent("rnn_exposed", "RNN", STATE, fields=EXPOSED, tops=2),
    recurrent("rnn_all", "RNN", STATIC, STATE, fields=EXPOSED, tops=2),
]

test_as_caffe = as_caffe(CASES)


@pytest.mark.parametrize(
    ("fields", "bottoms", "message"),
    [
        ("", (X, CONT), "num_output larger than 0"),
        ("num_output: 5", (X[:2], CONT), "a bottom of steps, sequences and values"),
        ("num_output: 5", (X, CONT[::-1]), "an indicator of shape"),
        ("num_output: 5", (X, CONT, STATIC[::-1]), "a shared input of 3 sequences"),
        ("num_output: 5 expose_hidden: true", (X, CONT, STATE), "4 or 5 bottoms"),
        ("num_output: 5 expose_hidden: true", (X, CONT, STATE, CONT), "a state of shape"),
        ("num_output: 5 expose_hidden: true", (X, CONT, STATE, STATE), "as many tops as 1 . 2"),
    ],
)
def test_what_caffe_refuses(fields: str, bottoms: Shapes, message: str) -> None:
    layer = parse_spec(f'name: "it" type: "LSTM" top: "y" recurrent_param {{ {fields} }}')
    with pytest.raises(NetError, match=message):
        shapes.tops(layer, bottoms)


def test_blobs_before_the_bottoms_are_known() -> None:
    layer = parse_spec('name: "it" type: "LSTM" bottom: "x" bottom: "c" top: "y" '
                        "recurrent_param { num_output: 5 }")  # fmt: skip
    assert shapes.blobs(layer, None) == [(20, None), (20,), (20, 5)]

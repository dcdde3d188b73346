"""Activations against real Caffe, and the types it does not have by hand."""

import numpy as np
import pytest

from caffe_merge import reference
from tests.nets import parse_spec
from tests.reference.cases import Case, Shapes, as_caffe, normal


def positive(expected: Shapes) -> list:
    """Inputs of a logarithm or a root."""
    return [np.abs(x) + np.float32(0.1) for x in normal("positive", expected)]


CASES = [
    Case("abs", 'type: "AbsVal"'),
    Case("bnll", 'type: "BNLL"'),
    Case("dropout", 'type: "Dropout" dropout_param { dropout_ratio: 0.7 }'),
    Case("elu", 'type: "ELU" elu_param { alpha: 0.3 }'),
    Case("exp", 'type: "Exp"'),
    Case("exp_shift", 'type: "Exp" exp_param { scale: 0.5 shift: 2 }'),
    Case("exp_base", 'type: "Exp" exp_param { base: 2 scale: 3 shift: -1 }'),
    Case("log", 'type: "Log"', inputs=positive),
    Case("log_base", 'type: "Log" log_param { base: 10 scale: 3 shift: 0.5 }', inputs=positive),
    Case("log_negative", 'type: "Log"'),
    Case("power", 'type: "Power" power_param { power: 3 scale: 0.5 shift: 1 }'),
    Case("power_1", 'type: "Power" power_param { scale: -2 shift: 1 }'),
    Case("power_root", 'type: "Power" power_param { power: 0.5 }', inputs=positive),
    Case("power_of_negative", 'type: "Power" power_param { power: 0.5 }'),
    Case("power_0", 'type: "Power" power_param { power: 0 shift: 3 }'),
    Case("power_scale_0", 'type: "Power" power_param { power: 2 scale: 0 shift: 3 }'),
    Case("prelu", 'type: "PReLU"'),
    Case("prelu_shared", 'type: "PReLU" prelu_param { channel_shared: true }'),
    Case("prelu_2d", 'type: "PReLU"', ((3, 4),)),
    Case("relu", 'type: "ReLU"'),
    Case("relu_slope", 'type: "ReLU" relu_param { negative_slope: 0.1 }'),
    Case("relu_5d", 'type: "ReLU"', ((2, 3, 2, 3, 2),)),
    Case("sigmoid", 'type: "Sigmoid"'),
    Case("swish", 'type: "Swish" swish_param { beta: 1.5 }'),
    Case("tanh", 'type: "TanH"'),
    Case("threshold", 'type: "Threshold" threshold_param { threshold: 0.3 }'),
]


test_as_caffe = as_caffe(CASES)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('type: "Clip" clip_param { min: -1 max: 2 }', [-1, -0.5, 0, 2]),
        ('type: "ReLU" relu_param { negative_slope: 0.5 }', [-1.5, -0.25, 0, 4]),
        ('type: "AbsVal"', [3, 0.5, 0, 4]),
        ('type: "Power" power_param { power: 2 scale: 2 shift: 1 }', [25, 0, 1, 81]),
        ('type: "Exp" exp_param { base: 2 }', [0.125, 2**-0.5, 1, 16]),
        ('type: "Exp" exp_param { base: 4 scale: 0.5 shift: 1 }', [0.5, 2**1.5, 4, 64]),
        ('type: "Threshold"', [0, 0, 0, 1]),
        ('type: "Sigmoid"', [1 / (1 + np.exp(-x)) for x in (-3, -0.5, 0, 4)]),
        ('type: "Swish"', [x / (1 + np.exp(-x)) for x in (-3, -0.5, 0, 4)]),
        ('type: "ELU" elu_param { alpha: 2 }', [2 * np.expm1(-3), 2 * np.expm1(-0.5), 0, 4]),
        ('type: "BNLL"', [np.log(1 + np.exp(x)) for x in (-3, -0.5, 0, 4)]),
    ],
    ids=lambda value: value[7:12] if isinstance(value, str) else "",
)
def test_by_hand(body: str, expected: list) -> None:
    x = np.array([-3, -0.5, 0, 4])
    (y,) = reference.forward(parse_spec(f'{body} top: "y"'), [], [x])
    np.testing.assert_allclose(y, expected, rtol=1e-14, atol=0)


def test_large_values_do_not_overflow() -> None:
    x = np.array([-1e4, 1e4])
    for kind, expected in (("Sigmoid", [0, 1]), ("Swish", [0, 1e4]), ("BNLL", [0, 1e4])):
        (y,) = reference.forward(parse_spec(f'type: "{kind}" top: "y"'), [], [x])
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "body",
    [
        'type: "Dropout" phase: TRAIN',
        'type: "Log" log_param { base: 1 }',
        'type: "Exp" exp_param { base: 0 }',
        'type: "Exp" exp_param { base: -2 }',
    ],
)
def test_unsupported_says_which_layer(body: str) -> None:
    with pytest.raises(reference.Unsupported, match="layer 'me' "):
        reference.forward(parse_spec(f'name: "me" {body} top: "y"'), [], [np.ones(3)])

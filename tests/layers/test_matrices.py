"""What is told of weights is what numpy tells of them all."""

from typing import List

import numpy as np
import pytest

from caffe_merge.formats.weights.blobs import Computed, Dense, Scaled
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.matrices import facts
from tests.nets import make_layer

TYPES = {
    "Convolution": "convolution_param { num_output: 9 kernel_size: 2 }",
    "Deconvolution": "convolution_param { num_output: 9 kernel_size: 2 }",
    "InnerProduct": "inner_product_param { num_output: 9 }",
    "Transposed": "inner_product_param { num_output: 9 transpose: true }",
}


def layer_of(kind: str, matrix: np.ndarray, bias: np.ndarray) -> Layer:
    """A layer whose weights are ``matrix``, (outputs, inputs, 2, 2)."""
    product = kind in ("InnerProduct", "Transposed")
    weights = matrix.reshape(len(matrix), -1) if product else matrix
    if kind in ("Deconvolution", "Transposed"):
        weights = np.swapaxes(weights, 0, 1)
    name = "InnerProduct" if product else kind
    return make_layer(f'type: "{name}" {TYPES[kind]}', weights, bias)


def spoilt() -> List[np.ndarray]:
    """Weights with outputs of 0 (2, 6), never above 0 (3), alike (1, 4, 8), inputs of 0 (5)."""
    random = np.random.default_rng(3)
    matrix, bias = random.standard_normal((9, 7, 2, 2)), -np.abs(random.standard_normal(9))
    matrix[:, 5] = 0
    matrix[[2, 6]] = 0
    matrix[3] = -np.abs(matrix[3])
    matrix[7] = -np.abs(matrix[7])
    bias[7] = 0.1
    matrix[[4, 8]], bias[[4, 8]] = matrix[1], bias[1]
    matrix[0, :2], matrix[0, 6] = 0, -0.0
    return [matrix, bias]


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_0_of_one_sign_or_alike(kind: str) -> None:
    actual = facts(layer_of(kind, *spoilt()))
    width = len(actual.zero_inputs) // 7
    assert np.flatnonzero(actual.zero_outputs).tolist() == [2, 6]
    assert np.flatnonzero(actual.never_positive).tolist() == [2, 3, 6]
    assert np.flatnonzero(actual.zero_inputs.reshape(7, width).all(axis=1)).tolist() == [5]
    assert actual.alike.tolist() == [0, 1, 2, 3, 1, 5, 6, 7, 1]
    assert actual.has_alike
    assert not actual.is_plain


def test_of_weights_that_are_computed() -> None:
    """As they will be written: a multiplier of 0, and values that round to 0."""
    layer = layer_of("Convolution", *spoilt())
    matrix = layer.blobs[0].float64()
    factors = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1e-60]).reshape(-1, 1, 1, 1)
    for blob in (
        Scaled(Dense(matrix), factors),
        Scaled(Scaled(Dense(matrix), factors), np.full((1, 7, 1, 1), 0.5)),
        Computed(matrix.shape, lambda rows: (matrix * factors)[rows]),
    ):
        layer.blobs = (blob, layer.blobs[1])
        assert np.flatnonzero(facts(layer).zero_outputs).tolist() == [2, 5, 6, 8]


def test_plain_weights() -> None:
    random = np.random.default_rng(3)
    plain = layer_of("Convolution", random.standard_normal((9, 7, 2, 2)), np.zeros(9))
    assert facts(plain).is_plain

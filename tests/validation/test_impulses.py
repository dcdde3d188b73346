"""What a linear layer makes of impulses, held against its forward pass on them."""

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.validation import impulses
from tests.nets import make_layer

CONV = 'type: "Convolution" convolution_param { num_output: %d kernel_size: %d group: %d }'
DECONV = 'type: "Deconvolution" convolution_param { num_output: %d kernel_size: %d group: %d }'
AXIS = "convolution_param { axis: %d }"
PRODUCT = 'type: "InnerProduct" inner_product_param { num_output: %d %s }'


def impulses_of(depth: int) -> np.ndarray:
    """The impulses (impulses, depth) of an output with so many weights: what an identity gives."""
    response = impulses.impulse_response(
        make_layer(PRODUCT % (depth, ""), np.eye(depth)).param, [np.eye(depth)], 2
    )
    assert response is not None
    return response.values[:-1]


@pytest.mark.parametrize("depth", [1, 3, 9, 27, 64, 147, 486])
def test_each_value_is_on_in_one_impulse(depth: int) -> None:
    values = impulses_of(depth)
    assert ((values != 0).sum(axis=0) == 1).all()
    assert (np.abs(values[values != 0]) >= impulses.SIZE / 2).all()
    assert ((values != 0).sum(axis=1) <= (1 if depth <= 256 else 16)).all()


@pytest.mark.parametrize(
    ("text", "weights", "bottom"),
    [
        (CONV % (5, 3, 1), (5, 7, 3, 3), (7, 3, 3)),
        (CONV % (6, 2, 3), (6, 4, 2, 2), (12, 2, 2)),
        (CONV % (8, 3, 8), (8, 1, 3, 3), (8, 3, 3)),
        (PRODUCT % (5, ""), (5, 486), (486,)),
        (PRODUCT % (5, "transpose: true"), (40, 5), (40,)),
        (PRODUCT % (5, "axis: -1"), (5, 40), (40,)),
        (CONV % (5, 3, 1) + AXIS % -3, (5, 7, 3, 3), (7, 3, 3)),
    ],
    ids=["convolution", "grouped", "depthwise", "product", "transposed", "axis -1", "axis -3"],
)
def test_answers_are_those_of_the_forward_pass(text: str, weights: tuple, bottom: tuple) -> None:
    random = np.random.default_rng(1)
    outputs = 5 if len(weights) == 2 else weights[0]
    blobs = [random.standard_normal(weights), random.standard_normal(outputs)]
    param = make_layer(text, *blobs).param
    group = int(param.convolution_param.group)
    values = impulses_of(int(np.prod(bottom)) // group)
    fed = np.concatenate([np.tile(values, group), np.zeros((1, values.shape[1] * group))])
    (right,) = reference.forward(LayerSpec(param), blobs, [fed.reshape(-1, *bottom)])
    response = impulses.impulse_response(param, blobs, 1 + len(bottom))
    assert response is not None
    np.testing.assert_allclose(response.values, right, rtol=1e-12, atol=1e-12 * np.abs(right).max())


@pytest.mark.parametrize("group", [1, 3])
def test_a_deconvolution_answers_with_its_kernel(group: int) -> None:
    random = np.random.default_rng(1)
    blobs = [random.standard_normal((12, 2, 3, 3)), random.standard_normal(2 * group)]
    param = make_layer(DECONV % (2 * group, 3, group), *blobs).param
    values = impulses_of(12 // group)
    fed = np.concatenate([np.tile(values, group), np.zeros((1, 12))])
    (right,) = reference.forward(LayerSpec(param), blobs, [fed.reshape(-1, 12, 1, 1)])
    response = impulses.impulse_response(param, blobs, 4)
    assert response is not None
    np.testing.assert_allclose(response.values, right, rtol=1e-12, atol=1e-12 * np.abs(right).max())


def test_a_layer_that_is_not_linear_has_no_answer() -> None:
    assert impulses.impulse_response(make_layer('type: "ReLU"').param, [], 4) is None
    odd = make_layer('type: "InnerProduct" inner_product_param { num_output: 2 axis: 2 }')
    assert impulses.impulse_response(odd.param, [np.ones((2, 3))], 4) is None

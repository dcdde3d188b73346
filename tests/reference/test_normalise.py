"""BatchNorm, LRN, MVN and Softmax against real Caffe."""

from typing import Callable, List

import numpy as np
import pytest

from caffe_merge import reference
from tests.nets import parse_spec
from tests.reference.cases import Case, Shapes, as_caffe, normal


def statistics(factor: float) -> Callable[[Shapes], List[np.ndarray]]:
    """Blobs of a BatchNorm: mean, positive variance, ``factor``."""

    def make(expected: Shapes) -> List[np.ndarray]:
        mean, variance, first = normal("bn", expected)
        return [mean, np.abs(variance) + np.float32(0.1), np.full_like(first, factor)]

    return make


def bn(name: str, param: str, *bottoms: tuple, factor: float = 2.5) -> Case:
    """A BatchNorm with random statistics."""
    body = f'type: "BatchNorm" batch_norm_param {{ {param} }}'
    return Case(name, body, bottoms or ((2, 6, 7, 5),), make=statistics(factor))


CASES = [
    bn("bn", ""),
    bn("bn_eps", "eps: 0.01"),
    bn("bn_factor_0", "eps: 0.5", factor=0),
    bn("bn_of_stored", "use_global_stats: true"),
    bn("bn_2d", "", (4, 6)),
    bn("bn_3d", "", (4, 6, 3)),
    bn("bn_5d", "", (2, 3, 4, 5, 6)),
    Case("lrn", 'type: "LRN"'),
    Case("lrn_param", 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }'),
    Case("lrn_wide", 'type: "LRN" lrn_param { local_size: 15 alpha: 2 }'),
    Case(
        "lrn_within",
        'type: "LRN" lrn_param { local_size: 3 alpha: 2 k: 5 norm_region: WITHIN_CHANNEL }',
    ),
    Case("mvn", 'type: "MVN"'),
    Case("mvn_mean", 'type: "MVN" mvn_param { normalize_variance: false }'),
    Case("mvn_across", 'type: "MVN" mvn_param { across_channels: true eps: 0.1 }'),
    Case("mvn_2d", 'type: "MVN" mvn_param { across_channels: true }', ((2, 6),)),
    Case("softmax", 'type: "Softmax"'),
    Case("softmax_last", 'type: "Softmax" softmax_param { axis: -1 }'),
    Case("softmax_0", 'type: "Softmax" softmax_param { axis: 0 }', ((3, 4),)),
    Case(
        "softmax_large",
        'type: "Softmax"',
        ((3, 4),),
        inputs=lambda expected: [1000 * x for x in normal("large", expected)],
    ),
]


test_as_caffe = as_caffe(CASES)


def test_batch_norm_by_hand() -> None:
    layer = parse_spec('type: "BatchNorm" top: "y" batch_norm_param { eps: 1 }')
    blobs = [np.array([4.0, 0.0]), np.array([6.0, 16.0]), np.array([2.0])]
    (y,) = reference.forward(layer, blobs, [np.array([[4.0, 3.0]])])
    np.testing.assert_allclose(y, [[(4 - 2) / 2, (3 - 0) / 3]])


@pytest.mark.parametrize("how", ["batch_norm_param { use_global_stats: false }", "phase: TRAIN"])
def test_batch_norm_of_batch_statistics(how: str) -> None:
    """By hand: the Caffe that tests run (kendryte-caffe 1.0) has this path cut out."""
    x = normal("x", [(4, 3, 2, 5)])[0].astype(np.float64)
    unused = [np.full(shape, 9.0) for shape in (3, 3, 1)]
    (y,) = reference.forward(parse_spec(f'type: "BatchNorm" top: "y" {how}'), unused, [x])
    for channel in range(3):
        values = x[:, channel]
        expected = (values - values.mean()) / np.sqrt(((values - values.mean()) ** 2).mean() + 1e-5)
        np.testing.assert_allclose(y[:, channel], expected, rtol=1e-12)


def test_lrn_within_channel_by_hand() -> None:
    """A mean over 3 x 3, padding included, and no k."""
    region = "norm_region: WITHIN_CHANNEL"
    body = f'type: "LRN" top: "y" lrn_param {{ local_size: 3 alpha: 9 beta: 1 k: 5 {region} }}'
    (y,) = reference.forward(parse_spec(body), [], [np.array([[[[1.0, 2.0]]]])])
    np.testing.assert_allclose(y, [[[[1 / (1 + 5), 2 / (1 + 5)]]]])


def test_mvn_adds_eps_to_the_deviation() -> None:
    layer = parse_spec('type: "MVN" top: "y" mvn_param { eps: 1 }')
    (y,) = reference.forward(layer, [], [np.array([[[[1.0, 5.0]]]])])
    np.testing.assert_allclose(y, [[[[-2 / 3, 2 / 3]]]])


def test_lrn_by_hand() -> None:
    layer = parse_spec('type: "LRN" top: "y" lrn_param { local_size: 3 alpha: 3 beta: 0.5 k: 2 }')
    (y,) = reference.forward(layer, [], [np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)])
    np.testing.assert_allclose(y.ravel(), [1 / 7**0.5, 2 / 16**0.5, 3 / 15**0.5])

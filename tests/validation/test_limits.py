"""How far nets may differ."""

import numpy as np
import pytest

from caffe_merge.validation.limits import limit, may_explain, nudged
from tests.nets import make_layer


@pytest.mark.parametrize(
    ("noise", "expected"),
    [(None, 1e-5), (0.0, 1e-5), (1e-6, 1e-5), (1e-5, 4e-5), (1e-2, 1e-3), (float("inf"), 1e-5)],
)
def test_the_limit_follows_the_noise_up_to_a_thousandth(noise: float, expected: float) -> None:
    assert limit(1e-5, noise) == pytest.approx(expected)


def test_weights_are_moved_by_half_a_unit_either_way_the_same_each_time() -> None:
    layer = make_layer('type: "Scale"', np.ones(3))
    blob = np.asarray(np.random.default_rng(0).standard_normal(1000), np.float32).astype(np.float64)
    (moved,) = nudged(layer, [blob])
    half = np.spacing(np.abs(blob).astype(np.float32)) / 2
    np.testing.assert_array_equal(np.abs(moved - blob), half)
    assert 300 < np.sum(moved > blob) < 700
    np.testing.assert_array_equal(moved, nudged(layer, [blob])[0])


def test_values_below_the_smallest_normal_float32_are_moved_by_half_of_its_smallest() -> None:
    layer = make_layer('type: "Scale"', np.ones(3))
    blob = np.array([1.3e-41, -1.4e-45, 1.2e-38, 0.0], np.float32).astype(np.float64)
    (moved,) = nudged(layer, [blob])
    np.testing.assert_array_equal(np.abs(moved - blob), [2.0**-150] * 3 + [0])


def test_another_seed_is_tried_where_its_noise_may_explain_the_error() -> None:
    assert may_explain(4.5e-6, 4.8e-5)
    assert not may_explain(1e-7, 3e-5)
    assert not may_explain(1e-3, 2e-3), "no noise explains as much"

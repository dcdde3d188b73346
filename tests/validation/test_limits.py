"""How far nets may differ."""

import numpy as np
import pytest

from caffe_merge.validation.limits import limit, nudged
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

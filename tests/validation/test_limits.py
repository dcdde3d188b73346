"""How far nets may differ."""

from pathlib import Path

import numpy as np
import pytest

from caffe_merge.validation import validate
from caffe_merge.validation.limits import limit, may_explain, nudged
from tests.nets import make_layer, prototxt, seeded, write_pair


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


def test_noise_goes_on_behind_a_blob_that_it_excuses(tmp_path: Path) -> None:
    """BatchNorm's variance is small, and weights grow; a script gave the layers other names."""
    head = "data 1 3 32 32", "c: Convolution data -> %s { convolution_param { %s } }"
    tail = (
        "{0}t: TanH bn -> t",
        "{0}d: Dropout t -> d",
        "e: Convolution d -> e { convolution_param { num_output: 4 kernel_size: 1 } }",
        "x: TanH e -> x",
    )
    conv = "num_output: 8 kernel_size: 3"
    before = (head[0], head[1] % ("c", conv), "bn: BatchNorm c -> bn", *tail)
    after = (head[0], "new_" + head[1] % ("bn", conv), *tail)
    random = np.random.default_rng(1)
    kernel, bias = (random.standard_normal(shape).astype(np.float32) for shape in ((8, 3, 3, 3), 8))
    mean = random.standard_normal(8)
    variance = (random.uniform(0.5, 2, 8) * 1e-5).astype(np.float32)
    last = [random.standard_normal((4, 8, 1, 1)), random.standard_normal(4)]
    factor = 1 / np.sqrt(variance.astype(np.float64) + 1e-5)
    folded = [kernel * factor[:, None, None, None], (bias - mean) * factor]
    weights = {"c": [kernel, bias], "bn": [mean, variance, np.ones(1)], "e": last}
    text, new_text = prototxt(*before).replace("{0}", ""), prototxt(*after).replace("{0}", "new_")
    pairs = [
        write_pair(tmp_path, text, weights, "before"),
        write_pair(tmp_path, new_text, {"new_c": folded, "e": last}, "after"),
    ]
    comparison = validate(*pairs)
    assert comparison.ok, comparison.summary()
    assert {blob.name for blob in comparison.blobs if (blob.noise or 0) > 1e-5} == {"t", "d"}


def test_what_lies_in_front_of_equal_values_is_no_noise(tmp_path: Path) -> None:
    """Rounding is worth much in the difference of two blobs, which both nets have the same."""
    conv = "Convolution data -> %s { convolution_param { num_output: 4 kernel_size: 3 } }"
    lines = (
        "data 2 3 8 8",
        f"a: {conv % 'a'}",
        f"b: {conv % 'b'}",
        "s: Eltwise a b -> s { eltwise_param { coeff: 1 coeff: -1 } }",
        "f: InnerProduct s -> f { inner_product_param { num_output: 3 axis: 2 } }",
    )
    blobs = seeded(prototxt(*lines))
    blobs["b"] = [blob * np.float32(1 + 1e-4) for blob in blobs["a"]]
    wrong = {**blobs, "f": [blob.copy() for blob in blobs["f"]]}
    wrong["f"][0][1] *= 1.005
    text = prototxt(*lines)
    before, after = (
        write_pair(tmp_path, text, weights, stem)
        for stem, weights in (("before", blobs), ("after", wrong))
    )
    assert validate(before, before).ok
    comparison = validate(before, after)
    assert comparison.status == "failed", comparison.summary()

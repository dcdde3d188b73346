"""The comparison of two arrays, and the verdict over all of them."""

import json
import math
import weakref
from typing import Any, Iterator

import numpy as np
import pytest

from caffe_merge.validation.compare import BlobResult, Comparison, InputUsed, compare, judge, paired
from caffe_merge.validation.workers import Frame

RANDOM = np.random.default_rng(0)
BLOB = RANDOM.standard_normal((2, 3, 4, 5)).astype(np.float32)


def result(error: float = 0.0, name: str = "a", remark: str = "") -> BlobResult:
    """A blob's result, of an array that differs by ``error`` of its largest value in one place."""
    old = np.linspace(-4, 3, 7)
    new = old.copy()
    new[2] += 4 * error
    made = compare(name, old, new)
    assert not made.remark
    return type(made)(**{**made.__dict__, "remark": remark})


def test_errors_are_relative_to_the_old_blobs_largest_absolute_value() -> None:
    old, new = np.array([-4.0, 1, 0, 2]), np.array([-4.0, 1, 0.02, 2])
    made = compare("a", old, new)
    assert made.max_error == pytest.approx(0.005)
    assert made.rms_error == pytest.approx(0.0025)
    assert made.cosine == pytest.approx(
        np.dot(old, new) / np.linalg.norm(old) / np.linalg.norm(new)
    )
    assert (made.problem, made.remark, made.shape) == ("", "", (4,))
    np.testing.assert_array_equal(old, [-4, 1, 0, 2])  # untouched


def test_equal_blobs_have_no_error() -> None:
    made = compare("a", BLOB, BLOB.copy())
    assert (made.max_error, made.rms_error) == (0, 0)
    assert made.cosine == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_very_large_blobs_are_measured_too(size: float) -> None:
    old = BLOB.astype(np.float64) * size
    made = compare("a", old, old + np.eye(4, 5) * old.max() * 1e-3)
    assert 1e-4 < made.max_error < 1e-2
    assert made.cosine == pytest.approx(1, abs=1e-5)


def test_float32_and_float64_of_one_blob_agree_to_rounding() -> None:
    exact = RANDOM.standard_normal((3, 4))
    assert 0 < compare("a", exact, exact.astype(np.float32)).max_error < 1e-7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails_on_either_side(bad: float) -> None:
    broken = BLOB.copy()
    broken[1, 2, 3, 4] = bad
    assert compare("a", broken, BLOB).problem == "it was not finite before the merge"
    assert compare("a", BLOB, broken).problem == "it is not finite after the merge"
    both = compare("a", broken, broken)
    assert "not finite" in both.problem
    assert judge([both], 1e-5, [], set(), [])[0] == "inconclusive"  # no fault of the merge
    after = compare("a", BLOB, broken)
    assert judge([after], 1e-5, [], set(), [])[0] == "failed"


def test_another_shape_fails_even_with_the_same_values() -> None:
    made = compare("a", BLOB, BLOB.reshape(2, 3, 5, 4))
    assert made.problem == "its shape was (2, 3, 4, 5) and is (2, 3, 5, 4)"
    assert math.isinf(made.max_error)


@pytest.mark.parametrize(
    ("array", "remark"),
    [
        (np.zeros((2, 3)), "all zero"),
        (np.full((2, 3), -7.0), "constant"),
        (np.full((2, 3), 7.0) + np.eye(2, 3) * 1e-6, "constant"),
        (np.full((2, 3), 7.0) + np.eye(2, 3) * 1e-4, ""),
        (np.arange(3.0).reshape(1, 3, 1, 1) + np.zeros((2, 3, 4, 4)), "constant in every channel"),
        (np.arange(3.0).reshape(1, 3, 1, 1) + np.zeros((2, 3, 1, 1)), ""),
        (np.array([[0, 1, 1e-9], [1 - 1e-9, 0, 0]]), "saturated at 0 and 1"),
        (np.array([[0, 1, 1e-3], [1, 0, 0]]), ""),
        (np.array([[0, 2.0], [2, 0]]), ""),
        (np.array([[0.3]]), ""),
        (np.zeros((0, 3)), "empty"),
    ],
)
def test_what_proves_little_is_remarked(array: np.ndarray, remark: str) -> None:
    made = compare("a", array, array.copy())
    assert (made.remark, made.max_error, made.problem) == (remark, 0, "")


def test_zero_before_and_not_after_fails() -> None:
    made = compare("a", np.zeros(3), np.array([0, 0, 1e-9]))
    assert made.problem == "it was all zero before the merge, and is not after"


def test_argmax_agreement_is_per_sample_and_position_for_outputs_only() -> None:
    old = np.array([[1.0, 2, 3], [3, 2, 1], [0, 1, 0], [5, 4, 4]])
    new = old.copy()
    new[3] = [4, 5, 4]
    assert compare("a", old, new, output=True).argmax_agreement == 0.75
    assert compare("a", old, new).argmax_agreement is None
    assert compare("a", old[:, :1], old[:, :1], output=True).argmax_agreement is None
    maps = RANDOM.standard_normal((1, 4, 2, 2))
    other = maps.copy()
    other[0, :, 0, 0] *= -1
    assert compare("a", maps, other, output=True).argmax_agreement == 0.75


def test_the_first_blob_beyond_the_limit_is_named_not_the_worst() -> None:
    results = [result(1e-9, "a"), result(2e-3, "b"), result(0.5, "c")]
    status, reason = judge(results, 1e-5, [], set(), [])
    assert status == "failed"
    assert reason == (
        "blob 'b' differs by 0.002 of its largest value, limit 1e-05 (the first of 2 such blobs)"
    )
    assert judge(results[:1], 1e-5, [], set(), []) == ("passed", "")


def test_an_error_that_is_not_a_number_does_not_pass() -> None:
    broken = result()
    broken = type(broken)(**{**broken.__dict__, "max_error": math.nan})
    assert judge([broken], 1e-5, [], set(), [])[0] == "failed"


def test_a_missing_output_fails_whatever_else_agrees() -> None:
    verdict = judge([result()], 1e-5, ["prob", "box"], {"prob", "a"}, [])
    assert verdict == ("failed", "the merged net has no output 'box'")


def test_nothing_compared_is_inconclusive_and_says_why() -> None:
    assert judge([], 1e-5, [], set(), []) == (
        "inconclusive",
        "no blob could be compared: the two nets share no blob name",
    )
    reason = judge([], 1e-5, [], set(), [("a", "layer 'x' (Foo): unknown")])[1]
    assert reason == "no blob could be compared: layer 'x' (Foo): unknown"


def test_blobs_that_are_all_constant_prove_nothing_but_one_that_is_not_does() -> None:
    dull = [result(name="a", remark="constant"), result(name="b", remark="all zero")]
    status, reason = judge(dull, 1e-5, [], set(), [])
    assert status == "inconclusive"
    assert "do not excite" in reason
    assert judge([*dull, result(name="c")], 1e-5, [], set(), [])[0] == "passed"


def frames(*names: str) -> Iterator[Frame]:
    for name in names:
        yield Frame({"name": name}, np.zeros(1))


def test_streams_in_another_order_are_paired_by_name() -> None:
    common = {"a", "b", "c"}
    pairs = list(paired(frames("a", "x", "b", "c"), frames("y", "c", "a", "z", "b"), common))
    assert [name for name, _, _ in pairs] == ["a", "b", "c"]
    assert all(name == old.header["name"] == new.header["name"] for name, old, new in pairs)


def test_the_new_stream_is_read_no_further_than_needed() -> None:
    new = frames("a", "b", "c")
    stream = paired(frames("a", "b", "c"), new, {"a", "b", "c"})
    next(stream)
    assert next(new).header["name"] == "b"


def test_what_only_one_net_has_is_not_kept() -> None:
    kept = []

    def traced(*names: str) -> Iterator[Frame]:
        for frame in frames(*names):
            kept.append((frame.header["name"], weakref.ref(frame.array)))
            yield frame
            del frame

    stream = paired(traced("x", "a", "b"), traced("y", "b", "z", "a"), {"a", "b"})
    first = next(stream)
    assert first[0] == "a"
    assert [name for name, array in kept if array() is not None] == ["a", "b", "a"]


def comparison(**changes: Any) -> Comparison:
    fields = {
        "status": "passed",
        "reason": "",
        "engine": "reference",
        "limit": 1e-5,
        "worst": ("a", 2e-8),
        "first_beyond": None,
        "blobs": (result(2e-8),),
        "unjudged": (),
        "inputs": (InputUsed("data", (1, 3, 8, 8), 0, ""),),
        "only_before": 0,
        "only_after": 0,
        "seconds": (0.1, 0.2),
    }
    return Comparison(**{**fields, **changes})


def test_only_passed_is_ok() -> None:
    assert comparison().ok
    assert not comparison(status="failed").ok
    assert not comparison(status="inconclusive").ok


def test_json_is_strict_and_has_everything() -> None:
    broken = compare("b", BLOB, BLOB * np.nan)
    made = comparison(status="failed", blobs=(result(), broken), worst=("b", math.inf))
    back = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert back["ok"] is False
    assert back["worst"] == ["b", None]
    assert back["blobs"][1]["max_error"] is None
    assert back["blobs"][1]["problem"] == "it is not finite after the merge"
    assert back["inputs"] == [{"name": "data", "shape": [1, 3, 8, 8], "seed": 0, "note": ""}]


def test_the_summary_leads_with_the_verdict_and_hides_no_qualification() -> None:
    made = comparison(
        blobs=(result(), result(name="dull", remark="constant")),
        unjudged=tuple((name, "layer 'x' (Foo): unknown") for name in "pq"),
        inputs=(InputUsed("data", (1, 3, 8, 8), 0, "smaller than declared, to save time"),),
    )
    assert made.summary().splitlines() == [
        "validation (reference): passed, 2 blobs compared",
        "worst error 2e-08 in 'a', limit 1e-05",
        "input 'data': 1x3x8x8, smaller than declared, to save time",
        "proves little: 'dull' is constant",
        "2 blobs not judged: layer 'x' (Foo): unknown",
    ]
    failed = comparison(status="failed", reason="the merged net has no output 'box'")
    assert failed.summary().startswith("validation (reference): failed: the merged net has no")

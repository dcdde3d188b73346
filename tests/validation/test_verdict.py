"""The verdict over all that was found, and what is said of it."""

import json
import math
from dataclasses import replace
from typing import Any, Optional, Tuple

import numpy as np
import pytest

from caffe_merge.validation.compare import BlobResult, compare
from caffe_merge.validation.seen import Seen
from caffe_merge.validation.verdict import Comparison, Evidence, InputUsed, judge


def result(
    error: float = 0.0, name: str = "a", remark: Optional[str] = None, **more: Any
) -> BlobResult:
    """A blob's result, of an array that differs by ``error`` of its largest value in one place."""
    old = np.linspace(-4, 3, 7)
    new = old.copy()
    new[2] += 4 * error
    return replace(compare(name, old, new), remark=remark, limit=1e-5, **more)


def verdict(*blobs: BlobResult, allow: bool = False, **more: Any) -> Tuple[str, str]:
    """What `judge` makes of these results, of a net whose output is "a"."""
    return judge(Evidence(blobs, **{"outputs": ("a",), **more}), allow, "reference")


def test_the_first_blob_beyond_its_limit_is_named_not_the_worst() -> None:
    results = [result(1e-9), result(2e-3, "b"), result(0.5, "c")]
    status, reason = verdict(*results)
    assert status == "failed"
    assert reason == (
        "blob 'b' differs by 0.002 of its largest value, limit 1e-05 (the first of 2 such blobs)"
    )
    assert verdict(results[0]) == ("passed", "")


def test_each_blob_has_a_limit_of_its_own() -> None:
    assert verdict(replace(result(2e-5), limit=4e-5)) == ("passed", "")
    assert verdict(replace(result(2e-5), limit=1e-6))[0] == "failed"


def test_an_error_that_is_not_a_number_does_not_pass() -> None:
    assert verdict(replace(result(), max_error=math.nan))[0] == "failed"


def test_what_was_not_finite_before_is_no_fault_of_the_merge() -> None:
    broken = compare("a", np.array([1, np.nan]), np.array([1, np.nan]))
    status, reason = verdict(broken)
    assert (status, "try other values by input_scale" in reason) == ("inconclusive", True)
    assert verdict(compare("a", np.ones(2), np.array([1, np.nan])))[0] == "failed"


def test_what_differs_behind_a_blob_that_was_not_finite_is_its_fault_unless_it_was_cut_off() -> (
    None
):
    """An engine that runs whole nets cannot tell; one that goes layer by layer can."""
    broken = compare("a", np.array([1, np.nan]), np.array([1, np.nan]))
    assert verdict(broken, result(0.5, "b"))[0] == "inconclusive"
    status, reason = verdict(broken, result(0.5, "b"), layer_by_layer=True)
    assert (status, reason[:20]) == ("failed", "blob 'b' differs by ")
    assert verdict(broken, result(0, "b"), layer_by_layer=True)[0] == "inconclusive"
    assert verdict(result(0.5, "b"), broken)[0] == "failed"


def test_a_missing_output_fails_whatever_else_agrees() -> None:
    message = verdict(result(), missing=("box",))
    assert message == ("failed", "the merged net has no output 'box': it has none")


def test_nothing_compared_is_inconclusive_and_says_why() -> None:
    assert verdict() == (
        "inconclusive",
        "no blob could be compared: the two nets share no blob name",
    )
    reason = verdict(unjudged=(("a", "layer 'x' (Foo): unknown"),))[1]
    assert reason.startswith("no blob could be compared: layer 'x' (Foo): unknown; ways out: ")
    reason = verdict(black_boxes=(("x", "Foo"),))[1]
    assert "there is nothing but 1 black box: 'x' (Foo); ways out: engine pycaffe" in reason


def test_blobs_that_are_all_constant_prove_nothing_but_one_that_is_not_does() -> None:
    dull = [result(name="a", remark="constant"), result(name="b", remark="all zero")]
    status, reason = verdict(*dull)
    assert status == "inconclusive"
    assert "do not excite" in reason
    assert verdict(*dull, result(name="c"))[0] == "passed"


def test_a_rewrite_that_nothing_saw_is_inconclusive_with_the_ways_out() -> None:
    seen = (Seen("conv1", "'a'", 0.01), Seen("conv2", "", 0.0))
    status, reason = verdict(result(), seen=seen, unjudged=(("b", "layer 'x' (Foo): unknown"),))
    assert status == "inconclusive"
    assert reason.startswith(
        "1 of 2 rewrites not seen ('conv2'), behind layer 'x' (Foo): unknown; "
    )
    ways = reason.split("ways out: ")[1]
    assert ways == "engine pycaffe or opencv, input_scale, allow_unseen"
    evidence = Evidence((result(),), ("a",), seen)
    reason = judge(evidence, False, "reference", "validate")[1]  # as a merge has it
    assert reason.endswith(": validate pycaffe or opencv, input_scale, allow_unseen, validate none")
    assert verdict(result(), seen=seen, allow=True) == ("passed", "")


def test_what_dulls_a_blob_is_named_where_a_rewrite_was_not_seen() -> None:
    seen = (Seen("conv", "", 0.0),)
    reason = verdict(result(), result(name="b", remark="all zero"), seen=seen)[1]
    assert "not seen ('conv'): 'b' is all zero" in reason
    reason = verdict(result(), seen=seen)[1]
    assert "not seen ('conv'): with their weights wrong no blob that is compared would" in reason


def test_an_output_that_was_not_judged_is_inconclusive_unless_it_is_a_black_boxs() -> None:
    more = {"outputs": ("a", "box"), "unjudged": (("box", "layer 'd' (Detection): unknown"),)}
    status, reason = verdict(result(), **more)
    assert status == "inconclusive"
    assert reason.startswith(
        "1 output not judged ('box'): layer 'd' (Detection): unknown; ways out"
    )
    assert verdict(result(), held=("box",), **more) == ("passed", "")
    assert verdict(result(), allow=True, **more) == ("passed", "")
    assert verdict(result(name="box", reader="conv"), **more)[0] == "inconclusive"  # not its end


@pytest.mark.parametrize("allow", [False, True])
def test_a_difference_fails_whatever_is_allowed(allow: bool) -> None:
    assert verdict(result(1e-3), seen=(Seen("conv", "", 0.0),), allow=allow)[0] == "failed"


def comparison(**changes: Any) -> Comparison:
    """One that passed, but for ``changes``."""
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
    broken = compare("b", np.ones(3), np.full(3, np.nan))
    verdict = comparison(
        status="failed",
        blobs=(replace(result(), noise=3e-6), broken),
        worst=("b", math.inf),
        seen=(Seen("conv", "'a'", 0.01),),
        black_boxes=(("d", "Detection"),),
    )
    back = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert back["ok"] is False
    assert back["worst"] == ["b", None]
    assert back["blobs"][1]["max_error"] is None
    assert back["blobs"][1]["problem"] == "it is not finite after the merge"
    assert (back["blobs"][0]["problem"], back["blobs"][0]["remark"]) == ("", "")
    assert (back["blobs"][0]["limit"], back["blobs"][0]["noise"]) == (1e-5, 3e-6)
    assert back["seen"] == [{"layer": "conv", "blob": "'a'", "moved": 0.01}]
    assert back["black_boxes"] == [["d", "Detection"]]
    assert back["inputs"] == [{"name": "data", "shape": [1, 3, 8, 8], "seed": 0, "note": ""}]


def test_the_summary_leads_with_the_verdict_and_hides_no_qualification() -> None:
    verdict = comparison(
        blobs=(result(), result(name="dull", remark="constant")),
        unjudged=tuple((name, "layer 'x' (Foo): unknown") for name in "pq"),
        inputs=(InputUsed("data", (1, 3, 8, 8), 0, "smaller than declared, to save time"),),
        seen=(Seen("conv", "'a'", 0.01), Seen("conv2", "", 0.0)),
        renamed=("conv",),
        black_boxes=(("d", "Detection"),),
    )
    assert verdict.summary().splitlines() == [
        "validation (reference): passed, 2 blobs compared, 1 of 2 rewrites seen, "
        "1 black box: 'd' (Detection)",
        "worst error 2e-08 in 'a', limit 1e-05",
        "input 'data': 1x3x8x8, smaller than declared, to save time",
        "blobs that prove little: 'dull' is constant",
        "blobs that hold something else now: 'conv'",
        "2 blobs not judged: layer 'x' (Foo): unknown",
    ]
    failed = comparison(status="failed", reason="the merged net has no output 'box'")
    assert failed.summary().startswith("validation (reference): failed: the merged net has no")


def test_the_summary_tells_a_limit_that_follows_the_net() -> None:
    verdict = comparison(blobs=(replace(result(2e-5), limit=4e-5, noise=1e-5),))
    assert "limits raised to what rounding explains: 'a' 4e-05 (error 2e-05)" in verdict.summary()

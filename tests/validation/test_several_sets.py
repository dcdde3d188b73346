"""What one set of values shows is not forgotten because of what another one does not."""

import itertools
import math
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from caffe_merge.validation import validate
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.judging import Judging, samples
from caffe_merge.validation.pairing import Pairing, Point
from tests.nets import prototxt, seeded, write_pair

# Of small values the ReLU lets nothing through.
DEAD_ON_SMALL = (
    "data 2 3 8 8",
    "c: Convolution data -> c { convolution_param { num_output: 4 kernel_size: 3 } }",
    "r: ReLU c -> r",
    "d: Convolution r -> d { convolution_param { num_output: 5 kernel_size: 2 } }",
)


@pytest.mark.parametrize("engine", ["reference", "pycaffe", "opencv"])
@pytest.mark.parametrize("allow_unseen", [False, True])
def test_what_only_large_values_show_fails(
    tmp_path: Path, engine: str, allow_unseen: bool, caffe_python: Optional[str]
) -> None:
    """The last set of a small net is of small values, and in it both nets give out the bias."""
    blobs = seeded(prototxt(*DEAD_ON_SMALL))
    blobs["c"][1][:] = -5
    wrong = {**blobs, "d": [1.5 * blobs["d"][0], blobs["d"][1]]}
    pairs = [
        write_pair(tmp_path, prototxt(*DEAD_ON_SMALL), weights, stem)
        for weights, stem in ((blobs, "before"), (wrong, "after"))
    ]
    how: Any = {"caffe_python": caffe_python, "allow_unseen": allow_unseen, "limit": 1e-4}
    comparison = validate(*pairs, engine, **how)
    assert comparison.status == "failed", comparison.summary()
    assert comparison.reason.startswith("blob 'd' differs by 0.")


def test_a_bound_that_only_large_values_reach(tmp_path: Path) -> None:
    before = (*DEAD_ON_SMALL[:2], "r: ReLU c -> r")
    after = (*DEAD_ON_SMALL[:2], "r: ReLU6 c -> r")
    blobs = seeded(prototxt(*before))
    pairs = [write_pair(tmp_path, prototxt(*net), blobs, net[2][3:8]) for net in (before, after)]
    assert validate(*pairs).status == "failed"
    assert validate(*pairs, scale=0.01).status == "passed"


POINT = Point("x", ("x", 1), ("x", 1), output=True, firm=True)
RIGHT = np.array([[1.0, 2.0, 3.0]])
BROKEN = np.array([[1.0, np.inf, 3.0]])


def no_findings() -> Findings:
    """Nothing yet, of nets that must agree at POINT."""
    pair = POINT.before, POINT.after
    nothing: Any = frozenset()
    pairing = Pairing(
        points=(POINT,),
        twins={},
        rewritten=(),
        boxes=(),
        outputs=(("x", pair),),
        missing=(),
        added=(),
        sources=nothing,
        unlike=nothing,
        reads=((), ()),
        changed=(nothing, nothing),
    )
    return Findings(pairing, 1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_worst_of_all_sets_counts(order: Any) -> None:
    sets = [(RIGHT, RIGHT), (RIGHT, 1.5 * RIGHT), (RIGHT, RIGHT + 1e-9)]
    findings = no_findings()
    for number in order:
        findings.add(POINT, *sets[number])
    assert not findings.agree()
    assert math.isclose(findings.results[POINT].max_error, 0.5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_fault_counts_before_what_was_not_finite_already(order: Any) -> None:
    sets = [(RIGHT, RIGHT), (BROKEN, BROKEN), (RIGHT, BROKEN), (RIGHT, 1.5 * RIGHT)]
    findings = no_findings()
    for number in order:
        findings.add(POINT, *sets[number])
    assert findings.results[POINT].problem == "it is not finite after the merge"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("factor", [1.5, 1 + 1e-4])
def test_an_error_that_no_rounding_explains_counts_before_it_too(order: Any, factor: float) -> None:
    sets = [(RIGHT, RIGHT), (BROKEN, BROKEN), (RIGHT, factor * RIGHT)]
    findings = no_findings()
    for number in order:
        findings.add(POINT, *sets[number])
    assert (findings.results[POINT].problem is None) == (factor == 1.5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_what_shows_something_on_one_set_is_not_dull(order: Any) -> None:
    findings = no_findings()
    for number in order:
        values = np.array([[[1.0, 2.0]], [[1.0, 1.0]]])[number]
        findings.add(POINT, values, values)
    assert findings.results[POINT].remark is None


def test_what_the_user_gives_is_fed_as_it_is() -> None:
    """Some sets of noise are of absolute values; an array that was given is not noise."""
    given_array = np.full((1, 3), -2, np.float32)
    every = samples(
        {"data": (1, 3, 8, 8), "x": (1, 3)}, Judging(files={"x": given_array}), Cheap(), 1e9
    )
    assert len(every) == 6
    assert all(np.array_equal(sample.before["x"], given_array) for sample in every)
    assert any(sample.before["data"].min() >= 0 for sample in every)


class Cheap:
    """What a net costs that costs next to nothing."""

    def __call__(self, _: Any) -> int:
        return 1

    def largest(self, _: Any) -> int:
        return 1

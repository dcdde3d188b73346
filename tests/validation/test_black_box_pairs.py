"""Pairs in which a layer that cannot be run hides what is wrong: none of them may pass."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.net.pixels import pixel_options
from caffe_merge.validation import validate
from tests.nets import prototxt, seeded, write_pair
from tests.required import required
from tests.validation.test_wrong_pairs import BN, CONSTANTS, CONV, FC, merged

FC_U = FC.replace("c ->", "%s ->")
MYSTERY = "u: Mystery %s -> u"
PRIORS = "p: PriorBox %s data -> p { prior_box_param { fixed_size: 32 density_size: 4 } }"
PYTHON = (
    "p: Python s -> rois { python_param { module: 'rpn' layer: 'Proposal' } }",
    "r: Reshape s -> r { reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 4 } } }",
)
# What a black box reads or makes, or what it takes the place of: both nets have the same weights.
WRONG: Dict[str, Any] = {
    "a layer that cannot be run is gone": (
        ("data 1 3 6 6", CONV % "data", MYSTERY % "c", "r: ReLU u -> r", FC_U % "r"),
        ("data 1 3 6 6", CONV % "data", "r: ReLU c -> r", FC_U % "r"),
    ),
    "one in front of another is gone": (
        ("data 1 3 6 6", "w: Mystery data -> w", MYSTERY % "w", CONV % "u"),
        ("data 1 3 6 6", MYSTERY % "data", CONV % "u"),
    ),
    "what it reads is another input": (
        ("data 1 3 6 6", "b 1 3 6 6", CONV % "data", "u: Mystery data b -> u"),
        ("data 1 3 6 6", "b 1 3 6 6", CONV % "data", "u: Mystery b data -> u"),
    ),
    "its tops have changed places": (
        ("data 1 3 6 6", CONV % "data", "u: Mystery data -> u v"),
        ("data 1 3 6 6", CONV % "data", "u: Mystery data -> v u"),
    ),
    "another top of it is read": (
        (
            "data 1 3 6 6",
            CONV % "data",
            "u: Mystery data -> u v",
            "a: TanH u -> a",
            "b: TanH v -> b",
        ),
        (
            "data 1 3 6 6",
            CONV % "data",
            "u: Mystery data -> u v",
            "a: TanH v -> a",
            "b: TanH u -> b",
        ),
    ),
    "what it reads has another shape": (
        ("data 1 3 6 6", CONV % "data", PYTHON[1].replace("s -> r", "c -> s"), PYTHON[0]),
        ("data 1 3 6 6", CONV % "data", PYTHON[0].replace("s ->", "c ->")),
    ),
    "the shape that it reads is that of another blob": (
        ("data 1 3 6 6", CONV % "data", PRIORS % "c"),
        ("data 1 3 6 6", CONV % "data", PRIORS % "data"),
    ),
    "a loss has other labels": (
        (
            "data 1 3",
            "b 1",
            "d 1",
            "t: TanH data -> t",
            "a: Accuracy data b -> a",
            "e: Accuracy data d -> e",
        ),
        (
            "data 1 3",
            "b 1",
            "d 1",
            "t: TanH data -> t",
            "a: Accuracy data d -> a",
            "e: Accuracy data b -> e",
        ),
    ),
    "an output is read": (
        ("data 1 3 6 6", CONV % "data"),
        ("data 1 3 6 6", CONV % "data", "x: Silence c -> "),
    ),
    "an output more": (
        ("data 1 3 6 6", CONV % "data"),
        ("data 1 3 6 6", CONV % "data", f"{CONSTANTS['DummyData'] % 1}"),
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_black_box_is_the_same_only_if_it_reads_and_makes_the_same(
    kind: str, tmp_path: Path
) -> None:
    weights = {
        "c": [np.random.default_rng(0).standard_normal((4, 3, 3, 3)), np.zeros(4)],
        "ip": [np.random.default_rng(1).standard_normal((2, 64)), np.zeros(2)],
    }
    old, new = (
        write_pair(tmp_path, prototxt(*lines), weights, name)
        for name, lines in zip(("before", "after"), WRONG[kind])
    )
    assert not validate(old, new).ok, validate(old, new).summary()
    same = validate(old, write_pair(tmp_path, prototxt(*WRONG[kind][0]), weights, "same"))
    assert same.ok, same.summary()


def test_what_a_black_box_reads_is_judged_where_what_is_behind_it_was_merged(
    tmp_path: Path,
) -> None:
    """The second comparison, which trusts no names, must not lose it."""
    second = "d: Convolution u -> d { convolution_param { num_output: 2 kernel_size: 3 } }"
    first = ("data 1 3 12 12", CONV % "data", BN, "r: ReLU c -> r")
    lines = (*first, MYSTERY % "r", second, "b2: BatchNorm d -> b2")
    text = prototxt(*lines)
    pair = write_pair(tmp_path, text, seeded(text.replace('"Mystery"', '"TanH"')))
    right = merged(tmp_path, pair)
    assert validate(pair, right).ok
    new = right[0].read_text().replace('bottom: "r"', 'bottom: "c"')
    wrong = tmp_path / "wrong.prototxt"
    wrong.write_text(new)
    assert new != right[0].read_text()
    assert validate(pair, (wrong, right[1])).status == "failed"


def test_constants_that_have_changed_places_are_no_other_nets(tmp_path: Path) -> None:
    """Where their values are given too, the same for both nets by their names."""
    constants = [
        CONSTANTS["DummyData"].replace("own", name).replace("-> p", f"-> {name}") % value
        for name, value in (("p", 1), ("q", 30))
    ]
    lines = ("data 1 3 6 6", *constants, CONV % "data")
    pairs = [
        write_pair(tmp_path, prototxt(*lines, *ends), seeded(prototxt(*lines)), name)
        for name, ends in (
            ("before", ("s: Eltwise c p -> s", "t: Eltwise c q -> t")),
            ("after", ("s: Eltwise c q -> s", "t: Eltwise c p -> t")),
        )
    ]
    assert validate(pairs[0], pairs[0]).ok
    assert validate(*pairs).status == "failed"
    shapes = {"p": (1, 4, 4, 4), "q": (1, 4, 4, 4)}
    assert validate(*pairs, shapes=shapes).status == "failed"


def test_values_for_constants_that_differ_are_refused(tmp_path: Path) -> None:
    lines = ("data 1 3 6 6", "%s", CONV % "data", "s: Eltwise c p -> s")
    pairs = [
        write_pair(
            tmp_path,
            prototxt(lines[0], CONSTANTS["DummyData"] % value, *lines[2:]),
            {"c": [np.ones((4, 3, 3, 3)), np.zeros(4)]},
            str(value),
        )
        for value in (1, 30)
    ]
    assert validate(*pairs).status == "failed"
    for engine in ("reference", "opencv"):
        if engine == "opencv":
            required("cv2", "opencv")
        with pytest.raises(UsageError, match="'p' cannot be given"):
            validate(*pairs, engine, shapes={"p": (1, 4, 4, 4)})


def test_inputs_of_other_shapes_are_compared_at_one_that_the_user_gives(tmp_path: Path) -> None:
    weights = {"c": [np.ones((4, 3, 3, 3)), np.zeros(4)]}
    small, other, larger = (
        write_pair(tmp_path, prototxt(f"data {shape}", CONV % "data"), weights, name)
        for name, shape in (("a", "1 3 6 6"), ("b", "5 3 6 6"), ("c", "1 3 12 9"))
    )
    assert validate(small, other).ok  # the batch is the user's
    with pytest.raises(ValidationError, match="'data' is 1x3x6x6 before, 1x3x12x9 after: "):
        validate(small, larger)
    assert validate(small, larger, shapes={"data": (1, 3, 7, 8)}).ok


def test_what_reads_raw_pixels_and_cannot_be_run_is_not_taken_for_the_same(
    tmp_path: Path,
) -> None:
    text = prototxt("data 1 3 6 6", MYSTERY % "data", "o: TanH u -> o")
    pair = write_pair(tmp_path, text, {"none": []})
    how = {"shapes": {"u": (1, 3, 6, 6)}}
    assert validate(pair, pair, **how).ok
    raw = pixel_options("128", None, False)
    comparison = validate(pair, pair, raw=raw, **how)
    assert comparison.status == "inconclusive"
    assert "what is read by 1 black box: 'u' (Mystery) was not judged" in comparison.reason


IN_PLACE = {
    "sum": "e: Eltwise c d -> %s",
    "LRN": "e: LRN c -> %s { lrn_param { local_size: 3 } }",
    "pool": "e: Pooling c -> %s { pooling_param { kernel_size: 3 stride: 1 pad: 1 } }",
    "1x1": "e: Convolution c -> %s { convolution_param { num_output: 4 kernel_size: 1 } }",
}


@pytest.mark.parametrize("kind", [*IN_PLACE, "product"])
def test_what_caffe_loses_by_writing_in_place_is_not_the_same(kind: str, tmp_path: Path) -> None:
    """Caffe computes other values then, as pycaffe shows: a sum of c and d is d."""
    if kind == "product":  # of these it does not
        line = "e: Eltwise c d -> %s { eltwise_param { operation: PROD } }"
    else:
        line = IN_PLACE[kind]
    second = (CONV % "data").replace("c:", "d:").replace("-> c", "-> d")
    lines = ("data 1 3 6 6", CONV % "data", second, line, "t: TanH %s -> t")
    weights = seeded(prototxt(*lines[:3], line % "e"))
    apart, over = (
        write_pair(tmp_path, prototxt(*(li.replace("%s", top) for li in lines)), weights, top)
        for top in ("e", "c")
    )
    assert validate(over, over).ok  # whatever it is
    assert validate(apart, over).ok == (kind == "product")

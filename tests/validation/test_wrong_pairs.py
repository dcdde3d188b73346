"""Pairs that are right and pairs made wrong on purpose, each kind judged by what it computes."""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import CaffeMergeError, UsageError
from caffe_merge.validation import Comparison, validate
from tests.nets import Pair, load_pair, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe
from tests.required import required

BN = "bn: BatchNorm c -> c"
CONV = "c: Convolution %s -> c { convolution_param { num_output: 4 kernel_size: 3 } }"
FC = "ip: InnerProduct c -> ip { inner_product_param { num_output: 2 } }"
Weights = Dict[str, List[np.ndarray]]


def merged(folder: Path, pair: Pair, wrong: Optional[Dict[str, Any]] = None) -> Pair:
    """The pair as it is merged here; ``wrong`` are factors on the weights of its layers."""
    net = load_pair(pair)
    caffe_merge.merge(net)
    out = folder / "merged.prototxt", folder / "merged.caffemodel"
    for path in out:  # of an earlier call
        if path.exists():
            path.unlink()
    caffe_merge.save(net, str(out[0]), str(out[1]))
    if not wrong:
        return out
    new = load_pair(out)
    blobs = {layer.name: [np.array(b.float64()) for b in layer.blobs] for layer in new.layers}
    for name, factor in wrong.items():
        blobs[name][0] = blobs[name][0] * factor
    return write_pair(folder, out[0].read_text(), blobs, "wrong")


def judged(
    folder: Path,
    *lines: str,
    weights: Optional[Weights] = None,
    wrong: Optional[Dict[str, Any]] = None,
    **how: Any,
) -> Comparison:
    """The net of ``lines`` compared with what it is merged to, perhaps made wrong."""
    text = prototxt(*lines)
    blobs = seeded(text.replace('type: "Mystery"', 'type: "TanH"'))
    pair = write_pair(folder, text, {**blobs, **(weights or {})})
    return validate(pair, merged(folder, pair, wrong), **how)


@pytest.mark.parametrize(
    ("operation", "coeff"),
    [("SUM", ""), ("SUM", "coeff: 1 coeff: -0.5"), ("PROD", ""), ("MAX", "")],
)
def test_bottoms_of_an_eltwise_in_another_order(tmp_path: Path, operation: str, coeff: str) -> None:
    """They make the same unless each has a coefficient of its own."""
    net = (
        "data 2 3 7 6",
        "a: Convolution data -> a { convolution_param { num_output: 4 kernel_size: 3 } }",
        "b: Convolution data -> b { convolution_param { num_output: 4 kernel_size: 3 } }",
        f"s: Eltwise a b -> s {{ eltwise_param {{ operation: {operation} %s }} }}",
        "t: TanH s -> t",
    )
    text = prototxt(*net).replace("%s", coeff)
    swapped = text.replace('bottom: "a"', "@").replace('bottom: "b"', 'bottom: "a"')
    blobs = seeded(text)
    pair = write_pair(tmp_path, text, blobs, "before")
    other = write_pair(tmp_path, swapped.replace("@", 'bottom: "b"'), blobs, "after")
    assert validate(pair, other).status == ("failed" if coeff else "passed")


def test_a_pair_that_caffe_refuses_is_an_error(tmp_path: Path, real_caffe: RealCaffe) -> None:
    """Two layers read x, and one writes it in place."""
    lines = ("data 1 3 9 8", CONV % "data", "a: TanH c -> a", "r: ReLU c -> y", "z: AbsVal y -> z")
    wrong = (*lines[:3], "r: ReLU c -> c", "z: AbsVal c -> z")
    blobs = seeded(prototxt(*lines))
    pair = write_pair(tmp_path, prototxt(*lines), blobs, "before")
    other = write_pair(tmp_path, prototxt(*wrong), blobs, "after")
    assert validate(pair, pair).ok
    assert real_caffe.error(prototxt(*wrong))
    with pytest.raises(
        CaffeMergeError, match=r"after\.prototxt: layers 'a', 'r' read 'c', and one"
    ):
        validate(pair, other)


PLAIN = ("data 1 3 6 6", CONV % "data", BN, "r: ReLU c -> c", FC)
ONE_CHANNEL = np.array([1, 1, 1.01, 1])[:, None, None, None]


def test_one_channel_wrong_by_a_hundredth_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, *PLAIN).ok
    comparison = judged(tmp_path, *PLAIN, wrong={"c": ONE_CHANNEL})
    assert comparison.status == "failed"
    assert comparison.first_beyond is not None
    assert comparison.first_beyond[0] == "c"
    assert [blob.reader for blob in comparison.blobs if not blob.agrees] == ["r"]


def test_a_channel_that_is_dead_behind_the_relu_is_judged_before_it(tmp_path: Path) -> None:
    mean, variance = np.array([0, 0, 400, 0.0]), np.ones(4)
    weights = {"bn": [mean, variance, np.ones(1)]}
    assert judged(tmp_path, *PLAIN, weights=weights).ok
    assert judged(tmp_path, *PLAIN, weights=weights, wrong={"c": ONE_CHANNEL}).status == "failed"


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
def test_a_net_that_is_dead_is_inconclusive_right_or_wrong(
    tmp_path: Path, engine: str, real_caffe: RealCaffe
) -> None:
    """No input gets through: the convolution's weights are 0 but for their bias."""
    weights = {"c": [np.zeros((4, 3, 3, 3)), np.full(4, -1.0)]}
    for factor in (1, 2):
        comparison = judged(
            tmp_path,
            *PLAIN,
            weights=weights,
            wrong={"c": factor},
            engine=engine,
            caffe_python=real_caffe.python,
        )
        assert comparison.status == "inconclusive"
        assert re.search(r"of \d rewrites? not seen \('c'", comparison.reason)
        assert "allow_unseen" in comparison.reason
    assert judged(tmp_path, *PLAIN, weights=weights, allow_unseen=True).ok


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
def test_a_sigmoid_that_is_saturated_hides_what_is_before_it(
    tmp_path: Path, engine: str, real_caffe: RealCaffe
) -> None:
    """Only an engine that looks before the in-place Sigmoid sees the rewrite."""
    lines = ("data 1 3 6 6", CONV % "data", BN, "s: Sigmoid c -> c", FC)
    weights = {"bn": [np.full(4, -1e5), np.ones(4), np.ones(1)]}
    comparison = judged(
        tmp_path, *lines, weights=weights, engine=engine, caffe_python=real_caffe.python, scale=60
    )
    assert comparison.status == {"reference": "passed", "pycaffe": "inconclusive"}[engine]


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
def test_weights_of_each_layer_wrong_are_found(
    tmp_path: Path, engine: str, real_caffe: RealCaffe
) -> None:
    second = FC.replace("c ->", "d ->")
    lines = (
        *PLAIN[:4],
        "d: Convolution c -> d { convolution_param { num_output: 5 kernel_size: 2 } }",
        "bd: BatchNorm d -> d",
        "t: TanH d -> d",
        second,
    )
    how = {"engine": engine, "caffe_python": real_caffe.python}
    assert judged(tmp_path, *lines, **how).ok
    for name in ("c", "d"):
        comparison = judged(tmp_path, *lines, wrong={name: 1.01}, **how)
        assert (comparison.status, comparison.first_beyond and comparison.first_beyond[0]) == (
            "failed",
            name,
        )


def test_an_error_is_told_where_it_is_made_and_not_again_behind(tmp_path: Path) -> None:
    lines = (
        *PLAIN[:4],
        "d: Convolution c -> d { convolution_param { num_output: 5 kernel_size: 2 } }",
        "bd: BatchNorm d -> d",
        "t: TanH d -> d",
        FC.replace("c ->", "d ->"),
    )
    comparison = judged(tmp_path, *lines, wrong={"c": 1.01, "d": 1.02})
    assert [blob.name for blob in comparison.blobs if not blob.agrees] == ["c", "d"]


BOXED = ("data 1 3 6 6", "u: Mystery data -> u", CONV % "u", BN, "o: TanH data -> o")


def test_behind_a_black_box_both_nets_get_the_same_values(tmp_path: Path) -> None:
    comparison = judged(tmp_path, *BOXED)
    assert comparison.ok, comparison.summary()
    assert comparison.black_boxes == (("u", "Mystery"),)
    assert "1 black box: 'u' (Mystery)" in comparison.summary()
    assert judged(tmp_path, *BOXED, wrong={"c": ONE_CHANNEL}).status == "failed"


def test_what_a_black_box_reads_is_judged(tmp_path: Path) -> None:
    lines = ("data 1 3 6 6", CONV % "data", BN, "u: Mystery c -> u")
    assert judged(tmp_path, *lines).ok
    comparison = judged(tmp_path, *lines, wrong={"c": ONE_CHANNEL})
    assert (comparison.status, comparison.first_beyond and comparison.first_beyond[0]) == (
        "failed",
        "c",
    )


def test_a_black_box_whose_size_nothing_tells_is_inconclusive_until_it_is_given(
    tmp_path: Path,
) -> None:
    first = ("data 1 3 6 6", "o: TanH data -> o", "u: Mystery data -> u")
    before, after = (
        write_pair(tmp_path, prototxt(*first, *lines), {"none": []}, stem)
        for stem, lines in (
            ("before", [POWER % ("p", "u", "p", 2), POWER % ("q", "p", "q", 3)]),
            ("after", [POWER % ("q", "u", "q", 6)]),
        )
    )
    comparison = validate(before, after)
    assert comparison.status == "inconclusive"
    assert "input_shape u=..." in comparison.reason
    comparison = validate(before, after, shapes={"u": (2, 5)})
    assert comparison.ok, comparison.summary()
    assert {blob.name: blob.shape for blob in comparison.blobs}["q"] == (2, 5)
    with pytest.raises(UsageError, match="no input 'nix'"):
        validate(before, after, shapes={"nix": (2, 5)})


POWER = "%s: Power %s -> %s { power_param { scale: %d } }"


def test_rounding_that_a_net_makes_large_is_no_difference(tmp_path: Path) -> None:
    """Logits of hundreds: a probability moves by as much as the logit's rounding is worth."""
    conv = CONV.replace("num_output: 4", "num_output: 12")
    lines = ("data 1 3 150 150", conv % "data", BN, "p: Softmax c -> p")
    random = np.random.default_rng(3)
    weights = {
        "c": [random.standard_normal((12, 3, 3, 3)), np.zeros(12)],
        "bn": [np.zeros(12), random.uniform(0.005, 0.02, 12), np.ones(1)],
    }
    comparison = judged(tmp_path, *lines, weights=weights, scale=60)
    assert comparison.ok, comparison.summary()
    (follows,) = [blob for blob in comparison.blobs if blob.limit > comparison.limit]
    assert (follows.name, follows.limit) == ("p", pytest.approx(4 * (follows.noise or 0)))
    assert comparison.limit < follows.max_error < follows.limit < 1e-3
    strict = judged(tmp_path, *lines, weights=weights, scale=60, limit=1e-5)
    assert strict.status == "failed"  # the user's own limit does not follow


def test_rounding_is_measured_beside_values_that_are_not_finite(tmp_path: Path) -> None:
    """What Exp makes of large values differs by what rounding explains; another Exp overflows."""
    lines = (
        PLAIN[0],
        CONV % "data",
        BN,
        "e: Exp c -> e { exp_param { scale: 0.3 } }",
        "over: Exp c -> over { exp_param { scale: 300 } }",
    )
    mean = seeded(prototxt(*lines))["bn"][0]
    comparison = judged(tmp_path, *lines, weights={"bn": [mean, np.full(4, 0.13), np.ones(1)]})
    assert comparison.status == "inconclusive", comparison.summary()
    assert "'over': it was not finite" in comparison.reason
    assert "input_scale" in comparison.reason
    errors = {blob.name: blob.max_error for blob in comparison.blobs}
    assert errors["e"] > comparison.limit


def test_a_layer_that_was_dropped_is_a_difference_though_all_others_are_as_they_were(
    tmp_path: Path,
) -> None:
    lines = ("data 1 3 6 6", CONV % "data", "s: Scale c -> s", "t: TanH s -> t")
    before = write_pair(tmp_path, prototxt(*lines), stem="before")
    without = (*lines[:2], "t: TanH c -> t")
    weights = {name: blobs for name, blobs in seeded(prototxt(*lines)).items() if name != "s"}
    after = write_pair(tmp_path, prototxt(*without), weights, "after")
    assert validate(before, after).status == "failed"


ODD = "o: Log data -> o { log_param { base: 1 } }"  # a type that is known, and a base that is none


def test_a_layer_that_turns_out_not_to_be_runnable_is_a_black_box(tmp_path: Path) -> None:
    lines = ("data 1 3 6 6", ODD, CONV % "o", BN, "t: TanH c -> t")
    comparison = judged(tmp_path, *lines)
    assert comparison.ok, comparison.summary()
    assert "1 black box: 'o' (Log)" in comparison.summary()
    assert judged(tmp_path, *lines, wrong={"c": ONE_CHANNEL}).status == "failed"


def test_its_shape_may_be_given_and_that_of_a_layer_that_runs_may_not(tmp_path: Path) -> None:
    lines = ("data 1 3 6 6", ODD, CONV % "o", BN, "t: TanH c -> t")
    comparison = judged(tmp_path, *lines, shapes={"o": (1, 3, 8, 7)})
    assert {blob.name: blob.shape for blob in comparison.blobs}["t"] == (1, 4, 6, 5)
    with pytest.raises(UsageError, match="no input 't'"):
        judged(tmp_path, *lines, shapes={"t": (1, 4, 6, 5)})


SHAPE = "shape { dim: 1 dim: 4 dim: 4 dim: 4 }"
FILLER = "data_filler { value: %g }"
CONSTANTS = {
    "Parameter": f"own: Parameter  -> p {{ parameter_param {{ {SHAPE} }} }}",
    "DummyData": f"own: DummyData  -> p {{ dummy_data_param {{ {SHAPE} {FILLER} }} }}",
}


@pytest.mark.parametrize("kind", CONSTANTS)
@pytest.mark.parametrize("engine", ["reference", "opencv"])
def test_values_that_a_layer_has_of_its_own_must_be_the_same(
    engine: str, kind: str, tmp_path: Path
) -> None:
    if engine == "opencv":
        required("cv2", "opencv")
    seed = np.random.default_rng(0)
    c, p = [seed.standard_normal(shape) for shape in ((4, 3, 3, 3), (1, 4, 4, 4))]

    def written(name: str, factor: float) -> Pair:
        constant = CONSTANTS[kind] % factor if kind == "DummyData" else CONSTANTS[kind]
        lines = [
            "data 1 3 6 6",
            constant,
            CONV % "data",
            "sum: Eltwise c p -> sum",
            "t: TanH sum -> t",
        ]
        weights = {"c": [c, np.zeros(4)], "own": [p * factor] if kind == "Parameter" else []}
        return write_pair(tmp_path, prototxt(*lines), weights, name)

    pairs = written("before", 1), written("same", 1), written("other", 3)
    status = "failed" if engine == "reference" else "inconclusive"  # OpenCV has no such layers
    assert validate(pairs[0], pairs[2], engine).status == status
    assert validate(*pairs[:2], engine).ok
    if kind == "Parameter":  # its values are in the weights, and nobody's to give
        with pytest.raises(UsageError, match="'p'"):
            validate(pairs[0], pairs[2], engine, shapes={"p": (1, 4, 4, 4)})

"""Pairs that are right and pairs made wrong on purpose, each kind judged by what it computes."""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import UsageError
from caffe_merge.validation import Comparison, validate
from tests.nets import Pair, load_pair, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe

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


ORIGINAL = (
    "data 1 3 8 8",
    "conv1: Convolution data -> conv1 { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn1: BatchNorm conv1 -> bn1 { batch_norm_param { eps: 0.001 } }",
    "relu1: ReLU bn1 -> bn1",
    "conv2: Convolution bn1 -> conv2 { convolution_param { num_output: 5 kernel_size: 3 } }",
    "bn2: BatchNorm conv2 -> bn2 { batch_norm_param { eps: 0.001 } }",
    "relu2: ReLU bn2 -> bn2",
    "fc: InnerProduct bn2 -> fc { inner_product_param { num_output: 3 } }",
)
FOREIGN = (
    ORIGINAL[0],
    ORIGINAL[1],
    "relu1: ReLU conv1 -> conv1",
    ORIGINAL[4].replace("bn1", "conv1"),
    "relu2: ReLU conv2 -> conv2",
    ORIGINAL[7].replace("bn2", "conv2"),
)


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
@pytest.mark.parametrize(("eps", "status"), [(1e-3, "passed"), (1e-5, "failed")])
def test_a_merge_by_another_script_is_judged_by_what_it_gives_out(
    tmp_path: Path, engine: str, eps: float, status: str, real_caffe: RealCaffe
) -> None:
    """Its convolutions keep their tops, which hold the ReLU's values now."""
    blobs = seeded(prototxt(*ORIGINAL))
    for name in ("bn1", "bn2"):
        blobs[name] = [blobs[name][0], np.abs(blobs[name][1]) * 0.01, np.ones(1)]
    folded = dict(blobs)
    for conv, bn in (("conv1", "bn1"), ("conv2", "bn2")):
        factor = 1 / np.sqrt(np.asarray(blobs[bn][1], np.float32).astype(float) + eps)
        kernel, bias = blobs[conv]
        folded[conv] = [kernel * factor[:, None, None, None], (bias - blobs[bn][0]) * factor]
    before = write_pair(tmp_path, prototxt(*ORIGINAL), blobs, "before")
    after = write_pair(tmp_path, prototxt(*FOREIGN), folded, "after")
    comparison = validate(before, after, engine, caffe_python=real_caffe.python)
    assert comparison.status == status, comparison.summary()
    assert set(comparison.renamed) == {"conv1", "conv2"}
    assert "hold something else now: 'conv1', 'conv2'" in comparison.summary()


EQUALISED = (
    "data 1 3 8 8",
    "conv1: Convolution data -> conv1 { convolution_param { num_output: 4 kernel_size: 3 } }",
    "relu1: ReLU conv1 -> conv1",
    "conv2: Convolution conv1 -> conv2 { convolution_param { num_output: 5 kernel_size: 3 } }",
    "prob: Softmax conv2 -> prob",
)


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
@pytest.mark.parametrize("size", [1, 1e-7])
@pytest.mark.parametrize(("wrong", "status"), [(1, "passed"), (1.01, "failed")])
def test_channels_that_another_script_scaled_may_keep_their_names(
    tmp_path: Path, engine: str, size: float, wrong: float, status: str, real_caffe: RealCaffe
) -> None:
    """The ReLU is as it was, and writes the last of conv1; a channel of any size was scaled."""
    blobs = seeded(prototxt(*EQUALISED))
    kernel, bias = blobs["conv1"]
    kernel[1], bias[1] = kernel[1] * size, np.abs(bias[1]) * size
    behind, other = blobs["conv2"]
    behind[:, 1] /= size
    scaled = {"conv1": [kernel.copy(), bias.copy()], "conv2": [behind.copy(), other]}
    for blob in scaled["conv1"]:
        blob[1] *= 8
    scaled["conv2"][0][:, 1] *= wrong / 8
    before = write_pair(tmp_path, prototxt(*EQUALISED), blobs, "before")
    after = write_pair(tmp_path, prototxt(*EQUALISED), scaled, "after")
    comparison = validate(before, after, engine, caffe_python=real_caffe.python)
    assert comparison.status == status, comparison.summary()
    if comparison.ok and size == 1:
        assert "conv1" in comparison.renamed


@pytest.mark.parametrize("engine", ["reference", "pycaffe"])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(("mean", "status"), [(1e-3, "passed"), (2e-3, "failed")])
def test_a_batchnorm_near_identity_is_folded_under_the_convolutions_name(
    tmp_path: Path, engine: str, rectified: bool, mean: float, status: str, real_caffe: RealCaffe
) -> None:
    """What keeps its name differs by little from what it was: it is what the BatchNorm made."""
    norm = "bn1: BatchNorm conv1 -> bn1 { batch_norm_param { eps: 0.001 } }"
    read, relu = ("r", "relu: ReLU %s -> r") if rectified else ("%s", "")
    conv2 = EQUALISED[3].replace("conv1", read)
    lines = [*filter(None, (relu, conv2)), "prob: Softmax conv2 -> prob"]
    original = [*EQUALISED[:2], norm, *(line.replace("%s", "bn1") for line in lines)]
    merged = [*EQUALISED[:2], *(line.replace("%s", "conv1") for line in lines)]
    blobs = seeded(prototxt(*original))
    blobs["bn1"] = [np.full(4, 1e-3), np.ones(4), np.ones(1)]
    kernel, bias = blobs["conv1"]
    folded = {
        "conv1": [kernel / (1 + 1e-3) ** 0.5, (bias - mean) / (1 + 1e-3) ** 0.5],
        "conv2": [blobs["conv2"][0], blobs["conv2"][1] * (1 + 1e-7)],  # which is no twin
    }
    before = write_pair(tmp_path, prototxt(*original), blobs, "before")
    after = write_pair(tmp_path, prototxt(*merged), folded, "after")
    comparison = validate(before, after, engine, caffe_python=real_caffe.python)
    assert comparison.status == status, comparison.summary()


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

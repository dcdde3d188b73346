"""Every style of BatchNorm is told, folded, and made a Scale, by the fork's own formula."""

from typing import Dict, List

import numpy as np
import pytest

from caffe_merge.errors import UsageError, WeightsError
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.norms import STYLES, Style, choose_style, style_of
from caffe_merge.layers.standard import standard
from caffe_merge.reference import forward
from tests.layers.norms.cases import AXES, BATCH, BN, CASES, Case, expected, make
from tests.merger import Merged, Merger, random_inputs, run

CONV = (
    "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }"
)


def lines(case: Case, bottom: str) -> List[str]:
    return [f"bn: {case.kind} {bottom} -> bn {{ {case.body} }}", "end: TanH bn -> out"]


def style(case: Case) -> "Dict[str, str]":
    return {"bn_style": case.style} if case.ask else {}


def loaded(result: Merged) -> Layer:
    """The layer as it was before."""
    return next(layer for layer in result.before.layers if layer.name == "bn")


def outputs(result: Merged, name: str) -> "tuple[np.ndarray, np.ndarray]":
    """What ``name`` holds before, and what the net gives out after."""
    inputs = random_inputs(result.before)
    return run(result.before, inputs)[name], run(result.after, inputs)["out"]


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 3e-6


@pytest.mark.parametrize("name", CASES)
def test_it_folds(merged: Merger, name: str) -> None:
    """Into the Convolution before it; what comes out is what the fork's formula gives."""
    case = CASES[name]
    blobs = make(case)
    result = merged(
        "data 2 4 6 7", CONV, *lines(case, "conv"), weights={"bn": blobs}, **style(case)
    )
    assert result.names == ["conv", "end"]
    x, actual = outputs(result, "conv")
    assert_same(actual, np.tanh(expected(case, x, blobs)))


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_fold_becomes_a_scale(merged: Merger, name: str) -> None:
    """But not for SegNet, whose Caffe has none. The fork's own block goes from the text."""
    case = CASES[name]
    blobs = make(case)
    result = merged("data 2 5 6 7", *lines(case, "data"), weights={"bn": blobs}, **style(case))
    assert result.names == ["bn", "end"] or name == "happynear-both"
    x, actual = outputs(result, "data")
    assert_same(actual, np.tanh(expected(case, x, blobs)))
    if case.style == "segnet":
        result.refused("bn", "SegNet's Caffe has no Scale")
        assert "bn_mode: INFERENCE" in result.text
    elif "bn" in result.names:
        assert result.layer("bn").type == "Scale"
        assert not result.layer("bn").extra
        assert "bn_param" not in result.text
        assert "norm_param" not in result.text
        assert result.fate("bn").fate == "changed"


@pytest.mark.parametrize("name", CASES)
def test_the_reference_runs_it(merged: Merger, name: str) -> None:
    """By arithmetic of its own: the proof and the validation do not lean on the fold's."""
    case = CASES[name]
    blobs = make(case)
    result = merged("data 2 5 6 7", *lines(case, "data"), weights={"bn": blobs}, **style(case))
    layer = loaded(result)
    if case.ask:
        assert choose_style([layer], case.style) == 1
    param, fields = standard(layer)
    x = random_inputs(result.before)["data"].astype(np.float64)
    actual = forward(param, [np.asarray(blob.array(), np.float64) for blob in fields], [x])[0]
    np.testing.assert_allclose(actual, expected(case, x, blobs), rtol=1e-6, atol=1e-6)
    row = style_of(layer)
    assert isinstance(row, Style)
    assert row.name == case.style


def test_there_is_a_case_for_every_row(merged: Merger) -> None:
    met = set()
    for case in CASES.values():
        result = merged(
            "data 2 5 6 7", *lines(case, "data"), weights={"bn": make(case)}, **style(case)
        )
        layer = loaded(result)
        choose_style([layer], case.style if case.ask else None)
        met.add(style_of(layer))
    assert [row.name for row in STYLES if row not in met] == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ask])
def test_without_bn_style(merged: Merger, name: str) -> None:
    """What has to be asked for is refused, or read as what is usual, and never as this."""
    case = CASES[name]
    result = merged("data 2 5 6 7", *lines(case, "data"), weights={"bn": make(case)})
    actual = style_of(loaded(result))
    assert not isinstance(actual, Style) or actual.name != case.style
    if isinstance(actual, str):
        assert "bn_style" in actual
        assert case.style in actual
        result.refused("bn", "bn_style")


def case(kind: str, body: str, blobs: str, shape: str = "(C)") -> Case:
    return Case("", kind, body, blobs, lambda x, c, b: x, shape)


REFUSED = {
    "learn": (case("BN", BN % "bn_mode: LEARN", "sb", AXES), "bn_mode is not INFERENCE"),
    "learn is the default": (case("BN", "", "sb", AXES), "bn_mode is not INFERENCE"),
    "weiliu89": (case("BN", BN % "across_spatial: true", "sb", AXES), "bn_mode is not INFERENCE"),
    "no hint": (case("BN", "", "sbmv", AXES), "a BN of yjxiong or yjxiong-cudnn or ducha-aiki"),
    "moving_average alone": (case("BN", BN % "moving_average: true", "sbmv"),
                             "yjxiong-2015 or lxx1991 or ducha-aiki"),
    "moving_average false": (case("BN", BN % "moving_average: false var_eps: 1e-5", "sbmv"),
                             "moving_average is false"),
    "batch statistics": (case("BN", BN % "bn_mode: INFERENCE slope_filler { value: 1 }", "sbmv"),
                         "bn_mode is INFERENCE, for which two blobs are wanted"),
    "icnet false": (case("BN", BN % "icnet: false", "sbmv"), "icnet is false"),
    "train": (case("BN", BN % "momentum: 0.9 } phase: TRAIN include {", "sbmv"), "phase is TRAIN"),
    "frozen is not read": (case("SyncBN", BN % "frozen: true } phase: TRAIN include {", "sbmv"),
                           "phase is TRAIN"),
    "unknown field": (case("BN", BN % "momentum: 1 odd { a: 1 }", "sbmv"),
                      "bn_param.odd is a fork's field"),
    "fields of two forks": (case("BN", BN % "slope_filler { value: 1 } decay: 1", "sbmv"),
                            "no BN that is known has 4 blobs and the fields decay, slope_filler"),
    "three blobs": (case("BN", BN % "momentum: 1", "sbm"), "no BN that is known has blobs of"),
    "no weights": (case("BN", BN % "momentum: 1", ""), "the file has no weights for it"),
    "factor 0": (case("BatchNorm", "", "mv0sb"), "a BatchNorm of nvidia or intel"),
    "small eps": (case("BatchNorm", BATCH % "eps: 1e-7", "mv1sb"), "of nvidia or intel"),
    "who reads it": (case("BatchNorm", BATCH % "use_global_stats: false", "mv1sb"),
                                   "a BatchNorm of nvidia or intel"),
    "intel's own": (case("BatchNorm", BATCH % "use_global_stats: false bias_term: true", "mvfsb"),
                    "use_global_stats is false"),
    "the CAFFE engine reads it": (
        case("BatchNorm", BATCH % "use_global_stats: false", "sbmv1"), "use_global_stats is false"
    ),
    "the CAFFE engine is asked for": (
        case("BatchNorm", BATCH % "use_global_stats: false engine: CAFFE", "sbmv1", AXES),
        "use_global_stats is false",
    ),
    "relu": (case("BatchNorm", BATCH % "relu: true", "mvfsb"), "relu is true"),
    "alpha without beta": (case("BatchNorm", BATCH % "use_alpha_beta: true", "mvf"), "no alpha"),
    "scale_bias without": (case("BatchNorm", BATCH % "scale_bias: true", "mvf"),
                           "no BatchNorm that is known has 3 blobs and the fields scale_bias"),
    "unknown source": (case("BatchNormTorch", "", "mv1sb"), "bn_style \\(batch-norm-torch\\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(merged: Merger, name: str) -> None:
    """Not folded, and told why; the layer stays as it is, its text and its blobs."""
    case, reason = REFUSED[name]
    result = merged("data 2 4 6 7", CONV, *lines(case, "conv"), weights={"bn": make(case)})
    assert result.names == ["conv", "bn", "end"]
    result.refused("bn", reason)


def test_one_channel_tells_no_order(merged: Merger) -> None:
    """All five blobs have one value: NVIDIA 0.15's order or 0.16's."""
    conv = CONV.replace("num_output: 5", "num_output: 1")
    blobs = [np.full(1, value) for value in (0.5, 0.7, 1.0, 1.5, 1.0)]
    line = "bn: BatchNorm conv -> bn { batch_norm_param { scale_bias: true } }"
    result = merged("data 2 4 6 7", conv, line, "end: TanH bn -> out", weights={"bn": blobs})
    result.refused("bn", "a BatchNorm of nvidia or nvidia-0.15")


def test_a_negative_variance_tells_the_order(merged: Merger) -> None:
    """What cannot be GENet's CuDNNBatchNorm is read as MNN's; what can be either is refused."""
    blobs = [np.full((1, 5, 1, 1), value) for value in (0.5, 0.7, 0.9, 1.1)]
    either = case("CuDNNBatchNorm", "", "sbmv", AXES)
    result = merged("data 2 5 6 7", *lines(either, "data"), weights={"bn": blobs})
    result.refused("bn", "of cudnn-batch-norm or cudnn-batch-norm-mnn")


def test_an_inverse_is_not_negative(merged: Merger) -> None:
    """What is would not be a standard deviation: the style asked for is the wrong one."""
    chosen = CASES["yjxiong-invstd"]
    blobs = [-blob if number == 3 else blob for number, blob in enumerate(make(chosen))]
    with pytest.raises(WeightsError, match="layer 'bn', blob 3: expected inverses of at least 0"):
        merged("data 2 5 6 7", *lines(chosen, "data"), weights={"bn": blobs}, **style(chosen))


def test_the_style_is_named_in_the_report(merged: Merger) -> None:
    chosen = CASES["yjxiong"]
    result = merged("data 2 5 6 7", *lines(chosen, "data"), weights={"bn": make(chosen)})
    notes = [note.text for note in result.report.notes if note.kind == "bn-style"]
    assert notes == [
        "1 BN layer read as yjxiong: y = slope (x - mean) / sqrt(variance + eps) + bias, eps 1e-5"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("nvidia-3-factor-0", "as NVIDIA Caffe 0.16 writes it"),
     ("nvidia-3-of-bvlc", "if NVIDIA Caffe 0.16 wrote the file, they are meant")],
)  # fmt: skip
def test_a_factor_of_zero_is_told(merged: Merger, name: str, text: str) -> None:
    """Of NVIDIA's layer and of BVLC's, which read it each in its own way."""
    first = CASES[name]
    result = merged("data 2 5 6 7", *lines(first, "data"), weights={"bn": make(first)})
    assert [text in note.text for note in result.report.notes if note.kind == "zero-factor"] == [
        True
    ]


def test_a_style_that_fits_nothing(merged: Merger) -> None:
    with pytest.raises(UsageError, match="no style is called 'mxnet'; there are bvlc, nvidia,"):
        merged("data 2 5 6 7", "end: TanH data -> out", bn_style="mxnet")
    result = merged("data 2 5 6 7", "end: TanH data -> out", bn_style="segnet")
    assert [note.text for note in result.report.notes] == [
        "bn_style segnet: no layer has the type and blobs of it"
    ]

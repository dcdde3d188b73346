"""Dropout of forks: what goes, what multiplies, what stays."""

import numpy as np
import pytest

from tests.merger import Merger, random_inputs, run

CONV = "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }"
SPATIAL = (
    "drop: Python conv -> drop { python_param { module: 'spatial_dropout' "
    "layer: 'SpatialDropoutLayer' param_str: \"%s\" } }"
)
END = "end: TanH drop -> out"

FACTORS = {
    "enet": (SPATIAL % "{\\'phase\\': \\'TEST\\', \\'p\\': \\'0.1\\'}", 1 / 0.9),
    "enet, a number": (SPATIAL % "{'phase': 'TEST', 'p': 0.25}", 1 / 0.75),
    "scale_train": ("drop: Dropout conv -> drop { dropout_param { dropout_ratio: 0.3 "
                    "scale_train: false } }", 0.7),
    "nvidia": ("drop: Dropout conv -> drop { dropout_param { engine: CUDNN random_seed: 3 } }", 1),
    "happynear": ("drop: Dropout conv -> drop { dropout_param { sqrt_scale: true } }", 1),
    "intel": ("drop: SpatialDropout conv -> drop { dropout_param { dropout_ratio: 0.3 } }", 1),
    "intel's own": ("drop: SpatialDropout conv -> drop { spatial_dropout_param { "
                    "dropout_ratio: 0.3 } }", 1),
    "segnet, at test time": ("drop: Dropout conv -> drop { dropout_param { "
                             "sample_weights_test: false } }", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORS)
def test_it_goes(merged: Merger, name: str) -> None:
    line, factor = FACTORS[name]
    result = merged("data 2 4 6 7", CONV, line, END)
    assert result.names == ["conv", "end"]
    inputs = random_inputs(result.before)
    conv = run(result.before, inputs)["conv"]
    actual = run(result.after, inputs)["out"]
    assert np.abs(actual - np.tanh(factor * conv)).max() <= 3e-6


STAYS = {
    "enet in training": (SPATIAL % "{'phase': 'TRAIN', 'p': 0.1}", "says phase TRAIN"),
    "no p": (SPATIAL % "{'phase': 'TEST'}", "has no phase and p"),
    "p of 1": (SPATIAL % "{'phase': 'TEST', 'p': 1}", "its p is 1, not between"),
    "no dict": (SPATIAL % "0.1", "has no phase and p"),
    "code": (SPATIAL % "__import__('os').abort()", "has no phase and p"),
    "segnet": ("drop: Dropout conv -> drop { dropout_param { sample_weights_test: true } }",
               "sample_weights_test is true"),
    "intel in training": ("drop: SpatialDropout conv -> drop { phase: TRAIN }", "phase is TRAIN"),
    "unknown": ("drop: Dropout conv -> drop { dropout_param { odd: 1 } }", "dropout_param.odd"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_it_stays(merged: Merger, name: str) -> None:
    line, reason = STAYS[name]
    result = merged("data 2 4 6 7", CONV, line, END)
    assert result.names == ["conv", "drop", "end"]
    reasons = [refusal.reason for refusal in result.report.refusals if refusal.layer == "drop"]
    assert any(reason in item for item in reasons), reasons


@pytest.mark.parametrize(
    "line",
    [SPATIAL.replace("SpatialDropoutLayer", "Other") % "{'phase': 'TEST', 'p': 0.1}",
     SPATIAL.replace("'spatial_dropout'", "'mine'") % "{'phase': 'TEST', 'p': 0.1}"],
)  # fmt: skip
def test_any_other_python_layer_is_opaque(merged: Merger, line: str) -> None:
    """By module and class, never by its name; nothing is said of it."""
    scale = "s: Scale drop -> s"
    result = merged("data 2 4 6 7", CONV, line, scale, weights={"s": [np.arange(1.0, 7)]})
    assert result.names == ["conv", "drop", "s"]
    assert {refusal.layer for refusal in result.report.refusals} == {"s"}

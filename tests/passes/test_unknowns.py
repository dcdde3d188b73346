"""What is not known is not guessed: fields of forks, and weights that the file does not have."""

import re

import numpy as np
import pytest

from tests.merger import Merger

DATA = "data 2 4 8 7"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }"
BN = "bn: BatchNorm conv -> bn"
SCALE = "scale: Scale bn -> scale { scale_param { bias_term: true } }"
END = "end: TanH scale -> out"
VALUES = {
    "conv": [np.arange(144.0).reshape(4, 4, 3, 3) / 50 - 1, np.arange(4.0)],
    "ip": [np.arange(16.0).reshape(4, 4) / 9 - 1, np.arange(4.0)],
    "bn": [np.arange(4.0), np.arange(1.0, 5), np.ones(1)],
    "scale": [np.arange(4.0) - 1.5, np.arange(4.0)],
}


@pytest.mark.parametrize(
    ("line", "field", "layer"),
    [
        (CONV.replace("num_output", "relu: true num_output"), "convolution_param.relu", "conv"),
        (CONV.replace("num_output", "odd { a: 1 } num_output"), "convolution_param.odd", "conv"),
        ("bn: BatchNorm conv -> bn { batch_norm_param { fixed_mean: true } }",
         "batch_norm_param.fixed_mean", "bn"),
        ("scale: Scale bn -> scale { scale_param { bias_term: true min_value: 0.1 } }",
         "scale_param.min_value", "scale"),
    ],
)  # fmt: skip
def test_a_field_of_a_fork(merged: Merger, line: str, field: str, layer: str) -> None:
    """Inside a layer's own parameters it may change what the layer does: the layer is opaque."""
    lines = [
        line if line.split(":")[0] == other.split(":")[0] else other
        for other in (CONV, BN, SCALE, END)
    ]
    result = merged(DATA, *lines, weights=VALUES)
    expected = {"conv": ["conv", "scale", "end"], "bn": ["conv", "bn", "scale", "end"],
                "scale": ["conv", "scale", "end"]}  # fmt: skip
    assert result.names == expected[layer]
    reason = f"{field} is a fork's field, whose effect is not known"
    if layer == "conv":
        assert (
            f"layer 'conv', which feeds it, cannot take it in: {reason}" in result.fate("bn").detail
        )
    else:
        result.refused(layer, reason)


def test_a_field_beside_the_parameters(merged: Merger) -> None:
    """One of the layer itself (a number format, say) changes nothing that it computes."""
    lines = [line.replace(" {", " { forward_type: FLOAT16", 1) for line in (CONV, SCALE)]
    result = merged(DATA, lines[0], BN, lines[1], END, weights=VALUES)
    assert result.names == ["conv", "end"]
    assert "forward_type: FLOAT16" in result.text


@pytest.mark.parametrize(
    ("name", "blobs", "reason"),
    [
        ("bn", [np.ones(4)] * 5, "no BatchNorm that is known has blobs of shapes"),
        ("scale", [np.ones(4)], "it has 1 blob, not 2"),
    ],
)
def test_blobs_of_a_fork(merged: Merger, name: str, blobs: "list[np.ndarray]", reason: str) -> None:
    """Where a field of a fork keeps the blobs from being checked, their number still counts."""
    lines = [BN, SCALE]
    lines = [line if line.split(":")[0] != name else f"{line} {{ fork: 1 }}" for line in lines]
    lines = [line.replace("} { fork: 1 }", "fork: 1 }") for line in lines]
    result = merged(DATA, CONV, *lines, END, weights={**VALUES, name: blobs})
    result.refused(name, reason)


@pytest.mark.parametrize(
    ("blobs", "reason"),
    [
        ([np.ones((5, 4, 3, 3)), np.ones(4)], r"of shape \(5, 4, 3, 3\) do not make 4 channels"),
        ([np.ones((4, 4, 3, 3)), np.ones(5)], "other blobs than its bias_term says"),
        ([np.ones((4, 4, 3, 3))], "other blobs than its bias_term says"),
        ([np.ones(4), np.ones(4)], r"of shape \(4,\) do not make 4 channels"),
    ],
)  # fmt: skip
def test_weights_of_a_fork(merged: Merger, blobs: "list[np.ndarray]", reason: str) -> None:
    """The same for a Convolution: nothing is folded into weights of an unknown form."""
    conv = CONV.replace("{ conv", "{ fork: 1 conv", 1)
    result = merged(DATA, conv, BN, SCALE, END, weights={**VALUES, "conv": blobs})
    assert result.names == ["conv", "scale", "end"]
    assert re.search(reason, result.fate("bn").detail)


def test_unknown_types_are_opaque(merged: Merger) -> None:
    """A layer of unknown type, in place or not, hides what feeds it."""
    result = merged(DATA, CONV, "odd: Mystery conv -> conv", BN, SCALE, END, weights=VALUES)
    assert result.names == ["conv", "odd", "scale", "end"]
    assert "it is fed by 'odd', a Mystery" in result.fate("bn").detail


# -- weights that the file does not have ------------------------------------------------------


def test_random_fillers(merged: Merger) -> None:
    """Caffe would run the Convolution on random weights: untouched, and nothing folded into it."""
    conv = CONV.replace("num_output", "weight_filler { type: 'xavier' } num_output")
    result = merged(DATA, conv, BN, SCALE, END, weights={"conv": None})
    assert result.names == ["conv", "scale", "end"]
    assert "no weights for it, and its fillers are random" in result.fate("bn").detail
    assert not result.layer("conv").blobs
    assert any(note.kind == "missing-weights" for note in result.before.notes)


@pytest.mark.parametrize("filler", ["type: 'bilinear'", "type: 'constant' value: 0.3"])
def test_deterministic_fillers(merged: Merger, filler: str) -> None:
    """Upsampling by a Deconvolution that the file does not have: its weights are known."""
    own = "num_output: 4 group: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false"
    body = f"convolution_param {{ {own} weight_filler {{ {filler} }} }}"
    up = f"conv: Deconvolution data -> conv {{ {body} }}"
    result = merged(DATA, up, BN, SCALE, END, weights={"conv": None})
    assert result.names == ["conv", "end"]
    assert [blob.shape for blob in result.blobs("conv")] == [(4, 1, 4, 4), (4,)]


def test_a_filled_layer_that_nothing_is_folded_into(merged: Merger) -> None:
    """It goes on without weights in the file, and runs on its filler there too."""
    own = "num_output: 4 group: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false"
    body = f"convolution_param {{ {own} weight_filler {{ type: 'bilinear' }} }}"
    up = f"up: Deconvolution out -> up {{ {body} }}"
    result = merged(DATA, CONV, BN, SCALE, END, up, weights={"up": None})
    assert result.names == ["conv", "end", "up"]
    assert result.layer("up").filled


def test_a_batch_norm_that_is_not_in_the_file(merged: Merger) -> None:
    """Caffe leaves its statistics at 0, its factor too: y = x / sqrt(eps), and it is told."""
    result = merged(DATA, CONV, BN, SCALE, END, weights={"bn": None})
    assert result.names == ["conv", "end"]
    assert {note.kind for note in result.report.notes} == {"filler-weights", "zero-factor"}

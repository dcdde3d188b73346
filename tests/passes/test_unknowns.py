"""What is not known is not guessed: fields of forks, and weights that the file does not have."""

import re

import numpy as np
import pytest

from caffe_merge.errors import WeightsError
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


def with_field(line: str, field: str) -> str:
    """The layer's line with ``field`` beside its parameters."""
    head, _, body = line.partition(" {")
    return f"{head} {{ {field} {body or '}'}"


MISFITS = [("conv", [np.ones(7)]), ("bn", [np.ones(4)] * 5), ("scale", [np.ones(4)])]


@pytest.mark.parametrize(("name", "blobs"), MISFITS)
def test_blobs_of_a_fork(merged: Merger, name: str, blobs: "list[np.ndarray]") -> None:
    """A layer with a block of a fork is loaded with whatever blobs it has, and left alone."""
    lines = [
        with_field(line, "fork { a: 1 }") if line.startswith(name) else line
        for line in (CONV, BN, SCALE, END)
    ]
    result = merged(DATA, *lines, weights={**VALUES, name: blobs})
    assert name in result.names
    assert "fork is a fork's field, whose effect is not known" in str(result.report.fates)


@pytest.mark.parametrize(("name", "blobs"), MISFITS)
def test_a_field_beside_the_parameters_switches_off_no_check(
    merged: Merger, name: str, blobs: "list[np.ndarray]"
) -> None:
    """What changes nothing that a layer computes changes none of its blobs either."""
    lines = [
        with_field(line, "fork: 1") if line.startswith(name) else line
        for line in (CONV, BN, SCALE, END)
    ]
    with pytest.raises(WeightsError, match=f"layer '{name}'"):
        merged(DATA, *lines, weights={**VALUES, name: blobs})


def test_shapes_behind_a_field_beside_the_parameters(merged: Merger) -> None:
    """They are known: what goes away with the layer was no reason to leave weights unchecked."""
    join, bn = with_field("cat: Concat conv -> cat", "fork: 1"), BN.replace("conv", "cat")
    result = merged(DATA, CONV, join, bn, SCALE, END, weights=VALUES)
    assert result.names == ["conv", "end"]
    five = {**VALUES, "bn": [np.ones(5), np.ones(5), np.ones(1)]}
    with pytest.raises(WeightsError, match=r"blob 0: expected shape \(4,\), found \(5,\)"):
        merged(DATA, CONV, join, bn, SCALE, END, weights=five)


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
    """Where the window alone is a fork's, nothing is folded into weights of an unknown form."""
    conv = CONV.replace("num_output", "hole_h: 2 num_output")
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
    fields = "num_output: 4 group: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false"
    body = f"convolution_param {{ {fields} weight_filler {{ {filler} }} }}"
    up = f"conv: Deconvolution data -> conv {{ {body} }}"
    result = merged(DATA, up, BN, SCALE, END, weights={"conv": None})
    assert result.names == ["conv", "end"]
    assert [blob.shape for blob in result.blobs("conv")] == [(4, 1, 4, 4), (4,)]


def test_a_filled_layer_that_nothing_is_folded_into(merged: Merger) -> None:
    """It goes on without weights in the file, and runs on its filler there too."""
    fields = "num_output: 4 group: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false"
    body = f"convolution_param {{ {fields} weight_filler {{ type: 'bilinear' }} }}"
    up = f"up: Deconvolution out -> up {{ {body} }}"
    result = merged(DATA, CONV, BN, SCALE, END, up, weights={"up": None})
    assert result.names == ["conv", "end", "up"]
    assert result.layer("up").filled


def test_a_batch_norm_that_is_not_in_the_file(merged: Merger) -> None:
    """Caffe leaves its statistics at 0, its factor too: y = x / sqrt(eps), and it is told."""
    result = merged(DATA, CONV, BN, SCALE, END, weights={"bn": None})
    assert result.names == ["conv", "end"]
    assert {note.kind for note in result.report.notes} == {"filler-weights", "zero-factor"}

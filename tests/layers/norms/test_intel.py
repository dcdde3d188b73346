"""Intel Caffe's files: BatchNorm of five blobs in the weights, BatchNorm and Scale in the text."""

import numpy as np
import pytest

from tests.layers.norms.cases import CASES, C, expected, make
from tests.merger import Merger, random_inputs, run

CONV = "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 } }"
BN = "bn: BatchNorm conv -> conv { batch_norm_param { filler { value: 1 } } }"


def scale(body: str) -> str:
    return f"scale: Scale conv -> conv {{ scale_param {{ {body} }} }}"


@pytest.mark.parametrize(
    ("name", "body"),
    [("intel", "bias_term: true"),
     ("intel", "bias_term: true filler { value: 0.5 } bias_filler { value: 2 }"),
     ("intel-4", "")],
)  # fmt: skip
def test_the_scale_is_in_the_batch_norm(merged: Merger, name: str, body: str) -> None:
    """It multiplies by 1, whatever its fillers: Intel Caffe drops it on loading."""
    blobs = make(CASES[name])
    result = merged("data 2 4 6 7", CONV, BN, scale(body), "end: TanH conv -> out",
                    weights={"bn": blobs, "scale": None})  # fmt: skip
    assert result.names == ["conv", "end"]
    inputs = random_inputs(result.before)
    conv = run_conv(result.before.layers[1], inputs["data"])
    actual = run(result.after, inputs)["out"]
    assert np.abs(actual - np.tanh(expected(CASES[name], conv, blobs))).max() <= 3e-6
    notes = {note.kind: note for note in result.before.notes}
    assert notes["absorbed-weights"].layer == "scale"
    assert "as Intel Caffe saves it" in notes["absorbed-weights"].text
    assert "filler-weights" not in notes
    assert "missing-weights" not in notes


def run_conv(layer: "object", x: np.ndarray) -> np.ndarray:
    """A 3x3 convolution without pads."""
    w, bias = (blob.float64() for blob in layer.blobs)  # type: ignore[attr-defined]
    size = x.shape[2] - 2, x.shape[3] - 2
    y = np.zeros((x.shape[0], C, *size)) + bias.reshape(-1, 1, 1)
    for i, j in np.ndindex(3, 3):
        part = x[:, :, i : i + size[0], j : j + size[1]].astype(np.float64)
        y += np.einsum("oc,nchw->nohw", w[:, :, i, j], part)
    return y


def test_a_scale_of_its_own(merged: Merger) -> None:
    """Where the file has weights for the Scale too, both count."""
    blobs = make(CASES["intel"])
    values = [np.linspace(1, 2, 5), np.ones(5)]
    result = merged("data 2 4 6 7", CONV, BN, scale("bias_term: true"), "end: TanH conv -> out",
                    weights={"bn": blobs, "scale": values})  # fmt: skip
    assert result.names == ["conv", "end"]
    inputs = random_inputs(result.before)
    conv = expected(CASES["intel"], run_conv(result.before.layers[1], inputs["data"]), blobs)
    required = np.tanh(conv * values[0].reshape(-1, 1, 1) + 1)
    assert np.abs(run(result.after, inputs)["out"] - required).max() <= 3e-6


def test_a_scale_behind_a_batch_norm_of_three_blobs(merged: Merger) -> None:
    """It runs on its own fillers, as in any Caffe."""
    result = merged("data 2 4 6 7", CONV, BN.replace("filler { value: 1 }", ""),
                    scale("filler { type: 'constant' value: 0.5 }"), "end: TanH conv -> out",
                    weights={"scale": None})  # fmt: skip
    assert result.names == ["conv", "end"]
    kinds = {note.kind for note in result.before.notes}
    assert "filler-weights" in kinds
    assert "absorbed-weights" not in kinds

"""What is told of a linear layer's weights, against whole arrays and plain sums."""

from typing import Dict, Tuple

import numpy as np
import pytest

from caffe_merge.formats.weights.blobs import Scaled
from caffe_merge.layers import range_table, ranges
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Reason
from tests.nets import make_layer

RANDOM = np.random.default_rng(5)
CONV = "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 %s }"
PRODUCT = "inner_product_param { num_output: 6 bias_term: false %s }"

# The weights, and the axes of their values arranged as (output channel, all that makes it).
CASES: Dict[str, Tuple[str, Tuple[int, ...], Tuple[int, ...]]] = {
    "convolution": ('type: "Convolution" ' + CONV % "bias_term: false", (6, 5, 3, 2), (6, -1)),
    "grouped": ('type: "Convolution" ' + CONV % "group: 3 bias_term: false", (6, 4, 3, 2), (6, -1)),
    "depthwise": ('type: "ConvolutionDepthwise" ' + CONV % "bias_term: false",
                  (6, 1, 3, 2), (6, -1)),
    "product": ('type: "InnerProduct" ' + PRODUCT % "", (6, 7), (6, -1)),
}  # fmt: skip


def rows_of(layer: Layer) -> np.ndarray:
    """The weights that make each output channel, a row each."""
    weights = layer.blobs[0].float64()
    if layer.type == "Deconvolution":
        group = layer.param.convolution_param.group
        parts = np.split(weights, group)  # (inputs, outputs of the group, taps)
        return np.concatenate([part.swapaxes(0, 1).reshape(part.shape[1], -1) for part in parts])
    if layer.type == "InnerProduct" and layer.param.inner_product_param.transpose:
        weights = weights.T
    return weights.reshape(len(weights), -1)


LAYERS = [
    make_layer(text, RANDOM.standard_normal(shape)) for text, shape, _ in CASES.values()
] + [
    make_layer('type: "InnerProduct" ' + PRODUCT % "transpose: true", RANDOM.random((7, 6))),
    make_layer('type: "Deconvolution" ' + CONV % "bias_term: false", RANDOM.random((4, 6, 3, 2))),
    make_layer('type: "Deconvolution" ' + CONV % "group: 3 bias_term: false",
               RANDOM.standard_normal((9, 2, 3, 2))),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.type}{layer.blobs[0].shape}")
@pytest.mark.parametrize("block", [1 << 19, 20])
def test_ranges_and_noise(layer: Layer, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK", block)
    row = range_table.row(layer)
    assert not isinstance(row, Reason)
    rows = rows_of(layer)
    largest = np.abs(rows).max(axis=1)
    assert row.ranges == pytest.approx(largest.tolist())
    assert row.channels == 6
    assert row.largest == pytest.approx(largest.max())
    for step, snr in ((largest.max() / 127, row.snr_per_tensor),
                      (largest[:, np.newaxis] / 127, row.snr_per_channel)):  # fmt: skip
        noise = ((np.round(rows / step) * step - rows) ** 2).sum()
        assert snr == pytest.approx(10 * np.log10((rows**2).sum() / noise))


@pytest.mark.parametrize("shape", [(6, 1, 1, 1), (1, 1, 1, 1), (1, 5, 1, 1), (6, 5, 1, 1)])
def test_scaled_weights_have_the_ranges_of_what_is_written(shape: Tuple[int, ...]) -> None:
    text, weights_shape, _ = CASES["convolution"]
    layer = make_layer(text, RANDOM.standard_normal(weights_shape).astype(np.float32))
    layer.blobs = (Scaled(layer.blobs[0], RANDOM.standard_normal(shape) / 3),)
    written = np.abs(layer.blobs[0].array()).reshape(6, -1).max(axis=1)
    measured = ranges.channel_ranges(layer)
    assert not isinstance(measured, Reason)
    assert measured.tolist() == written.tolist()


def test_channels_that_are_dead_subnormal_or_rounded_away() -> None:
    weights = np.zeros((6, 1, 3, 2))
    weights[:, 0, 0, 0] = [1.0, 0.5, 0.25, 1e-39, 0.0039, 0.0]
    bias = np.array([0.5, -2.0, 0.0, 0.0, 0.0078, 9.0])
    row = range_table.row(make_layer('type: "Convolution" ' + CONV % "group: 6", weights, bias))
    assert not isinstance(row, Reason)
    assert (row.dead, row.subnormal, row.rounded_away) == (1, 1, 2)
    assert row.largest_bias == 9
    assert row.bias_to_range == pytest.approx(4)
    assert row.to_median == pytest.approx(1 / 0.25)
    assert row.biases == tuple(bias.tolist())


def test_the_worst_layer_comes_first() -> None:
    even, odd = np.ones((6, 1, 3, 2)), np.ones((6, 1, 3, 2))
    odd[4] = 40
    text = 'type: "Convolution" ' + CONV % "group: 6 bias_term: false"
    layers = [make_layer(text, even), make_layer('type: "ReLU"'), make_layer(text, odd)]
    layers[2].param.name = "odd"
    assert [row.layer for row in range_table.table(layers).rows] == ["odd", "it"]
    assert ranges.worst(layers) == ("odd", 40.0)
    assert ranges.worst([]) is None


LEFT_OUT = {
    "not finite": (np.full((6, 5, 3, 2), np.nan), np.zeros(6), "weights are not finite"),
    "bias": (np.ones((6, 5, 3, 2)), np.full(6, np.inf), "bias is not finite"),
    "empty": (np.ones((6, 0, 3, 2)), np.zeros(6), "weights have no values"),
    "shape": (np.ones((4, 5, 3, 2)), np.zeros(6), "do not make 6 channels"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_layers_without_a_row_are_named_with_the_reason(name: str) -> None:
    weights, bias, reason = LEFT_OUT[name]
    layers = [make_layer('type: "Convolution" ' + CONV % "", weights, bias)]
    table = range_table.table(layers)
    assert table.rows == []
    assert [layer for layer, _ in table.left_out] == ["it"]
    assert reason in table.left_out[0][1]
    assert ranges.worst(layers) is None or name == "bias"


def test_weights_that_are_missing() -> None:
    layer = make_layer('type: "Convolution" ' + CONV % "", np.ones((6, 5, 3, 2)), np.zeros(6))
    layer.missing = True
    assert "no weights" in str(range_table.row(layer))

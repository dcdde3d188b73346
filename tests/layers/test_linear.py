"""Convolution-like layers of forks fold as Convolution does, by their own loops."""

from typing import List

import numpy as np
import pytest

from tests.merger import Merged, Merger, random_inputs, run

BN = "bn: BatchNorm conv -> bn"
SCALE = "scale: Scale bn -> scale { scale_param { bias_term: true } }"
END = "end: TanH scale -> out"


def depthwise(x: np.ndarray, w: np.ndarray, bias: np.ndarray, stride: int, pad: int,
              dilation: int) -> np.ndarray:  # fmt: skip
    """The loop of conv_dw_layer.cpp: channel c of x meets row c of the weights."""
    reach = [dilation * (k - 1) + 1 for k in w.shape[2:]]
    size = [(n + 2 * pad - r) // stride + 1 for n, r in zip(x.shape[2:], reach)]
    y = np.zeros((*x.shape[:2], *size))
    for place in np.ndindex(*y.shape):
        n, c, *at = place
        for tap in np.ndindex(*w.shape[2:]):
            source = [i * stride - pad + k * dilation for i, k in zip(at, tap)]
            if all(0 <= s < length for s, length in zip(source, x.shape[2:])):
                y[place] += w[(c, 0, *tap)] * x[(n, c, *source)]
        y[place] += bias[c]
    return y


WINDOWS = {
    "plain": ("kernel_size: 3", (3, 3), 1, 0, 1),
    "all": ("kernel_size: 3 stride: 2 pad: 1 dilation: 2", (3, 3), 2, 1, 2),
    "pair": ("kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 1 pad: 1", (3, 2), 1, 1, 1),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ConvolutionDepthwise", "num_output: 17"),  # is not read
        ("ConvolutionDepthwise", ""),
        ("DepthwiseConvolution", "num_output: 6 group: 6"),
        ("DepthwiseConv", "num_output: 6 group: 6"),
    ],
)
def test_it_folds(merged: Merger, kind: str, fields: str, window: str, bias: bool) -> None:
    text, kernel, stride, pad, dilation = WINDOWS[window]
    body = f"convolution_param {{ {fields} {text} bias_term: {'true' if bias else 'false'} }}"
    random = np.random.default_rng(3)
    weights = random.standard_normal((6, 1, *kernel)).astype(np.float32)
    offset = random.standard_normal(6).astype(np.float32) * bias
    blobs = [weights, offset] if bias else [weights]
    layer = f"conv: {kind} data -> conv {{ {body} }}"
    result = merged("data 2 6 8 7", layer, BN, SCALE, END, weights={"conv": blobs})
    assert result.names == ["conv", "end"]
    new = result.layer("conv")
    assert new.type == kind
    assert new.param.convolution_param.bias_term
    assert [blob.shape for blob in new.blobs] == [(6, 1, *kernel), (6,)]
    check(result, depthwise(inputs(result), weights, offset, stride, pad, dilation))


def inputs(result: Merged) -> np.ndarray:
    return np.asarray(random_inputs(result.before)["data"], np.float64)


def check(result: Merged, convolved: np.ndarray) -> None:
    """The merged net gives what Scale and BatchNorm make of ``convolved``."""
    blobs = {layer.name: [b.float64() for b in layer.blobs] for layer in result.before.layers}
    mean, variance, factor = blobs["bn"]
    column: List[np.ndarray] = [
        v.reshape(-1, 1, 1) for v in (mean / factor, variance / factor, *blobs["scale"])
    ]
    expected = np.tanh((convolved - column[0]) / np.sqrt(column[1] + 1e-5) * column[2] + column[3])
    actual = run(result.after, random_inputs(result.before))["out"]
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 3e-6


def test_each_channel_has_its_own_rows(merged: Merger) -> None:
    """DepthwiseConvolution is a grouped Convolution: of several rows a channel, too."""
    body = "convolution_param { num_output: 6 group: 3 kernel_size: 2 }"
    result = merged("data 2 3 5 4", f"conv: DepthwiseConvolution data -> conv {{ {body} }}",
                    BN, SCALE, END)  # fmt: skip
    assert result.names == ["conv", "end"]
    w, bias = (blob.float64() for blob in result.before.layers[1].blobs)
    x = np.repeat(inputs(result), 2, axis=1)
    check(result, depthwise(x, w, bias, 1, 0, 1))


def test_between_them_shapes_are_known(merged: Merger) -> None:
    """Two in a row, the second without a BatchNorm: nothing hides behind the first."""
    body = "{ convolution_param { kernel_size: 3 stride: 2 } }"
    second = "last: InnerProduct out -> last { inner_product_param { num_output: 2 } }"
    weights = {"conv": [np.ones((4, 1, 3, 3)), np.ones(4)]}
    result = merged("data 2 4 9 9", f"conv: ConvolutionDepthwise data -> conv {body}",
                    BN, SCALE, END, second, weights=weights)  # fmt: skip
    assert result.names == ["conv", "end", "last"]
    assert result.report.before.uncounted == 0
    products = 2 * 4 * 4 * 4 * 9 + 2 * 2 * 64
    assert result.report.after.multiply_adds == products


UNFIT = {
    "one of a pair": ("kernel_size: 3 stride_h: 2", (4, 1, 3, 3), "of a pair such as stride_h"),
    "rows of two": ("kernel_size: 3", (4, 2, 3, 3), "expected shape \\(4, 1, 3, 3\\)"),
    "relu": ("kernel_size: 3 relu: true", (4, 1, 3, 3), "convolution_param.relu is a fork's field"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_refused(merged: Merger, name: str) -> None:
    text, shape, reason = UNFIT[name]
    body = f"{{ convolution_param {{ {text} bias_term: false }} }}"
    net = ["data 2 4 9 9", f"conv: ConvolutionDepthwise data -> conv {body}", BN, SCALE, END]
    weights = {
        "conv": [np.ones(shape)],
        "bn": [np.ones(4), np.ones(4), np.ones(1)],
        "scale": [np.ones(4), np.arange(4.0)],
    }
    if name == "rows of two":
        with pytest.raises(Exception, match=reason):
            merged(*net, weights=weights)
        return
    result = merged(*net, weights=weights)
    assert result.names == ["conv", "scale", "end"]
    assert reason in result.fate("bn").detail


def test_intels_relu(merged: Merger) -> None:
    """A Convolution with a ReLU in it is not linear, and what follows stays behind it."""
    body = "{ convolution_param { num_output: 4 kernel_size: 3 relu: true } }"
    weights = {"conv": [np.ones((4, 3, 3, 3)), np.ones(4)],
               "bn": [np.ones(4), np.ones(4), np.ones(1)],
               "scale": [np.ones(4), np.arange(4.0)]}  # fmt: skip
    result = merged("data 2 3 9 9", f"conv: Convolution data -> conv {body}", BN, SCALE, END,
                    weights=weights)  # fmt: skip
    assert result.names == ["conv", "scale", "end"]
    assert "convolution_param.relu is a fork's field" in result.fate("bn").detail

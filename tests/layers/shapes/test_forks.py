"""Layers of forks that are not folded pass through, and what lies around them folds."""

from typing import List

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.errors import NetError
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers import shapes
from caffe_merge.layers.spec import LayerSpec
from tests.merger import Merger

CONV = "{ convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }"
SCALE = "{ scale_param { bias_term: true } }"

# The layer's own text, what is in its block, and whether its output is known here.
PASS = {
    "Normalize": ("norm_param { across_spatial: false channel_shared: false }", True),
    "Permute": ("permute_param { order: 0 order: 2 order: 3 order: 1 }", True),
    "PriorBox": ("prior_box_param { min_size: 30 }", False),
    "DetectionOutput": ("detection_output_param { num_classes: 2 }", False),
    "Interp": ("interp_param { height: 9 width: 5 }", True),
    "ROIPooling": ("roi_pooling_param { pooled_w: 2 }", False),
    "Python": ('python_param { module: "rpn" layer: "ProposalLayer" }', False),
    "ShuffleChannel": ("shuffle_channel_param { group: 3 }", True),
    "Upsample": ("upsample_param { scale: 2 }", False),
    "ReLU6": ("", True),
    "CReLU": ("crelu_param { concat_axis: 1 }", False),
    "BatchReNorm": ("", False),
    "Mystery": ("", False),
}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("kind", PASS)
def test_it_passes_through(merged: Merger, kind: str, in_place: bool) -> None:
    """What is before it folds before, what is behind stays behind; fold-through apart."""
    body, _ = PASS[kind]
    top = "b1" if in_place else "odd"
    blobs = [np.linspace(1, 2, 6)] if kind == "Normalize" else []
    if in_place and kind in ("Permute", "Interp", "Upsample"):
        pytest.skip("its top has another shape")
    result = merged(
        "data 2 4 5 5",
        f"c1: Convolution data -> c1 {CONV}",
        "b1: BatchNorm c1 -> b1",
        f"odd: {kind} b1 -> {top} {{ {body} }}",
        f"s1: Scale {top} -> s1 {SCALE}",
        f"c2: Convolution data -> c2 {CONV}",
        "b2: BatchNorm c2 -> b2",
        "t: TanH b2 -> t2",
        weights={"odd": blobs, "s1": [np.linspace(1, 2, 6), np.ones(6)]}
        if kind not in ("Permute",)
        else {"s1": [np.linspace(1, 2, 5), np.ones(5)]},
        skip=["fold-through"],
    )
    assert result.names == ["c1", "odd", "s1", "c2", "t"]
    article = "an" if kind[0] in "AEIOU" else "a"
    assert f"it is fed by 'odd', {article} {kind}" in result.fate("s1").detail
    old = next(layer for layer in result.before.layers if layer.name == "odd")
    assert result.layer("odd").extra == old.extra
    assert (body in result.text) == bool(body) or not body


def test_axpy(merged: Merger) -> None:
    """SENet's: factor x + y. Its bottoms are three consumers, and a BatchNorm before it folds."""
    result = merged(
        "data 2 4 5 5",
        f"c1: Convolution data -> c1 {CONV}",
        "b1: BatchNorm c1 -> b1",
        "pool: Pooling b1 -> pool { pooling_param { pool: AVE global_pooling: true } }",
        "sig: Sigmoid pool -> sig",
        "axpy: Axpy sig b1 b1 -> axpy",
        f"s1: Scale axpy -> s1 {SCALE}",
    )
    assert result.names == ["c1", "pool", "sig", "axpy", "s1"]
    assert "it is fed by 'axpy', an Axpy" in result.fate("s1").detail


# -- the ones that are computed --------------------------------------------------------------


def forward(
    kind: str, extra: "dict[str, str]", blobs: List[np.ndarray], *x: np.ndarray
) -> np.ndarray:
    """One top of a layer of a fork."""
    param = LayerParameter(name="it", type=kind, bottom=["x"] * len(x), top=["y"])
    layer = LayerSpec(param, extra)
    (y,) = reference.forward(layer, blobs, x)
    assert shapes.tops(layer, [item.shape for item in x]) == [y.shape]
    return y


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


@pytest.mark.parametrize(("order", "whole"), [("0 2 3 1", (0, 2, 3, 1)), ("3 1", (3, 1, 0, 2)),
                                              ("", (0, 1, 2, 3))])  # fmt: skip
def test_permute(order: str, whole: "tuple[int, ...]") -> None:
    """SSD: top axis i is bottom axis order[i]; axes that are not named follow."""
    x = noise(2, 3, 4, 5)
    y = forward("Permute", {"permute_param.order": order}, [], x)
    for place in np.ndindex(*y.shape):
        source = [0] * 4
        for axis, index in zip(whole, place):
            source[axis] = index
        assert y[place] == x[tuple(source)]


@pytest.mark.parametrize("order", ["0 0 1 2", "0 4"])
def test_no_permutation(order: str) -> None:
    with pytest.raises(NetError, match="each of 4 axes at most once"):
        forward("Permute", {"permute_param.order": order}, [], noise(2, 3, 4, 5))


def test_shuffle_channel() -> None:
    """Channel i C/g + j of the bottom is channel j g + i of the top."""
    x = noise(2, 6, 4, 5)
    y = forward("ShuffleChannel", {"shuffle_channel_param.group": "3"}, [], x)
    for i in range(3):
        for j in range(2):
            np.testing.assert_array_equal(y[:, j * 3 + i], x[:, i * 2 + j])
    with pytest.raises(NetError, match="a multiple of group 4"):
        forward("ShuffleChannel", {"shuffle_channel_param.group": "4"}, [], x)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy_alone(shape: "tuple[int, ...]") -> None:
    factor, x, y = noise(*shape), noise(2, 3, 4, 5), noise(2, 3, 4, 5) + 1
    actual = forward("Axpy", {}, [], factor, x, y)
    for n in range(2):
        for c in range(3):
            expected = factor.reshape(2, 3)[n, c] * x[n, c] + y[n, c]
            np.testing.assert_allclose(actual[n, c], expected, rtol=1e-15)
    with pytest.raises(NetError, match="a factor of shape"):
        forward("Axpy", {}, [], noise(3, 2), x, y)


@pytest.mark.parametrize("across", ["true", "false"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_normalize(across: str, shared: str) -> None:
    """SSD: x / sqrt(sum of x^2 + eps) times a scale, over the image or at each place."""
    x = noise(2, 3, 4, 5)
    scale = np.array(20.0) if shared == "true" else np.array([20.0, 10.0, -5.0])
    extra = {"norm_param.across_spatial": across, "norm_param.channel_shared": shared,
             "norm_param.eps": "0.5"}  # fmt: skip
    y = forward("Normalize", extra, [scale], x)
    for n, c, h, w in np.ndindex(*x.shape):
        total = (x[n] ** 2).sum() if across == "true" else (x[n, :, h, w] ** 2).sum()
        expected = x[n, c, h, w] / (total + 0.5) ** 0.5 * (20.0 if shared == "true" else scale[c])
        assert y[n, c, h, w] == pytest.approx(expected, rel=1e-12)


INTERP = {
    "size": ("height: 7 width: 9", (7, 9), 0, 0),
    "one": ("height: 1 width: 1", (1, 1), 0, 0),
    "zoom": ("zoom_factor: 3", (10, 13), 0, 0),
    "shrink": ("shrink_factor: 2", (2, 3), 0, 0),
    "both": ("shrink_factor: 2 zoom_factor: 3", (4, 7), 0, 0),
    "crop": ("height: 5 width: 5 pad_beg: -1 pad_end: -1", (5, 5), 1, 1),
    "size and zoom": ("height: 3 width: 3 zoom_factor: 2", (7, 9), 0, 0),
}


@pytest.mark.parametrize("name", INTERP)
def test_interp(name: str) -> None:
    """PSPNet, DeepLab: the corners meet; place i reads from i (in - 1) / (out - 1)."""
    text, size, begin, end = INTERP[name]
    words = text.replace(":", "").split()
    extra = {f"interp_param.{key}": value for key, value in zip(words[::2], words[1::2])}
    whole = noise(2, 3, 4, 5)
    x = whole[:, :, begin : 4 - end, begin : 5 - end]
    y = forward("Interp", extra, [], whole)
    assert y.shape == (2, 3, *size)
    for h in range(size[0]):
        for w in range(size[1]):
            at = [i * (n - 1) / (m - 1) if m > 1 else 0.0
                  for i, n, m in zip((h, w), x.shape[2:], size)]  # fmt: skip
            low = [min(int(a + 1e-9), n - 1) for a, n in zip(at, x.shape[2:])]
            high = [min(item + 1, n - 1) for item, n in zip(low, x.shape[2:])]
            u, v = at[0] - low[0], at[1] - low[1]
            expected = (
                (1 - u) * (1 - v) * x[:, :, low[0], low[1]]
                + (1 - u) * v * x[:, :, low[0], high[1]]
                + u * (1 - v) * x[:, :, high[0], low[1]]
                + u * v * x[:, :, high[0], high[1]]
            )
            np.testing.assert_allclose(y[:, :, h, w], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "text", ["", "height: 3", "zoom_factor: 0", "height: 2 width: 2 pad_beg: 1"]
)
def test_no_interp(text: str) -> None:
    words = text.replace(":", "").split()
    extra = {f"interp_param.{key}": value for key, value in zip(words[::2], words[1::2])}
    with pytest.raises(NetError):
        forward("Interp", extra, [], noise(2, 3, 4, 5))


UPSAMPLE = {
    "scale: 2": (6, 8),
    "": (6, 8),  # of two bottoms, as SegNet has it
    "scale: 2 pad_out_h: true": (5, 8),
    "scale_h: 3 scale_w: 4": (9, 16),
    "upsample_h: 7 upsample_w: 9 scale: 2": (7, 9),
}


@pytest.mark.parametrize("text", UPSAMPLE)
def test_upsample(text: str) -> None:
    """SegNet's: what it makes is not computed, how large it is can be told."""
    words = text.replace(":", "").split()
    extra = {f"upsample_param.{key}": value for key, value in zip(words[::2], words[1::2])}
    param = LayerParameter(name="it", type="Upsample", bottom=["x", "mask"], top=["y"])
    layer = LayerSpec(param, extra)
    assert shapes.tops(layer, [(2, 5, 3, 4)] * 2) == [(2, 5, *UPSAMPLE[text])]
    assert shapes.blobs(layer, [(2, 5, 3, 4)] * 2) == []
    assert shapes.tops(layer, [(2, 5, 3, 4), (2,)]) is None  # no mask: some other fork's


def test_upsample_without_a_mask() -> None:
    """eric612's; without a scale, or with SegNet's fields, forks may differ."""
    param = LayerParameter(name="it", type="Upsample", bottom=["x"], top=["y"])
    for extra, expected in (
        ({"upsample_param.scale": "3"}, [(2, 5, 9, 12)]),
        ({}, None),
        ({"upsample_param.scale": "3", "upsample_param.pad_out_h": "true"}, None),
    ):
        assert shapes.tops(LayerSpec(param, extra), [(2, 5, 3, 4)]) == expected


def test_roi_pooling() -> None:
    """An image of 6 x 7 for each of 8 regions, whose number the second bottom tells."""
    param = LayerParameter(name="it", type="ROIPooling", bottom=["x", "r"], top=["y"])
    extra = {"roi_pooling_param.pooled_h": "6", "roi_pooling_param.pooled_w": "7"}
    bottoms = [(2, 5, 30, 40), (8, 5)]
    assert shapes.tops(LayerSpec(param, extra), bottoms) == [(8, 5, 6, 7)]
    assert shapes.tops(LayerSpec(param, {}), bottoms) is None


def test_python_layers() -> None:
    """Of ENet's spatial dropout the shape is known, and that it learns nothing; of others not."""
    fields = {"python_param": {"module": "spatial_dropout", "layer": "SpatialDropoutLayer"}}
    known_shapes = LayerSpec(
        LayerParameter(name="it", type="Python", bottom=["x"], top=["y"], **fields)
    )
    other = LayerSpec(LayerParameter(name="it", type="Python", bottom=["x"], top=["y"]))
    assert shapes.tops(known_shapes, [(2, 5, 3, 4)]) == [(2, 5, 3, 4)]
    assert shapes.blobs(known_shapes, [(2, 5, 3, 4)]) == []
    assert shapes.tops(other, [(2, 5, 3, 4)]) is None
    assert shapes.blobs(other, [(2, 5, 3, 4)]) is None


def test_relu6(merged: Merger) -> None:
    """min(max(x, 0), 6); what a slope does differs between forks, and is not guessed."""
    weights = {"c": [np.ones((6, 4, 1, 1)) * 9, np.zeros(6)]}
    conv = "c: Convolution data -> c { convolution_param { num_output: 6 kernel_size: 1 } }"
    result = merged("data 2 4 5 5", conv, "r: ReLU6 c -> r", weights=weights)
    from tests.merger import random_inputs, run

    inputs = random_inputs(result.before)
    actual = run(result.before, inputs)["r"]
    x = 9 * inputs["data"].astype(np.float64).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(actual, np.repeat(np.minimum(np.maximum(x, 0), 6), 6, 1), rtol=1e-12)
    assert 0 < (actual == 6).mean() < 1
    sloped = merged("data 2 4 5 5", conv, "r: ReLU6 c -> r { relu6_param { negative_slope: 0.1 } }",
                    weights=weights)  # fmt: skip
    assert "r" not in run(sloped.before, inputs)

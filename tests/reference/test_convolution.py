"""Convolution, Deconvolution and InnerProduct against real Caffe, and against plain loops."""

from itertools import product
from typing import Iterator

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.arrays import Shape
from caffe_merge.layers import shapes
from caffe_merge.reference import convolution
from tests.nets import parse_spec
from tests.reference.cases import Case, as_caffe, normal


def conv(name: str, param: str, *bottoms: tuple, kind: str = "Convolution", tops: int = 1) -> Case:
    """A Convolution or Deconvolution of (2, 6, 7, 5) unless told otherwise."""
    body = f'type: "{kind}" convolution_param {{ {param} }}'
    return Case(name, body, bottoms or ((2, 6, 7, 5),), tops)


def deconv(name: str, param: str, *bottoms: tuple) -> Case:
    """A Deconvolution."""
    return conv(name, param, *bottoms, kind="Deconvolution")


def inner(name: str, param: str, *bottoms: tuple) -> Case:
    """An InnerProduct."""
    return Case(name, f'type: "InnerProduct" inner_product_param {{ {param} }}', bottoms)


CASES = [
    conv("plain", "num_output: 4 kernel_size: 3"),
    conv("no_bias", "num_output: 4 kernel_size: 3 bias_term: false"),
    conv("pointwise", "num_output: 9 kernel_size: 1"),
    conv("pointwise_group", "num_output: 9 kernel_size: 1 group: 3"),
    conv("pointwise_stride", "num_output: 4 kernel_size: 1 stride: 2"),
    conv("pointwise_pad", "num_output: 4 kernel_size: 1 pad: 1"),
    conv("group", "num_output: 4 kernel_size: 3 pad: 1 group: 2"),
    conv("depthwise", "num_output: 6 kernel_size: 3 pad: 1 group: 6"),
    conv("depthwise_stride", "num_output: 6 kernel_size: 3 pad: 1 stride: 2 dilation: 3 group: 6"),
    conv(
        "depthwise_uneven",
        "num_output: 6 kernel_h: 4 kernel_w: 2 stride_h: 3 stride_w: 2 pad_h: 1 pad_w: 4 group: 6",
    ),
    conv("depthwise_one_d", "num_output: 6 kernel_size: 3 pad: 1 stride: 2 group: 6", (2, 6, 11)),
    conv("depthwise_large", "num_output: 3 kernel_size: 8 stride: 4 group: 3", (2, 3, 7, 9)),
    conv("depthwise_apart", "num_output: 6 kernel_size: 3 stride: 2 dilation: 4 pad: 4 group: 6"),
    conv(
        "depthwise_three_d",
        "num_output: 6 kernel_size: 2 kernel_size: 3 kernel_size: 1 pad: 1 group: 6",
        (2, 6, 3, 4, 5),
    ),
    conv("depthwise_cube", "num_output: 6 kernel_size: 2 pad: 1 group: 6", (2, 6, 3, 4, 5)),
    conv("few", "num_output: 2 kernel_size: 3 pad: 1"),
    conv(
        "few_group", "num_output: 2 kernel_h: 3 kernel_w: 2 pad_h: 2 pad_w: 0 dilation: 2 group: 2"
    ),
    conv("few_wide_pad", "num_output: 1 kernel_size: 2 pad: 5"),
    conv("depthwise_twice", "num_output: 12 kernel_size: 3 stride: 2 group: 6"),
    conv(
        "sides", "num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 2"
    ),
    conv(
        "repeated", "num_output: 4 kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 pad: 0 pad: 3"
    ),
    conv("lone_pad_h", "num_output: 4 kernel_size: 3 pad_h: 2"),
    conv("dilation", "num_output: 4 kernel_size: 3 dilation: 2 pad: 2 stride: 2 group: 2"),
    conv("dilations", "num_output: 4 kernel_size: 2 dilation: 3 dilation: 2"),
    conv("dilation_0", "num_output: 4 kernel_size: 2 dilation: 0"),
    conv("force_nd", "num_output: 4 kernel_size: 3 pad: 1 force_nd_im2col: true"),
    conv("wide_pad", "num_output: 4 kernel_size: 2 pad: 5 stride: 3"),
    conv("of_one_place", "num_output: 4 kernel_size: 3 pad: 1", (3, 6, 1, 1)),
    conv("depthwise_of_one_place", "num_output: 6 kernel_size: 5 pad: 2 group: 6", (3, 6, 1, 1)),
    conv("of_padding", "num_output: 4 kernel_h: 3 kernel_w: 4 pad: 3 dilation: 2", (2, 6, 2, 1)),
    conv("beside", "num_output: 4 kernel_size: 2 dilation: 2 pad: 1", (2, 6, 1, 1)),
    conv("too_large_kernel", "num_output: 4 kernel_size: 8 stride: 4", (2, 3, 7, 9)),
    conv("axis_2", "num_output: 4 kernel_size: 3 axis: 2", (2, 3, 6, 7, 5)),
    conv("axis_negative", "num_output: 4 kernel_size: 2 axis: -2", (2, 3, 6, 7)),
    conv("no_spatial", "num_output: 4 kernel_size: 3", (5, 6)),
    conv("one_d", "num_output: 4 kernel_size: 3 pad: 1 stride: 2 group: 2", (2, 6, 11)),
    conv(
        "three_d",
        "num_output: 4 kernel_size: 3 kernel_size: 2 kernel_size: 1 pad: 1 stride: 2 group: 2",
        (2, 6, 5, 4, 3),
    ),
    conv("two_bottoms", "num_output: 4 kernel_size: 3", (2, 6, 7, 5), (2, 6, 7, 5), tops=2),
    deconv("up", "num_output: 4 kernel_size: 4 stride: 2 pad: 1"),
    deconv("up_group", "num_output: 4 kernel_size: 3 stride: 2 group: 2"),
    deconv("up_depthwise", "num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 6"),
    deconv("up_pointwise", "num_output: 4 kernel_size: 1"),
    deconv("up_sides", "num_output: 4 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_w: 1"),
    deconv("up_dilation", "num_output: 4 kernel_size: 3 dilation: 2 pad: 1 bias_term: false"),
    deconv("up_one_d", "num_output: 4 kernel_size: 3 stride: 3 group: 2", (2, 6, 5)),
    deconv("up_three_d", "num_output: 4 kernel_size: 2 stride: 2 group: 2", (2, 6, 3, 4, 5)),
    deconv("up_axis_2", "num_output: 4 kernel_size: 3 axis: 2", (2, 3, 6, 4, 5)),
    inner("dense", "num_output: 4", (2, 6, 7, 5)),
    inner("dense_no_bias", "num_output: 4 bias_term: false", (2, 6)),
    inner("dense_transpose", "num_output: 4 transpose: true", (2, 6, 3)),
    inner("dense_axis_2", "num_output: 4 axis: 2", (2, 3, 6, 5)),
    inner("dense_axis_last", "num_output: 4 axis: -1", (2, 3, 6)),
    inner("dense_axis_0", "num_output: 4 axis: 0", (2, 3)),
]


CHANNELS_SECOND = [case for case in CASES if "axis" not in case.body and "dense" not in case.name]


test_as_caffe = as_caffe(CASES)


def places(window: Shape, size: Shape) -> Iterator[tuple]:
    """Every (kernel offset, position) pair of a window."""
    return product(product(*map(range, window)), product(*map(range, size)))


@pytest.mark.parametrize("case", CHANNELS_SECOND, ids=lambda case: case.name)
@pytest.mark.parametrize("block", [convolution.BLOCK, 200], ids=["one block", "many blocks"])
def test_as_plain_loops(case: Case, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "BLOCK", block)
    monkeypatch.setattr(convolution, "CACHED", block)
    layer, (x, *_) = case.layer(), normal(case.name, case.bottoms)
    x = x.astype(np.float64)
    blobs = [b.astype(np.float64) for b in normal("w", shapes.blobs(layer, case.bottoms))]
    top = shapes.tops(layer, case.bottoms)[0]
    expected = np.zeros(top)
    param, window = (
        layer.param.convolution_param,
        shapes.geometry.convolution_window(layer, x.ndim - 2),
    )
    up = layer.type == "Deconvolution"
    small, large = (x, expected) if up else (expected, x)
    kernels = blobs[0].reshape(param.group, -1, *blobs[0].shape[1:])
    for offset, place in places(window.kernel, small.shape[2:]):
        at = tuple(
            p * s - pad + k * d
            for p, s, pad, k, d in zip(place, window.stride, window.pad, offset, window.dilation)
        )
        if not all(0 <= a < n for a, n in zip(at, large.shape[2:])):
            continue
        from_, to = (place, at) if up else (at, place)
        values = x[(..., *from_)].reshape(len(x), param.group, -1)
        by_group = "ngc,gcm->ngm" if up else "ngc,gmc->ngm"
        part = np.einsum(by_group, values, kernels[(..., *offset)])
        expected[(..., *to)] += part.reshape(len(x), -1)
    if len(blobs) > 1:
        expected += blobs[1].reshape(-1, *[1] * (x.ndim - 2))
    actual = reference.forward(layer, blobs, [x] * len(case.bottoms))[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    "param",
    [
        "num_output: 72 kernel_size: 3 pad: 1",
        "num_output: 72 kernel_h: 1 kernel_w: 7",
        "num_output: 4 kernel_size: 5 pad: 2",
        "num_output: 64 kernel_size: 3 pad: 1 group: 64",
        "num_output: 128 kernel_size: 3 group: 2",
    ],
)
def test_what_is_all_zeros_gives_exact_zeros(param: str) -> None:
    """What follows may be a square root."""
    shape = (2, 64, 23, 26)
    layer = parse_spec(
        f'type: "Convolution" top: "y" convolution_param {{ {param} bias_term: false }}'
    )
    (weights,) = (np.abs(b.astype(np.float64)) for b in normal("w", shapes.blobs(layer, [shape])))
    zeros = np.abs(normal("x", [shape])[0].astype(np.float64))
    zeros[:, :, 5:19, 4:21] = 0
    (y,) = reference.forward(layer, [weights], [zeros])
    assert (y[:, :, 11, 12] == 0).all()
    assert y.min() == 0


def test_blocks_cover_a_grid_once() -> None:
    seen = np.zeros((3, 4, 5), int)
    for box in convolution._blocks(seen.shape, 7):
        part = seen[tuple(slice(*span) for span in box)]
        assert 0 < part.size <= 7
        part += 1
    assert (seen == 1).all()


def test_memory_is_bounded() -> None:
    """The columns of this layer would be 151 MB, and the input padded as a whole 18 MB."""
    import tracemalloc

    body = 'type: "Convolution" top: "y" convolution_param { num_output: 1 kernel_size: 3 pad: 1 }'
    layer, shape = parse_spec(body), (2, 4, 512, 512)
    x, w, b = (np.zeros(s) for s in (shape, (1, 4, 3, 3), (1,)))
    tracemalloc.start()
    reference.forward(layer, [w, b], [x])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_a_convolution_of_an_image_without_places() -> None:
    body = "convolution_param { num_output: 4 kernel_size: 1 }"
    spec = parse_spec(f'type: "Convolution" bottom: "x" top: "y" {body}')
    blobs = [np.ones((4, 3, 1, 1)), np.ones(4)]
    assert reference.forward(spec, blobs, [np.ones((2, 3, 0, 0))])[0].shape == (2, 4, 0, 0)

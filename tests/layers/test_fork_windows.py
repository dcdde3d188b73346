"""Windows in the fields of forks, computed as Caffe computes them: BVLC's words or the fork's own.

What BVLC can say in other words is compared with BVLC's Caffe, what a Caffe of many forks knows
(ceil_mode, ConvolutionDepthwise) with that one, and the rest with the forks' formulas.
"""

from itertools import product
from pathlib import Path
from typing import Dict, Optional, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import TextError
from caffe_merge.layers.identity import identity
from caffe_merge.net import saving
from caffe_merge.net.graph import Graph
from tests.merger import Arrays, random_inputs, run
from tests.nets import Weights, load, parse, prototxt
from tests.real_caffe import RealCaffe

Size = Tuple[int, ...]
RANDOM = np.random.default_rng(3)
CONV = [RANDOM.standard_normal((4, 3, 3, 2)), RANDOM.standard_normal(4)]
NOTHING: Weights = {"it": []}
DECONV = [RANDOM.standard_normal((3, 4, 3, 2)), RANDOM.standard_normal(4)]
DATA = "data 2 3 9 8"


def net(kind: str, fields: str, data: str = DATA) -> str:
    block = "pooling_param" if kind == "Pooling" else "convolution_param"
    return prototxt(data, f"it: {kind} data -> it {{ {block} {{ {fields} }} }}")


def computed(folder: Path, text: str, weights: Weights) -> Tuple[Arrays, Arrays]:
    """The blobs of a net in float64, and its inputs."""
    read = load(folder, text, weights)
    inputs = random_inputs(read)
    return run(read, inputs), inputs


KERNEL = "num_output: 4 kernel_h: 3 kernel_w: 2 "
# The fork's fields, and BVLC's that say the same.
IN_OTHER_WORDS = {
    "hole": ("Convolution", KERNEL + "hole: 2", KERNEL + "dilation: 2"),
    "hole 1": ("Convolution", KERNEL + "hole: 1", KERNEL),
    "hole_h hole_w": (
        "Convolution", KERNEL + "hole_h: 2 hole_w: 3", KERNEL + "dilation: 2 dilation: 3"
    ),
    "hole_w first": (
        "Convolution", KERNEL + "hole_w: 3 hole_h: 2", KERNEL + "dilation: 2 dilation: 3"
    ),
    "hole, pad and stride": (
        "Convolution", KERNEL + "pad: 2 stride: 2 hole: 2", KERNEL + "pad: 2 stride: 2 dilation: 2"
    ),
    "hole of a Deconvolution": ("Deconvolution", KERNEL + "hole: 2", KERNEL + "dilation: 2"),
    "equal pads": (
        "Convolution", KERNEL + "pad_l: 1 pad_r: 1 pad_t: 2 pad_b: 2", KERNEL + "pad_h: 2 pad_w: 1"
    ),
    "equal pads of a Deconvolution": (
        "Deconvolution", KERNEL + "pad_l: 1 pad_r: 1 pad_t: 2 pad_b: 2",
        KERNEL + "pad_h: 2 pad_w: 1",
    ),
    "pads of 0": ("Convolution", KERNEL + "pad_l: 0 pad_b: 0", KERNEL),
    "equal pads of a Pooling": (
        "Pooling", "kernel_size: 3 stride: 2 pad_l: 1 pad_r: 1 pad_t: 2 pad_b: 2",
        "kernel_size: 3 stride: 2 pad_h: 2 pad_w: 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_OTHER_WORDS)
def test_as_bvlc_says_it_in_other_words(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    kind, fork, bvlc = IN_OTHER_WORDS[case]
    weights: Weights = {"it": {"Convolution": CONV, "Deconvolution": DECONV, "Pooling": []}[kind]}
    blobs, inputs = computed(tmp_path, net(kind, fork), weights)
    of_caffe = real_caffe.forward(net(kind, bvlc), weights, inputs)
    np.testing.assert_allclose(blobs["it"], of_caffe["it"], rtol=1e-4, atol=1e-5)


SIDES = ("", "pad_l: 1", "pad_r: 2", "pad_t: 1 pad_b: 2 pad_l: 2", "pad_t: 3",
         "pad_b: 1 stride: 2 dilation: 2")  # fmt: skip
SHAPES = {"wide": (4, 3), "narrow": (1, 3), "depthwise": (3, 1)}  # outputs, inputs of each


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fields", SIDES)
def test_a_side_of_padding_is_zeros_on_that_side(
    fields: str, shape: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    """BVLC's Caffe, without padding, on an input that has the zeros already."""
    outputs, inputs_each = SHAPES[shape]
    kernel = f"kernel_h: 3 kernel_w: 2 num_output: {outputs} group: {3 // inputs_each} "
    weights: Weights = {"it": [RANDOM.standard_normal((*SHAPES[shape], 3, 2)), CONV[1][:outputs]]}
    words = dict(zip(*[iter(fields.replace(":", "").split())] * 2))
    sides = [int(words.get(name, 0)) for name in ("pad_t", "pad_b", "pad_l", "pad_r")]
    rest = "".join(f"{name}: {words[name]} " for name in ("stride", "dilation") if name in words)
    blobs, inputs = computed(tmp_path, net("Convolution", kernel + fields), weights)
    x = np.pad(inputs["data"], ((0, 0), (0, 0), sides[:2], sides[2:]))
    text = net("Convolution", kernel + rest, "data " + " ".join(map(str, x.shape)))
    of_caffe = real_caffe.forward(text, weights, {"data": x})
    np.testing.assert_allclose(blobs["it"], of_caffe["it"], rtol=1e-4, atol=1e-5)


def pooled(x: np.ndarray, kernel: Size, stride: Size, begin: Size, end: Size, mean: bool,
           size: Size) -> np.ndarray:  # fmt: skip
    """Synopsys' and ECO's loops (pooling_layer.cpp): a mean over what is inside the padding."""
    x, y = x.astype(np.float64), np.zeros((*x.shape[:2], *size))
    for place in product(*map(range, size)):
        spans, area = [], 1
        for axis, o in enumerate(place):
            first = o * stride[axis] - begin[axis]
            last = min(first + kernel[axis], x.shape[2 + axis] + end[axis])
            area *= last - first
            spans.append(slice(max(first, 0), min(last, x.shape[2 + axis])))
        values = x[(slice(None), slice(None), *spans)].reshape(*x.shape[:2], -1)
        y[(slice(None), slice(None), *place)] = (
            values.sum(axis=2) / area if mean else values.max(axis=2)
        )
    return y


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_a_pooling_pads_each_side_by_itself(pool: str, tmp_path: Path) -> None:
    fields = f"pool: {pool} kernel_size: 3 stride: 2 pad_t: 1 pad_l: 2 pad_r: 1"
    blobs, inputs = computed(tmp_path, net("Pooling", fields), NOTHING)
    # Up: (9 + 1 - 3) / 2 and (8 + 3 - 3) / 2; the last one starts inside the image.
    y = pooled(inputs["data"], (3, 3), (2, 2), (1, 2), (0, 1), pool == "AVE", (5, 5))
    np.testing.assert_allclose(blobs["it"], y, rtol=1e-6)


CEIL = ["", *(f"{pad}ceil_mode: {value}" for pad in ("", "pad: 1 ") for value in ("true", "false"))]


@pytest.mark.parametrize("fields", CEIL)
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_ceil_mode_as_a_caffe_that_has_it(
    fields: str, pool: str, tmp_path: Path, forks_caffe: RealCaffe
) -> None:
    """But for the mean of a window that sticks out: that Caffe divides by the whole kernel."""
    text = net("Pooling", f"pool: {pool} kernel_size: 3 stride: 3 {fields}", "data 2 3 10 11")
    blobs, inputs = computed(tmp_path, text, NOTHING)
    of_caffe = forks_caffe.forward(text, NOTHING, inputs)["it"]
    assert blobs["it"].shape == of_caffe.shape
    inside = (..., slice(3), slice(3)) if pool == "AVE" else (...,)
    np.testing.assert_allclose(blobs["it"][inside], of_caffe[inside], rtol=1e-5, atol=1e-6)


DEPTHWISE = [
    "kernel_size: 3 pad: 0 stride: 1",
    "kernel_h: 3 kernel_w: 3 pad: 1 stride: 2 num_output: 3",
    "kernel_size: 3 pad: 2 stride: 1 dilation: 2 num_output: 9 group: 3",
]


@pytest.mark.parametrize("fields", DEPTHWISE)
def test_a_depthwise_convolution_as_a_caffe_that_has_it(
    fields: str, tmp_path: Path, forks_caffe: RealCaffe
) -> None:
    """num_output and group are not read. That Caffe crashes where pad or stride is not given."""
    text = net("ConvolutionDepthwise", fields)
    weights: Weights = {"it": [RANDOM.standard_normal((3, 1, 3, 3)), CONV[1][:3]]}
    blobs, inputs = computed(tmp_path, text, weights)
    of_caffe = forks_caffe.forward(text, weights, inputs)
    np.testing.assert_allclose(blobs["it"], of_caffe["it"], rtol=1e-4, atol=1e-5)


# -- three axes ------------------------------------------------------------------------------

VOLUME = "data 2 3 5 8 7"
# Fields, kernel, stride, pad, output size, and whether windows stick out of the input.
THREE: Dict[str, Tuple[str, Size, Size, Size, Size, bool]] = {
    "lists": (
        "kernel_size: [1, 2, 3] stride: [1, 2, 2]", (1, 2, 3), (1, 2, 2), (0, 0, 0), (5, 4, 3),
        False,
    ),
    "one by one": (
        "kernel_size: 2 kernel_size: 3 kernel_size: 1 stride: 2", (2, 3, 1), (2, 2, 2), (0, 0, 0),
        (3, 4, 4), True,
    ),
    "padded": (
        "kernel_size: [3, 3, 3] pad: [1, 0, 1]", (3, 3, 3), (1, 1, 1), (1, 0, 1), (5, 6, 7), False
    ),
    "global": ("global_pooling: true", (5, 8, 7), (1, 1, 1), (0, 0, 0), (1, 1, 1), False),
}  # fmt: skip


@pytest.mark.parametrize("case", THREE)
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_pooling_over_three_axes(pool: str, case: str, tmp_path: Path) -> None:
    """The mean of windows that stick out is left alone: GPUs alone pool so, each in its way."""
    fields, kernel, stride, pad, size, sticks_out = THREE[case]
    blobs, inputs = computed(tmp_path, net("Pooling", f"pool: {pool} {fields}", VOLUME), NOTHING)
    if pool == "AVE" and sticks_out:
        assert "it" not in blobs
        return
    y = pooled(inputs["data"], kernel, stride, pad, pad, pool == "AVE", size)
    np.testing.assert_allclose(blobs["it"], y, rtol=1e-6)


def test_over_three_axes_only_padded_ones_drop_a_window() -> None:
    """ECO's rule; BVLC's, over two, drops it on both axes where one is padded."""
    fields = "kernel_size: [2, 1, 2] stride: [1, 3, 4] pad: [0, 0, 1]"
    assert top_shape(net("Pooling", fields, VOLUME)) == (2, 3, 4, 4, 2)
    flat = "kernel_h: 1 kernel_w: 2 stride_h: 3 stride_w: 4 pad_h: 0 pad_w: 1"
    assert top_shape(net("Pooling", flat, "data 2 3 8 7")) == (2, 3, 3, 2)


def top_shape(text: str) -> Optional[Size]:
    graph = Graph(parse(text).layers, {})
    return graph.outputs[0].shape


@pytest.mark.parametrize(
    "fields",
    ["kernel_size: 2 stride: 2", "kernel_h: 2 kernel_w: 2", "kernel_size: [2, 2]",
     "kernel_size: [1, 2, 2] stride: [2, 2]"],
)  # fmt: skip
def test_what_does_not_say_three_axes_is_not_guessed(fields: str) -> None:
    read = parse(net("Pooling", fields, VOLUME))
    assert Graph(read.layers, {}).outputs[0].shape is None
    assert read.layers[-1].misfit


def test_several_values_stay_as_they_are_written(tmp_path: Path) -> None:
    fields = "kernel_size: [1, 2,\n 2] # of time, height, width\n stride: 1 stride: 2 stride: 2"
    text = net("Pooling", fields, VOLUME) + prototxt("end: Dropout it -> end")
    read = load(tmp_path, text, NOTHING)
    caffe_merge.merge(read)
    assert [layer.name for layer in read.layers] == ["data", "it"]
    assert fields in saving.text(read).decode()
    (first, *_) = [note.text for note in read.notes if note.kind == "unknown-field"]
    assert "pooling_param.kernel_size is one value, not several, in a layer of BVLC Caffe" in first


def test_other_fields_are_given_once() -> None:
    with pytest.raises(TextError, match="expected one value for 'kernel_h', found 2"):
        parse(net("Pooling", "kernel_h: [1, 2] kernel_w: 1"))
    with pytest.raises(TextError, match="expected 'pad_h' once in its block"):
        parse(net("Convolution", "num_output: 1 kernel_size: 1 pad_h: 1 pad_h: 1"))


# -- which layers do nothing -----------------------------------------------------------------

IDENTITIES = {
    "kernel_size: 1": True,
    "kernel_size: 1 stride: 2": False,
    "kernel_size: [1, 1, 1]": True,
    "kernel_size: [1, 1, 1] stride: [1, 1, 2]": False,
    "kernel_size: 1 stride: [1, 2, 2]": False,
    "kernel_size: [2, 1, 1]": False,
    "kernel_size: 1 pad_r: 1": False,
    "kernel_size: 1 pad: [0, 1, 0]": False,
}


@pytest.mark.parametrize("fields", IDENTITIES)
def test_a_pooling_that_does_nothing(fields: str) -> None:
    """Several values or a side of padding are read before it is called one."""
    rank = 5 if "[" in fields else 4
    data = VOLUME if rank == 5 else DATA
    layer = parse(net("Pooling", fields, data)).layers[-1]
    assert identity(layer, rank) is IDENTITIES[fields]

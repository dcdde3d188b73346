"""Shapes: real Caffe's own on many nets, what it aborts on, what is not known, and the cost."""

import random
import re
from typing import List, Tuple

import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from tests.nets import parse_spec
from tests.real_caffe import RealCaffe
from tests.reference.cases import Case

X = (2, 6, 7, 5)


def layer(kind: str, field: str, param: str, *bottoms: tuple, tops: int = 1) -> Case:
    """A layer of ``kind``, named "me", of (2, 6, 7, 5) unless told otherwise."""
    return Case("me", f'type: "{kind}" {field}_param {{ {param} }}', bottoms or (X,), tops)


TWO_SHAPES = "input_param { shape { dim: 1 } shape { dim: 2 } }"


def conv(param: str, *bottoms: tuple, kind: str = "Convolution", tops: int = 1) -> Case:
    return layer(kind, "convolution", param, *bottoms, tops=tops)


def deconv(param: str, *bottoms: tuple) -> Case:
    return conv(param, *bottoms, kind="Deconvolution")


def pool(param: str, *bottoms: tuple, tops: int = 1) -> Case:
    return layer("Pooling", "pooling", param, *bottoms, tops=tops)


def random_windows(number: int) -> List[Case]:
    """Convolutions, Deconvolutions and Poolings with sizes that seldom divide."""
    rng = random.Random(7)
    actual: List[Case] = []
    while len(actual) < number:
        size = (rng.randint(1, 3), rng.choice([4, 6]), rng.randint(1, 19), rng.randint(1, 19))
        h, w, sh, sw = (rng.randint(1, 6) for _ in range(4))
        sides = f"kernel_h: {h} kernel_w: {w} stride_h: {sh} stride_w: {sw}"
        kind = rng.choice(["Convolution", "Deconvolution", "Pooling"])
        if kind == "Pooling":
            pad = f"pad_h: {rng.randrange(h)} pad_w: {rng.randrange(w)}"
            rounding = rng.choice(["", "round_mode: FLOOR", "pool: AVE"])
            case = pool(f"{sides} {pad} {rounding}", size)
        else:
            pad = f"pad_h: {rng.randint(0, 4)} pad_w: {rng.randint(0, 4)}"
            rest = f"num_output: 4 group: {rng.choice([1, 2])} dilation: {rng.randint(1, 3)}"
            case = conv(f"{sides} {pad} {rest}", size, kind=kind)
        case = case._replace(name=f"me{len(actual)}")
        try:
            shapes.tops(case.layer(), case.bottoms)
        except NetError:
            continue
        actual.append(case)
    return actual


def test_random_windows_as_caffe(real_caffe: RealCaffe) -> None:
    cases = random_windows(300)
    text = "".join(case.input_text() + case.text() for case in cases)
    tops, blobs = real_caffe.top_shapes(text), real_caffe.blob_shapes(text)
    for case in cases:
        assert shapes.tops(case.layer(), case.bottoms) == [tops[case.name + "_y0"]], case
        assert shapes.blobs(case.layer(), case.bottoms) == blobs.get(case.name, []), case


ODD = [
    layer("Pooling", "pooling", "kernel_size: 3 kernel_h: 3"),
    pool("kernel_size: 8 stride: 2", (2, 6, 7, 9)),
    layer("Reshape", "reshape", "shape { dim: -1 } axis: 4"),
    layer("Crop", "crop", "axis: 2", X, (9, 9, 7, 5, 3)),
    layer("ArgMax", "argmax", "", (3,)),
    layer("LRN", "lrn", "norm_region: WITHIN_CHANNEL local_size: 1"),
    layer("Concat", "concat", "", X),
    layer("Parameter", "parameter", "shape { dim: 2 dim: 3 }")._replace(bottoms=()),
]


def test_odd_layers_as_caffe(real_caffe: RealCaffe) -> None:
    cases = [case._replace(name=f"me{index}") for index, case in enumerate(ODD)]
    text = "".join((case.input_text() if case.bottoms else "") + case.text() for case in cases)
    tops, blobs = real_caffe.top_shapes(text), real_caffe.blob_shapes(text)
    for case in cases:
        assert shapes.tops(case.layer(), case.bottoms) == [tops[case.name + "_y0"]], case
        assert shapes.blobs(case.layer(), case.bottoms) == blobs.get(case.name, []), case


# What Caffe dies of, judged by Caffe itself in test_refused_by_caffe_too; the second list was
# judged in the same way once, and is not each time because every death costs a new process.
REFUSED = [
    (
        conv("num_output: 4 kernel_size: 3 group: 4"),
        "channels to be a multiple of group 4, found 6",
    ),
    (conv("num_output: 4 kernel_size: 3 stride_h: 2"), r"stride larger than 0 .* \(2, 0\)"),
    (conv("num_output: 4 kernel_size: 8", (2, 6, 7, 9)), "no empty top"),
    (conv("num_output: 4 kernel_size: 9", X), "no negative dimension"),
    (conv("num_output: 4 kernel_size: 3 pad: 100000"), "at most 2147483647 values"),
    (conv("num_output: 4000000000 kernel_size: 3"), "at most 2147483647 values"),
    (deconv("num_output: 4 kernel_size: 1 pad: 4"), "no negative dimension"),
    (pool("kernel_size: 3 pad: 3"), "pad smaller than the kernel"),
    (pool("kernel_size: 3 stride: 0"), "stride larger than 0"),
    (pool("kernel_size: 3 pad_h: 1"), "pad, or pad_h and pad_w"),
    (pool("global_pooling: true stride: 2"), "pad 0 and stride 1"),
    (pool("pool: AVE kernel_size: 2", tops=2), "one top unless pool is MAX"),
    (layer("BatchNorm", "batch_norm", "", (2,)), "at least 2 axes"),
    (layer("PReLU", "prelu", "", (2, 2, 2, 2, 2)), "at most 4 axes"),
    (layer("MVN", "mvn", "", (2, 2, 2, 2, 2)), "at most 4 axes"),
    (layer("Scale", "scale", "axis: 7 num_axes: 0", (2, 3)), "an axis of a 2-D blob"),
    (layer("Scale", "scale", "axis: 2", X, (7, 6)), r"second bottom of shape \(7, 5\)"),
    (layer("Eltwise", "eltwise", "", X, (2, 6, 7, 1)), "every bottom of shape"),
    (layer("Tile", "tile", "tiles: 2000000000"), "at most 2147483647 values"),
    (layer("SPP", "spp", "pyramid_height: 3", (2, 3, 3, 7)), "4 bins"),
    (layer("InnerProduct", "inner_product", ""), "num_output larger than 0"),
    (layer("Crop", "crop", "axis: 3 offset: 1", X, X), r"at most \(2, 6, 7, 4\) from axis 3"),
    (layer("Slice", "slice", "slice_point: 7 slice_point: 8", tops=3), "no negative dimension"),
]

REFUSED_ONCE = [
    (conv("num_output: 5 kernel_size: 3 group: 2"), "num_output to be a multiple"),
    (conv("num_output: 4 kernel_size: 3 group: 0"), "group larger than 0"),
    (conv("kernel_size: 3"), "num_output larger than 0"),
    (conv("num_output: 4"), "kernel_size once or 2 times"),
    (conv("num_output: 4 kernel_h: 3"), r"kernel larger than 0 .* \(3, 0\)"),
    (conv("num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 2"), "found both"),
    (conv("num_output: 4 kernel_h: 3 kernel_w: 2", (2, 6, 7)), "2 spatial axes only"),
    (conv("num_output: 4 kernel_size: 3 stride: 0"), "stride larger than 0"),
    (conv("num_output: 4 kernel_size: 3 axis: 4"), "axis of a 4-D blob, found axis 4"),
    (conv("num_output: 4 kernel_size: 3", X, (2, 6, 7, 4), tops=2), "every bottom of shape"),
    (conv("num_output: 4 kernel_size: 3", X, X), "as many tops as bottoms"),
    (deconv("num_output: 4 kernel_size: 3 stride: 1000000"), "at most 2147483647 values"),
    (pool("pool: AVE"), "kernel_size, or"),
    (pool("kernel_size: 3 kernel_h: 3 kernel_w: 3"), "found both"),
    (pool("global_pooling: true kernel_size: 3"), "no kernel size"),
    (pool("kernel_size: 0"), "kernel larger than 0"),
    (pool("kernel_size: 3", (2, 6, 7)), "4-D"),
    (pool("kernel_size: 3 pool: STOCHASTIC pad: 1"), "no pad"),
    (pool("kernel_size: 8", (2, 6, 7, 9)), "no empty top"),
    (layer("LRN", "lrn", "local_size: 4"), "odd local_size"),
    (layer("PReLU", "prelu", "", (2,)), "at least 2 axes"),
    (layer("Embed", "embed", "num_output: 3"), "input_dim larger than 0"),
    (layer("Scale", "scale", "axis: 3 num_axes: 2"), "at most 4, found 5"),
    (layer("Scale", "scale", "num_axes: -2"), "-1 or more"),
    (layer("Softmax", "softmax", "axis: 4"), "axis 4"),
    (layer("Eltwise", "eltwise", "coeff: 2", X, X), "no coeff or 2"),
    (layer("Eltwise", "eltwise", "coeff: 2 coeff: 1 operation: PROD", X, X), "no coeff with PROD"),
    (layer("Concat", "concat", "axis: 2", X, (2, 1, 7, 5)), "but for axis 2"),
    (layer("Concat", "concat", "axis: 1 concat_dim: 1"), "axis or concat_dim"),
    (layer("Concat", "concat", "concat_dim: 4"), "below 4"),
    (layer("Concat", "concat", "", X, (2, 6, 7)), "every bottom like"),
    (layer("Flatten", "flatten", "axis: 3 end_axis: 1"), "end_axis of at least"),
    (layer("Reshape", "reshape", "shape { dim: -1 dim: -1 }"), "at most one -1"),
    (layer("Reshape", "reshape", "shape { dim: -1 dim: 11 }"), "multiple of 11"),
    (layer("Reshape", "reshape", "shape { dim: 11 }"), "420 values, found"),
    (layer("Reshape", "reshape", "shape { dim: -2 dim: -210 }"), "no negative dimension"),
    (layer("Reshape", "reshape", "axis: 3 shape { dim: 0 dim: 0 }"), "for every 0"),
    (layer("Reshape", "reshape", "shape { dim: -1 } axis: 5"), "axis 5"),
    (layer("Reshape", "reshape", "shape { dim: -1 } axis: 3 num_axes: 2"), "at most 4"),
    (layer("Reshape", "reshape", "shape { dim: -1 } num_axes: -2"), "-1 or more"),
    (layer("Crop", "crop", "axis: 1 offset: 1 offset: 1", X, X), "0, 1 or 3 offsets"),
    (layer("Crop", "crop", "", X, (2, 6, 7)), "4 axes"),
    (layer("ArgMax", "argmax", "top_k: 0"), "from 1 to 210"),
    (layer("ArgMax", "argmax", "axis: 3 top_k: 6"), "from 1 to 5"),
    (layer("Tile", "tile", ""), "tiles larger than 0"),
    (layer("SPP", "spp", "pyramid_height: 4000000000"), "4 bins"),
    (layer("SPP", "spp", ""), "pyramid_height"),
    (layer("Slice", "slice", "slice_point: 2 slice_point: 2", tops=3), "rise"),
    (layer("Slice", "slice", "slice_point: 2", tops=3), "2 slice_point"),
    (layer("Slice", "slice", "slice_point: 6", tops=2), "no empty top"),
    (layer("Slice", "slice", "", tops=4), "multiple of 4 tops"),
    (layer("Slice", "slice", "slice_dim: 1 axis: 1", tops=2), "axis or slice_dim"),
    (layer("ReLU", "relu", "", X, X), "at most 1 bottom"),
    (layer("Silence", "loss", ""), "at most 0 tops"),
    (Case("me", f'type: "Input" {TWO_SHAPES}', (), 3), "1 or 3 shapes"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED + REFUSED_ONCE)
def test_refused(case: Case, message: str) -> None:
    bottoms = () if "Input" in case.body else case.bottoms
    with pytest.raises(NetError, match=message) as caught:
        shapes.tops(case.layer(), bottoms)
    kind = re.match('type: "(.*?)"', case.body)
    assert kind is not None
    assert str(caught.value).startswith(f"layer 'me' ({kind.group(1)}): expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_refused_by_caffe_too(real_caffe: RealCaffe, case: Case, message: str) -> None:
    assert real_caffe.error(case.input_text() + case.text())


def test_what_cannot_be_told() -> None:
    assert shapes.tops(parse_spec('type: "DetectionOutput" top: "y"'), [X]) is None
    assert shapes.blobs(parse_spec('type: "DetectionOutput"'), [X]) is None
    assert shapes.multiply_adds(parse_spec('type: "DetectionOutput"'), [X], [X]) is None
    assert shapes.tops(parse_spec('type: "ReLU" bottom: "x" top: "y"'), [None]) is None
    assert shapes.tops(parse_spec('type: "Input" top: "y"'), []) is None
    assert shapes.blobs(parse_spec('type: "ReLU"'), [X]) == []


def test_inputs() -> None:
    first = 'type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }'
    two = first.replace("shape {", "shape { dim: 0 } shape {")
    assert shapes.tops(parse_spec(first), []) == [(2, 3), (2, 3)]
    assert shapes.tops(parse_spec(two), []) == [(0,), (2, 3)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }', [None, (4,)]),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 }',
            [(4, None, 3, 2), (4,)],
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 4 group: 2 bias_term: false '
            "kernel_size: 3 kernel_size: 2 kernel_size: 1 }",
            [(None, 2, 3, 2, 1)],
        ),
        ('type: "InnerProduct" inner_product_param { num_output: 4 }', [(4, None), (4,)]),
        (
            'type: "InnerProduct" inner_product_param { num_output: 4 transpose: true }',
            [(None, 4), (4,)],
        ),
        ('type: "BatchNorm"', [(None,), (None,), (1,)]),
        ('type: "Scale" scale_param { bias_term: true }', [(None,), (None,)]),
        ('type: "Scale" scale_param { num_axes: -1 }', [None]),
        ('type: "Scale" scale_param { num_axes: 0 }', [()]),
        ('type: "Scale" bottom: "a" bottom: "b"', []),
        ('type: "Scale" bottom: "a" bottom: "b" scale_param { bias_term: true }', [None]),
        ('type: "Bias" bias_param { num_axes: 2 }', [(None, None)]),
        ('type: "Bias" bottom: "a" bottom: "b"', []),
        ('type: "PReLU"', [(None,)]),
        ('type: "PReLU" prelu_param { channel_shared: true }', [()]),
        ('type: "Embed" embed_param { num_output: 4 input_dim: 7 }', [(7, 4), (4,)]),
    ],
)
def test_blobs_without_bottom_shapes(body: str, expected: list) -> None:
    assert shapes.blobs(parse_spec(body), None) == expected
    bottoms = [None] * max(1, len(parse_spec(body).param.bottom))
    assert shapes.blobs(parse_spec(body), bottoms) == expected


def test_blob_of_a_scale_by_its_second_bottom() -> None:
    case = layer("Scale", "scale", "bias_term: true", X, (6, 7))
    assert shapes.blobs(case.layer(), case.bottoms) == [(6, 7)]


def test_blobs_of_absurd_size_are_refused() -> None:
    body = 'type: "InnerProduct" inner_product_param { num_output: 2000000000 }'
    with pytest.raises(NetError, match="at most 2147483647 values"):
        shapes.blobs(parse_spec(body), [(1, 2)])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (conv("num_output: 64 kernel_size: 7 stride: 2 pad: 3", (1, 3, 224, 224)), 118013952),
        (conv("num_output: 4 kernel_size: 3 group: 2"), 2 * 4 * 5 * 3 * 3 * 9),
        (conv("num_output: 4 kernel_size: 3", X, X, tops=2), 2 * 2 * 4 * 5 * 3 * 6 * 9),
        (deconv("num_output: 4 kernel_size: 3 group: 2 stride: 2"), 2 * 6 * 7 * 5 * 2 * 9),
        (layer("InnerProduct", "inner_product", "num_output: 4"), 2 * 4 * 6 * 7 * 5),
        (layer("InnerProduct", "inner_product", "num_output: 4 axis: -1"), 2 * 6 * 7 * 4 * 5),
        (layer("BatchNorm", "batch_norm", ""), 420),
        (layer("Scale", "scale", "bias_term: true"), 420),
        (layer("Pooling", "pooling", "global_pooling: true"), 0),
        (layer("Eltwise", "eltwise", "", X, X), 0),
    ],
)
def test_multiply_adds(case: Case, expected: int) -> None:
    tops = shapes.tops(case.layer(), case.bottoms)
    assert shapes.multiply_adds(case.layer(), case.bottoms, tops) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1"), (2, 4, 4, 3)),
        (deconv("num_output: 4 kernel_size: 4 stride: 2 pad: 1"), (2, 4, 14, 10)),
        (pool("kernel_size: 2 stride: 2"), (2, 6, 4, 3)),
        (pool("kernel_size: 2 stride: 2 round_mode: FLOOR"), (2, 6, 3, 2)),
        (pool("kernel_size: 2 stride: 3 pad: 1"), (2, 6, 3, 2)),
        (layer("InnerProduct", "inner_product", "num_output: 4 axis: 2"), (2, 6, 4)),
        (layer("Reshape", "reshape", "shape { dim: 0 dim: -1 dim: 3 }"), (2, 70, 3)),
        (layer("Flatten", "flatten", "axis: 1 end_axis: 2"), (2, 42, 5)),
        (layer("Reshape", "reshape", "shape { dim: 1 } axis: -1 num_axes: 0"), (2, 6, 7, 5, 1)),
        (pool("kernel_size: 3 stride: 4 pad_h: 0 pad_w: 1", (2, 3, 8, 8)), (2, 3, 2, 3)),
        (pool("kernel_h: 1 kernel_w: 3 stride: 4 pad_h: 0 pad_w: 1", (2, 3, 7, 8)), (2, 3, 2, 3)),
        (layer("Reduction", "reduction", "axis: 2"), (2, 6)),
        (layer("Reduction", "reduction", ""), ()),
        (layer("MVN", "mvn", "", (2, 3)), (2, 3, 1, 1)),
        (layer("Embed", "embed", "num_output: 4 input_dim: 9", (2, 3)), (2, 3, 4)),
    ],
)
def test_tops_by_hand(case: Case, expected: Tuple[int, ...]) -> None:
    assert shapes.tops(case.layer(), case.bottoms) == [expected]


def test_one_window_over_blobs_of_several_ranks() -> None:
    param = "num_output: 4 kernel_size: 3 pad: 1"
    for bottom in ((2, 6, 7), (2, 6, 7, 5), (2, 6, 7, 5, 3), (2, 6, 7)):
        case = conv(param, bottom)
        assert shapes.tops(case.layer(), case.bottoms) == [(2, 4, *bottom[2:])]


def test_a_number_of_axes_that_no_blob_has_takes_no_memory() -> None:
    body = 'type: "Scale" scale_param { num_axes: 2147483647 }'
    with pytest.raises(NetError, match="num_axes of at most 32, found 2147483647"):
        shapes.blobs(parse_spec(body), None)

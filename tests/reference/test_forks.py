"""Layers of forks against a Caffe that has them, and those that it has not by their formulas."""

from typing import Dict, List, Tuple

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.errors import NetError
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers import shapes
from caffe_merge.layers.spec import LayerSpec
from tests.reference.cases import Array, Case, Shapes, as_caffe, normal


def with_mask(expected: Shapes) -> List[Array]:
    """Values and places in an image of 7 x 9, each place once but for one."""
    x, _ = normal("mask", expected)
    images = int(np.prod(expected[1][:2]))
    rng = np.random.default_rng(0)
    places = [rng.permutation(7 * 9)[: x[0, 0].size] for _ in range(images)]
    mask = np.array(places, np.float32).reshape(expected[1])
    mask[0, 0, 0, 0] = mask[0, 0, 1, 1]
    return [x, mask]


def wide(expected: Shapes) -> List[Array]:
    """Values on both sides of every corner of an activation."""
    return [4 * x for x in normal("wide", expected)]


def prior(name: str, fields: str) -> Case:
    """Boxes on 3 x 4 places of an image of 60 x 70."""
    body = f'type: "PriorBox" prior_box_param {{ {fields} }}'
    return Case(name, body, ((2, 5, 3, 4), (2, 3, 60, 70)))


def upsample(name: str, fields: str, *bottoms: Tuple[int, ...]) -> Case:
    """With two bottoms the second is a mask."""
    body = f'type: "Upsample" upsample_param {{ {fields} }}'
    return Case(name, body, bottoms, inputs=with_mask if len(bottoms) > 1 else None)


def depthwise(name: str, fields: str) -> Case:
    """Of six channels."""
    return Case(name, f'type: "ConvolutionDepthwise" convolution_param {{ {fields} }}')


IMAGE = (2, 3, 4, 5)
CASES = [
    Case("axpy", 'type: "Axpy"', ((2, 3), IMAGE, IMAGE)),
    Case("axpy_4d", 'type: "Axpy"', ((2, 3, 1, 1), IMAGE, IMAGE)),
    Case("clip", 'type: "Clip" clip_param { min: -2 max: 3 }', inputs=wide),
    Case("mish", 'type: "Mish"', inputs=wide),
    Case("relu6", 'type: "ReLU6"', inputs=wide),
    depthwise("dw", "num_output: 6 kernel_size: 3 pad: 1 stride: 2"),
    depthwise("dw_no_bias", "num_output: 6 kernel_size: 2 stride: 1 pad: 0 bias_term: false"),
    Case("indicator", 'type: "ContinuationIndicator" continuation_indicator_param '
         "{ time_step: 4 batch_size: 3 }", ()),
    Case("interp", 'type: "Interp" interp_param { height: 9 width: 3 }'),
    Case("interp_zoom", 'type: "Interp" interp_param { zoom_factor: 2 pad_beg: -1 }'),
    Case("interp_shrink", 'type: "Interp" interp_param { shrink_factor: 2 }'),
    Case("matmul", 'type: "MatMul" matmul_param { dim_1: 4 dim_2: 6 dim_3: 5 }',
         ((4, 2, 3), (5, 6))),
    Case("normalize", 'type: "Normalize"'),
    Case("normalize_places", 'type: "Normalize" norm_param { across_spatial: false '
         "channel_shared: false eps: 0.1 }"),
    Case("padding", 'type: "Padding" padding_param { pad_t: 1 pad_l: 2 pad_r: 3 pad_value: -4 }'),
    Case("permute", 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }'),
    prior("prior", "min_size: 30"),
    prior("prior_many", "min_size: 20 min_size: 30 max_size: 35 max_size: 50 aspect_ratio: 2 "
          "aspect_ratio: 3 aspect_ratio: 2 variance: 0.1 variance: 0.2 variance: 0.3 variance: 1"),
    prior("prior_cut", "min_size: 30.7 max_size: 60.9 aspect_ratio: 1 aspect_ratio: 0.5 "
          "flip: false clip: true"),
    prior("prior_steps", "min_size: 30 step: 16 offset: 0.25 img_size: 50 variance: 0.3"),
    prior("prior_sides", "min_size: 30 step_h: 16 step_w: 8 img_h: 50 img_w: 40"),
    Case("reorg", 'type: "Reorg" reorg_param { stride: 2 }', ((2, 4, 6, 8),)),
    Case("reverse", 'type: "Reverse"'),
    Case("reverse_axis", 'type: "Reverse" reverse_param { axis: 2 }'),
    Case("shuffle", 'type: "ShuffleChannel" shuffle_channel_param { group: 3 }'),
    Case("swish", 'type: "Swish" swish_param { beta: 1.5 }', inputs=wide),
    upsample("up", "scale: 3", IMAGE),
    upsample("up_mask", "upsample_h: 7 upsample_w: 9", IMAGE, IMAGE),
    upsample("up_mask_scale", "scale_h: 2 scale_w: 3", IMAGE, IMAGE),
]  # fmt: skip

test_as_caffe = as_caffe(CASES, "forks_caffe")


def forward(kind: str, extra: Dict[str, str], *x: Array) -> Array:
    """The top of a layer of a fork, whose shape is what is told beforehand."""
    layer = LayerSpec(LayerParameter(name="it", type=kind, bottom=["x"] * len(x), top=["y"]), extra)
    (y,) = reference.forward(layer, [], x)
    assert shapes.tops(layer, [array.shape for array in x]) == [y.shape]
    return y


@pytest.mark.parametrize(
    ("kind", "extra", "expected"),
    [
        ("HardSigmoid", {}, [0, 0.3, 0.5, 1]),
        ("HardSigmoid", {"hard_sigmoid_param.alpha": "0.5", "hard_sigmoid_param.beta": "0.25"},
         [0, 0, 0.25, 1]),
        ("HardSigmoid", {"hardsigmoid_param.alpha": "0.1"}, [0.1, 0.4, 0.5, 0.9]),
        ("HardSwish", {}, [0, -1 / 3, 0, 4]),
        ("HSwish", {}, [0, -1 / 3, 0, 4]),
        ("SeLU", {}, [1.758099340847377 * (np.exp(-4) - 1), 1.758099340847377 * (np.exp(-1) - 1),
                      0, 4.202803949421922]),
        ("Softplus", {}, [np.log(1 + np.exp(x)) for x in (-4, -1, 0, 4)]),
    ],
)  # fmt: skip
def test_activations_by_hand(kind: str, extra: Dict[str, str], expected: List[float]) -> None:
    y = forward(kind, extra, np.array([[-4.0, -1, 0, 4]]))
    np.testing.assert_allclose(y, [expected], rtol=1e-12)


def test_reorg_there_and_back() -> None:
    """With ``reverse`` it undoes what it does without."""
    x = np.arange(2.0 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    y = forward("Reorg", {"reorg_param.stride": "2"}, x)
    extra = {"reorg_param.stride": "2", "reorg_param.reverse": "true"}
    np.testing.assert_array_equal(forward("Reorg", extra, y), x)


@pytest.mark.parametrize(
    "fields", [{}, {"stride": "3"}, {"stride": "2", "reverse": "1"}]
)  # fmt: skip
def test_no_reorg(fields: Dict[str, str]) -> None:
    extra = {f"reorg_param.{name}": text for name, text in fields.items()}
    with pytest.raises(NetError, match=r"'it'.*expected"):
        forward("Reorg", extra, np.ones((1, 3, 4, 6)))


def test_clustered_boxes() -> None:
    """OpenVINO's: widths and heights by the text; centres in the middle of each place."""
    fields = {"width": "10 20", "height": "6 8", "step": "16", "variance": "0.1 0.1 0.2 0.2"}
    extra = {f"prior_box_param.{name}": text for name, text in fields.items()}
    y = forward("PriorBoxClustered", extra, np.ones((1, 3, 2, 3)), np.ones((1, 3, 40, 50)))
    boxes = y[0, 0].reshape(2, 3, 2, 4)
    np.testing.assert_allclose(boxes[1, 2, 1], [(40 - 10) / 50, 20 / 40, (40 + 10) / 50, 28 / 40])
    np.testing.assert_allclose(y[0, 1].reshape(-1, 4), np.tile([0.1, 0.1, 0.2, 0.2], (12, 1)))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("PriorBox", {}),
        ("PriorBox", {"min_size": "-3"}),
        ("PriorBox", {"min_size": "3 4", "max_size": "5"}),
        ("PriorBox", {"min_size": "3", "variance": "1 2 3"}),
        ("PriorBoxClustered", {"width": "3"}),
    ],
)
def test_no_boxes(kind: str, fields: Dict[str, str]) -> None:
    extra = {f"prior_box_param.{name}": text for name, text in fields.items()}
    with pytest.raises(NetError, match=r"'it'.*PriorBox"):
        forward(kind, extra, np.ones((1, 3, 2, 3)), np.ones((1, 3, 40, 50)))


def test_unpooling() -> None:
    """DeconvNet's: by its mask, or each value at the begin of its window."""
    x = np.arange(1.0, 7).reshape(1, 1, 2, 3)
    size = {"unpooling_param.unpool_h": "4", "unpooling_param.unpool_w": "5"}
    expected = np.zeros((4, 5))
    expected[0, [0, 2, 4]], expected[2, [0, 2, 4]] = (1, 2, 3), (4, 5, 6)
    y = forward("Unpooling", {**size, "unpooling_param.stride": "2"}, x)
    np.testing.assert_array_equal(y[0, 0], expected)
    mask = np.array([[1.0, 2, 5], [19, 18, 10]]).reshape(x.shape)
    y = forward("Unpooling", size, x, mask)
    assert y.ravel()[[1, 2, 5, 19, 18, 10]].tolist() == x.ravel().tolist()
    assert np.count_nonzero(y) == x.size


@pytest.mark.parametrize("method", ["AVE", "TILE"])
def test_unpooling_all_over_windows(method: str) -> None:
    """Windows that overlap add up; the last one sticks out, and what is inside counts."""
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 3))
    extra = {"unpool": method, "kernel_h": "3", "kernel_w": "2", "stride_h": "2", "stride_w": "3"}
    extra.update({"unpool_h": "4", "unpool_w": "9"})
    y = np.zeros((2, 3, 4, 9))
    for row, column in np.ndindex(2, 3):
        window = y[:, :, 2 * row : 2 * row + 3, 3 * column : 3 * column + 2]
        area = window[0, 0].size if method == "AVE" else 1
        window += x[:, :, row : row + 1, column : column + 1] / area
    extra = {f"unpooling_param.{name}": value for name, value in extra.items()}
    np.testing.assert_allclose(forward("Unpooling", extra, x), y)
    del extra["unpooling_param.kernel_w"]
    with pytest.raises(reference.Unsupported, match="size of its windows"):
        forward("Unpooling", extra, x)


@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_matmul(turned: str, batch: Tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    first, second = random.standard_normal((*batch, 3, 4)), random.standard_normal((*batch, 4, 5))
    extra = {f"matmul_param.transpose_{side}": "true" for side in turned}
    sides = [x.swapaxes(-1, -2) if s in turned else x for s, x in zip("ab", (first, second))]
    np.testing.assert_allclose(forward("MatMul", extra, *sides), first @ second)


def test_matmul_of_what_does_not_fit() -> None:
    with pytest.raises(reference.Unsupported, match="are not known"):
        forward("MatMul", {}, np.ones((3, 4)), np.ones((5, 4)))


def test_an_interp_to_the_size_of_its_second_bottom() -> None:
    x, like = np.random.default_rng(0).standard_normal((1, 3, 4, 5)), np.ones((1, 2, 7, 9))
    size = {"interp_param.height": "7", "interp_param.width": "9"}
    cut = {"interp_param.pad_beg": "-1"}
    np.testing.assert_array_equal(
        forward("Interp", cut, x, like), forward("Interp", {**cut, **size}, x)
    )
    with pytest.raises(reference.Unsupported, match="are not known"):
        forward("Interp", size, x, like)  # forks refuse it


@pytest.mark.parametrize("place", [-1.0, 20.0, float("nan")])
@pytest.mark.parametrize("kind", ["Unpooling", "Upsample"])
def test_a_mask_that_names_no_place(kind: str, place: float) -> None:
    block, side = (
        ("unpooling_param.", "unpool") if kind == "Unpooling" else ("upsample_param.", "upsample")
    )
    extra = {f"{block}{side}_h": "4", f"{block}{side}_w": "5"}
    mask = np.array([1, place]).reshape(1, 1, 1, 2)
    with pytest.raises(reference.Unsupported, match="outside an image of 4x5"):
        forward(kind, extra, np.ones((1, 1, 1, 2)), mask)


# Synopsys' resizes of a row of 4 to 6 and of 3 to 2: where each place reads from.
RESIZE = {
    "": ([0, 2 / 3, 4 / 3, 2, 8 / 3, 3], [0, 1.5]),
    "align_corners": ([0, 0.6, 1.2, 1.8, 2.4, 3], [0, 2]),
    "half_pixel_centers": ([0, 0.5, 7 / 6, 11 / 6, 2.5, 3], [0.25, 1.75]),
}


@pytest.mark.parametrize("layout", ["", '"NCHW"'])
@pytest.mark.parametrize("mode", RESIZE)
def test_bilinear(mode: str, layout: str) -> None:
    """A plane x + 10 y is as its positions say, and where they are outside, as its border."""
    x = np.arange(4.0) + 10 * np.arange(3.0)[:, np.newaxis]
    extra = {"resize_bilinear_param.output_height": "2", "resize_bilinear_param.scale_width": "1.5",
             "resize_bilinear_param.data_format": layout}  # fmt: skip
    if mode:
        extra[f"resize_bilinear_param.{mode}"] = "true"
    axes = (0, 1) if layout else (0, 3)
    y = forward("ResizeBilinear", extra, np.expand_dims(x, axes))
    across, down = RESIZE[mode]
    expected = np.array(across) + 10 * np.array(down)[:, np.newaxis]
    np.testing.assert_allclose(np.squeeze(y, axes), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "places"),
    [
        ("", [0, 0, 1, 2, 2, 3]),
        ("align_corners", [0, 1, 1, 2, 2, 3]),
        ("half_pixel_centers", [0, 1, 1, 2, 3, 3]),
        ("half_pixel_onnx", [0, 0, 1, 1, 2, 3]),
    ],
)
def test_nearest(mode: str, places: List[int]) -> None:
    x = np.arange(8.0).reshape(1, 2, 4, 1)
    block = "resize_nearest_neighbor_param."
    extra = {
        block + "output_width": "6",
        block + (mode or "align_corners"): str(bool(mode)).lower(),
    }
    y = forward("ResizeNearestNeighbor", extra, x)
    np.testing.assert_array_equal(y, x[:, :, places])

"""The proof: right rewrites pass whatever the numbers, and every kind of wrong one is rejected."""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest

from caffe_merge.algebra.affine import Affine
from caffe_merge.errors import CaffeMergeError, WeightsError
from caffe_merge.formats.weights.blobs import Blob, Dense, Scaled
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import folded, output_channels
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.merging.proof.paths import prove
from tests.nets import make_layer

Changes = Dict[Layer, Tuple[Any, Tuple[Blob, ...]]]


def layer(text: str, *blobs: np.ndarray) -> Layer:
    """A layer of this text; blobs are rounded to float32 as a file would."""
    return make_layer(text, *(np.asarray(blob, np.float32) for blob in blobs))


def noise(*shape: int) -> np.ndarray:
    """Values around 0, the same for the same shape."""
    return np.random.default_rng(list(shape)).standard_normal(shape)


def fold(path: Sequence[Layer], rank: int = 4) -> Changes:
    """The changes that fold-affine would make to a path."""
    head, *rest = path
    first = affine_of(rest[0], rank)
    assert isinstance(first, Affine)
    for other in rest[1:]:
        two = affine_of(other, rank)
        assert isinstance(two, Affine)
        first = first.then(two)
    target = output_channels(head, rank)
    assert not isinstance(target, str)
    return {head: folded(head, first.over(target.channels, target.axis))}


def conv(outputs: int = 6, inputs: int = 4, group: int = 1, size: int = 3, text: str = "") -> Layer:
    """A Convolution with bias."""
    fields = f"num_output: {outputs} group: {group} kernel_size: {size} {text}"
    weights = noise(outputs, inputs // group, size, size)
    return layer(f'type: "Convolution" convolution_param {{ {fields} }}', weights, noise(outputs))


def deconv(outputs: int = 6, inputs: int = 4, group: int = 2) -> Layer:
    """A Deconvolution with bias."""
    fields = f"num_output: {outputs} group: {group} kernel_size: 4 stride: 2 pad: 1"
    weights = noise(inputs, outputs // group, 4, 4)
    return layer(f'type: "Deconvolution" convolution_param {{ {fields} }}', weights, noise(outputs))


def inner_product(outputs: int = 6, inputs: int = 5, transpose: bool = False) -> Layer:
    """An InnerProduct with bias."""
    fields = f"num_output: {outputs} transpose: {str(transpose).lower()}"
    weights = noise(inputs, outputs) if transpose else noise(outputs, inputs)
    return layer(
        f'type: "InnerProduct" inner_product_param {{ {fields} }}', weights, noise(outputs)
    )


def scale(channels: int) -> Layer:
    """A Scale with bias."""
    values = noise(channels) + 2, noise(channels)
    return layer('type: "Scale" scale_param { bias_term: true }', *values)


HEADS: Dict[str, Callable[[], Layer]] = {
    "conv": conv,
    "padded": lambda: conv(text="pad: 2 stride: 3"),
    "dilated": lambda: conv(text="dilation: 3"),
    "all_padding": lambda: conv(size=1, text="pad: 1"),
    "grouped": lambda: conv(12, 8, 4),
    "depthwise": lambda: conv(16, 16, 16),
    "many_groups": lambda: conv(60, 40, 20),
    "many_channels": lambda: conv(100, 5),
    "deconv": deconv,
    "deconv_many_groups": lambda: deconv(60, 40, 20),
    "deconv_many_channels": lambda: deconv(100, 4, 2),
    "inner_product": inner_product,
    "transposed": lambda: inner_product(transpose=True),
    "inner_product_many": lambda: inner_product(100, 30),
    "transposed_many": lambda: inner_product(100, 30, transpose=True),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_right_fold_passes(name: str) -> None:
    """On every kind of linear layer."""
    head = HEADS[name]()
    path = [head, scale(head.blobs[1].shape[0])]
    assert prove(path, fold(path), 4) is None


def wrong(changes: Changes, blob: int, damage: Callable[[np.ndarray], None]) -> Changes:
    """The same changes, with one of the new blobs damaged."""
    ((head, (param, blobs)),) = changes.items()
    values = [np.array(blob.float64()) for blob in blobs]
    damage(values[blob])
    return {head: (param, tuple(Dense(value) for value in values))}


def channel_axis(head: Layer) -> int:
    """The axis of the weights that counts outputs (of a group, for Deconvolution)."""
    ip_param = head.param.inner_product_param
    return int(head.type == "Deconvolution" or (head.type == "InnerProduct" and ip_param.transpose))


def damages(head: Layer) -> Dict[str, Tuple[int, Callable[[np.ndarray], None]]]:
    """Ways in which the new blobs of ``head`` can be wrong."""
    axis = channel_axis(head)

    def first(values: np.ndarray) -> None:
        np.moveaxis(values, axis, 0)[0] *= 1.00001

    def last(values: np.ndarray) -> None:
        np.moveaxis(values, axis, 0)[-1] *= -1

    def whole(values: np.ndarray) -> None:
        values *= 1.00001

    def first_bias(values: np.ndarray) -> None:
        values[0] += 1e-3

    def last_bias(values: np.ndarray) -> None:
        values[-1] *= 1.01

    def shifted(values: np.ndarray) -> None:
        values[:] = np.roll(values, 1)

    weights = (first, last, whole)
    biases = (first_bias, last_bias, shifted)
    named = [(0, function) for function in weights] + [(1, function) for function in biases]
    return {function.__name__: (blob, function) for blob, function in named}


@pytest.mark.parametrize("damage", damages(conv()))
@pytest.mark.parametrize("name", HEADS)
def test_a_wrong_fold_is_rejected(name: str, damage: str) -> None:
    """Wrong in one channel that is run, by 1e-5, in the bias: it does not pass."""
    head = HEADS[name]()
    path = [head, scale(head.blobs[1].shape[0])]
    blob, function = damages(head)[damage]
    reason = prove(path, wrong(fold(path), blob, function), 4)
    assert reason is not None
    assert "is off by" in reason


def test_wrong_by_less_than_the_terms_could_hide() -> None:
    """Sums of many terms that cancel: what counts is the share of the largest output."""
    head = inner_product(4, 40000)
    path = [head, scale(4)]
    assert prove(path, fold(path), 4) is None

    def whole(values: np.ndarray) -> None:
        values *= 1.000005

    assert prove(path, wrong(fold(path), 0, whole), 4) is not None


@pytest.mark.parametrize("group", [2, 4])
def test_swapped_channels_of_one_group(group: int) -> None:
    """Deconvolution: the multipliers of two channels of one group, exchanged."""
    head = deconv(8, 8, group)
    path = [head, scale(8)]
    ((_, (param, blobs)),) = fold(path).items()
    weights = np.array(blobs[0].float64())
    rows = slice(0, 8 // group)
    weights[rows, [0, 1]] = weights[rows, [1, 0]]
    assert prove(path, {head: (param, (Dense(weights), blobs[1]))}, 4) is not None


def test_multipliers_along_the_wrong_axis() -> None:
    """Deconvolution folded along its inputs, Convolution along its channels."""
    for head in (deconv(6, 6, 2), conv(6, 6, 1)):
        path = [head, scale(6)]
        factor = path[1].blobs[0].float64()
        right = fold(path)[head]
        multiplier = (
            factor[:, None, None, None]
            if head.type == "Deconvolution"
            else factor[None, :, None, None]
        )
        new = Scaled(head.blobs[0], multiplier)
        assert prove(path, {head: (right[0], (new, right[1][1]))}, 4) is not None


def test_no_bias_term() -> None:
    """A bias that the parameters do not speak of cannot be run."""
    head = conv(text="bias_term: false")
    head.load_blobs(head.blobs[:1])
    path = [head, scale(6)]
    ((_, (_, blobs)),) = fold(path).items()
    with pytest.raises(WeightsError, match="expected 1 blob, found 2"):
        prove(path, {head: (head.param, blobs)}, 4)


@pytest.mark.parametrize("factor", [1.0, 999.98, 1e-3])
@pytest.mark.parametrize("eps", [1e-9, 1e-5, 1e-3])
@pytest.mark.parametrize("name", ["conv", "depthwise", "deconv", "transposed"])
def test_extreme_statistics(name: str, eps: float, factor: float) -> None:
    """Sums of 1e8, subnormal variances, gammas of either sign and zero: all as they are."""
    head = HEADS[name]()
    channels = head.blobs[1].shape[0]
    mean = np.resize([1e8, -3, 0, 1e-20], channels)
    variance = np.resize([1e8, 5.6e-45, 0.3, 1e-12, 0], channels)
    gamma = np.resize([-1.5, 0, 2, 1e-4, 1e-40], channels)
    bn = layer(f'type: "BatchNorm" batch_norm_param {{ eps: {eps} }}', mean, variance, [factor])
    affine_ = layer('type: "Scale" scale_param { bias_term: true }', gamma, noise(channels))
    path = [head, bn, affine_]
    assert prove(path, fold(path), 4) is None


def test_factor_zero() -> None:
    """Caffe's mean and variance of 0: y = x / sqrt(eps)."""
    bn = layer('type: "BatchNorm"', noise(6), noise(6) ** 2, [0])
    path = [conv(), bn]
    assert prove(path, fold(path), 4) is None
    as_one = layer('type: "BatchNorm"', noise(6), noise(6) ** 2, [1])
    assert prove(path, fold([path[0], as_one]), 4) is not None


def test_dead_layers() -> None:
    """Weights that are all zero, or next to it, are no reason against a fold."""
    for size in (0.0, 1e-42):
        head = conv()
        head.load_blobs([Dense(np.full((6, 4, 3, 3), size)), Dense(np.zeros(6))])
        path = [head, layer('type: "Scale"', noise(6))]
        assert prove(path, fold(path), 4) is None


def test_overflow_is_rejected() -> None:
    """New weights beyond float32 would be infinite in the file."""
    head = conv()
    head.load_blobs([Dense(np.full((6, 4, 3, 3), 1e30)), head.blobs[1]])
    path = [head, layer('type: "Scale"', np.full(6, 1e10))]
    assert prove(path, fold(path), 4) == "its output is not finite"


def per_channel(*layers: Layer, rank: int = 4) -> Tuple[List[Layer], Layer, Affine]:
    """A path of affine layers, a Scale in their place, and the map."""
    both = affine_of(layers[0], rank)
    assert isinstance(both, Affine)
    for other in layers[1:]:
        first = affine_of(other, rank)
        assert isinstance(first, Affine)
        both = both.then(first)
    new = layer('type: "Scale" scale_param { bias_term: true }', both.scale, both.shift)
    return list(layers), new, both


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 40])
@pytest.mark.parametrize("rank", [2, 4, 5, None])
def test_one_scale(channels: int, rank: "int | None") -> None:
    """A Scale in place of a run; wrong by 1e-5 in a channel that is run, it is rejected."""
    bn = layer('type: "BatchNorm"', noise(channels), noise(channels) ** 2 + 0.1, [1])
    path, new, both = per_channel(bn, scale(channels))
    right = {path[1]: (new.param, tuple(new.blobs))}
    assert prove(path, right, rank) is None
    values = np.array(both.scale)
    values[-1] *= 1.00001
    off: Changes = {path[1]: (new.param, (Dense(values), new.blobs[1]))}
    assert prove(path, off, rank) is not None


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_one_scale_along_another_axis(channels: int) -> None:
    """A Scale of the right values on the wrong axis does not pass, whatever the sizes."""
    bn = layer('type: "BatchNorm"', noise(channels), noise(channels) ** 2 + 0.1, [1])
    path, new, _ = per_channel(bn, scale(channels))
    new.param.scale_param.axis = 2
    assert prove(path, {path[1]: (new.param, tuple(new.blobs))}, 4) is not None


def test_identity() -> None:
    """A layer that goes must give out what it is given, at any rank."""
    for rank in range(6):
        assert prove([layer('type: "Dropout"')], {}, rank) is None
        reason = prove([layer('type: "Power" power_param { shift: 0.001 }')], {}, rank)
        assert reason is not None
    assert prove([layer('type: "ReLU"')], {}, None) is not None


def test_a_layer_that_cannot_be_run() -> None:
    """Unknown layers and fields are no proof."""
    odd = layer('type: "Mystery"')
    with pytest.raises(CaffeMergeError, match="no such layer here"):
        prove([odd], {}, 4)
    fork = layer('type: "Power"')
    fork.extra = {"power_param.mystery": "1"}
    assert prove([fork], {}, 4) == (
        "layer 'it' cannot be run: power_param.mystery is a fork's field, whose effect is not known"
    )

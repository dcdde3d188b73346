"""Which layers are affine maps, which maps, and the words for those that are not."""

from copy import copy
from typing import Optional, Sequence

import numpy as np
import pytest

from caffe_merge.algebra.affine import Affine
from caffe_merge.errors import WeightsError
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, remembering
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.notes import Reason
from tests.nets import make_layer


def affine(layer: Layer, rank: Optional[int] = 4) -> Affine:
    """The map of a layer that must be one."""
    result = affine_of(layer, rank)
    assert isinstance(result, Affine), result
    return result


BN = 'type: "BatchNorm"'
SCALE = 'type: "Scale"'


@pytest.mark.parametrize("factor", [1, 999.98, 0.25, -2])
def test_batch_norm(factor: float) -> None:
    """Mean and variance are stored times their factor."""
    it = affine(make_layer(BN, np.array([3, -1]) * factor, np.array([4, 9]) * factor, [factor]))
    np.testing.assert_allclose(it.scale, [1 / 2, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(it.shift, [-3 / 2, 1 / 3], rtol=1e-5)
    assert it.axis == 1


@pytest.mark.parametrize("eps", [1e-9, 1e-5, 1e-3, 2])
def test_eps(eps: float) -> None:
    """It is the layer's own, 1e-5 if it says none."""
    it = affine(make_layer(f"{BN} batch_norm_param {{ eps: {eps} }}", [0], [0.0], [1]))
    assert it.scale[0] == pytest.approx(eps**-0.5, rel=1e-6)
    assert affine(make_layer(BN, [0], [0.0], [1])).scale[0] == pytest.approx(1e-5**-0.5, rel=1e-6)


def test_factor_zero() -> None:
    """Caffe takes mean and variance as 0, whatever is stored there: even nonsense."""
    layer = make_layer(BN, [5, 6], [-7, 8], [0])
    it = affine(layer)
    np.testing.assert_allclose(it.scale, 1e-5**-0.5, rtol=1e-6)
    assert not it.shift.any()


def test_extreme_statistics() -> None:
    """Subnormal variances and sums of 1e8 are ordinary numbers."""
    it = affine(make_layer(BN, [0, 1e8], [5.6e-45, 1e8], [999.98]))
    np.testing.assert_allclose(it.scale, [1e-5**-0.5, (1e8 / 999.98 + 1e-5) ** -0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        (([0, 0], [1, -2], [1]), "blob 1: expected variances of the factor's sign, 1, found -2"),
        (([0, 0], [1, -2], [-1]), "blob 1: expected variances of the factor's sign, -1, found 1"),
        (([0, np.nan], [1, 1], [1]), "blob 0: expected finite values, found nan"),
        (([0, 0], [1, np.inf], [1]), "blob 1: expected finite values, found inf"),
        (([0, 0], [1, 1], [-np.inf]), "blob 2: expected finite values, found -inf"),
    ],
)
def test_bad_statistics(blobs: Sequence[Sequence[float]], message: str) -> None:
    """An error that names layer and blob, not a refusal: the file is broken."""
    with pytest.raises(WeightsError, match=f"layer 'it', {message}"):
        affine_of(make_layer(BN, *blobs), 4)


def test_a_variance_that_eps_makes_positive() -> None:
    """As E(x^2) - E(x)^2 comes out in float32 for a channel that hardly varies: Caffe takes it."""
    it = affine(make_layer(BN, [0, 0], [-1e-3, 1000], [1000]))
    np.testing.assert_allclose(it.scale, [(1e-5 - 1e-6) ** -0.5, (1 + 1e-5) ** -0.5], rtol=1e-6)
    for layer in (make_layer(BN, [0], [-1.1e-2], [1000]), make_layer(BN, [0], [-1e-5], [1])):
        with pytest.raises(WeightsError, match="expected variances"):
            affine_of(layer, 4)


def test_division_by_zero() -> None:
    """A variance of 0 with an eps of 0."""
    with pytest.raises(WeightsError, match=r"blob 1: expected finite multipliers.* eps 0"):
        affine_of(make_layer(f"{BN} batch_norm_param {{ eps: 0 }}", [0], [0], [1]), 4)


@pytest.mark.parametrize(
    ("text", "shape", "rank", "axis"),
    [
        ("", (6,), None, 1),
        ("axis: 1", (6,), 4, 1),
        ("axis: -3", (6,), 4, 1),
        ("axis: -1", (6,), 2, 1),
        ("axis: 2", (6,), 4, 2),
        ("axis: -1", (6,), 4, 3),
        ("axis: 0", (6,), 4, 0),
        ("axis: 0 num_axes: 2", (1, 6), 4, 1),
        ("axis: 0 num_axes: -1", (1, 6, 1, 1), None, 1),
        ("num_axes: -1", (6, 1, 1), 4, 1),
        ("num_axes: -1", (1, 6, 1), 4, 2),
        ("num_axes: 0", (), 4, None),
        ("", (1,), 4, None),
        ("axis: 2", (1,), 4, None),
    ],
)
def test_axis_of_scale_and_bias(
    text: str, shape: Sequence[int], rank: Optional[int], axis: Optional[int]
) -> None:
    """The one axis along which the values vary, counted from the front."""
    values = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    scale = affine(
        make_layer(f"{SCALE} scale_param {{ {text} bias_term: true }}", values, -values), rank
    )
    bias = affine(make_layer(f'type: "Bias" bias_param {{ {text} }}', values), rank)
    assert scale.axis == bias.axis == axis
    assert scale.scale.shape == bias.shift.shape == (() if axis is None else (6,))
    np.testing.assert_array_equal(scale.scale.ravel(), values.ravel())
    np.testing.assert_array_equal(scale.shift.ravel(), -values.ravel())
    np.testing.assert_array_equal(bias.shift.ravel(), values.ravel())
    assert (bias.scale == 1).all()


def test_scale_without_bias() -> None:
    """Its shift is 0."""
    it = affine(make_layer(SCALE, [2, -3]))
    assert (list(it.scale), list(it.shift)) == ([2, -3], [0, 0])


def test_power() -> None:
    """Affine if power is 1: shift + scale x."""
    it = affine(make_layer('type: "Power" power_param { scale: 3 shift: -2 }'))
    assert (float(it.scale), float(it.shift), it.axis) == (3, -2, None)
    assert float(affine(make_layer('type: "Power"')).scale) == 1


REFUSED = [
    (f"{BN} batch_norm_param {{ use_global_stats: false }}", ([0], [1], [1]), "use_global_stats"),
    (f"{BN} phase: TRAIN", ([0], [1], [1]), "its phase is TRAIN"),
    (BN, (), "the file has no weights for it"),
    (BN, ([0], [1], [1], [1], [1]), "bn_style (nvidia, nvidia-0.15, intel)"),
    (BN, ([0, 0], [1], [1]), "its blobs have different sizes, (2,) and (1,)"),
    (BN, ([0], [1], [1, 1]), "no BatchNorm that is known has blobs of shapes"),
    (SCALE, (), "the file has no weights for it"),
    (SCALE, ([1], [1]), "it has 2 blobs, not 1"),
    (f"{SCALE} scale_param {{ bias_term: true }}", ([1],), "it has 1 blob, not 2"),
    (f"{SCALE} scale_param {{ bias_term: true }}", ([1, 2], [1]), "different sizes"),
    (f"{SCALE} scale_param {{ num_axes: 2 }}", (np.ones((2, 3)),), "varies along axes [1, 2]"),
    ('type: "Bias"', ([1], [1]), "it has 2 blobs, not 1"),
    ('type: "Power" power_param { power: 2 }', (), "its power is 2, not 1"),
    ('type: "Dropout" phase: TRAIN', (), "its phase is TRAIN: it drops"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "blobs", "reason"), REFUSED)
def test_refusals(text: str, blobs: Sequence[Sequence[float]], reason: str) -> None:
    """What is of an affine type and is no fixed map, and why."""
    result = affine_of(make_layer(text, *blobs), 4)
    assert isinstance(result, Reason)
    assert reason in result


def test_rank_is_needed_from_the_end() -> None:
    """A negative axis of a blob of unknown rank could be any."""
    for text in (f"{SCALE} scale_param {{ axis: -1 }}", 'type: "Bias" bias_param { axis: -1 }'):
        result = affine_of(make_layer(text, [1, 2]), None)
        assert result == "its axis is -1 and the rank of its bottom is not known"


def test_two_bottoms() -> None:
    """The factor is another blob then, which one is said."""
    assert affine_of(make_layer(SCALE, bottoms=2), 4) == "its factor is another blob, 'y'"
    assert affine_of(make_layer('type: "Bias"', bottoms=2), 4) == "its summand is another blob, 'y'"


def test_other_types() -> None:
    """Types that are never affine here have no answer at all, whatever they look like."""
    for kind in ("ReLU", "Convolution", "Mystery", "scale"):
        assert affine_of(make_layer(f'type: "{kind}"', [1]), 4) is None


def test_fields_of_forks() -> None:
    """One inside the layer's own parameters makes its effect unknown; one beside them does not."""
    layer = make_layer(SCALE, [2])
    layer.extra = {"forward_type": "FLOAT16"}
    assert unknown_fields(layer) is None
    assert float(affine(layer).scale) == 2
    layer.extra = {**layer.extra, "scale_param.min_value": "0"}
    result = affine_of(layer, 4)
    assert result == "scale_param.min_value is a fork's field, whose effect is not known"


@pytest.mark.parametrize(
    ("extra", "scale"),
    [
        ({"dropout_param.scale_train": "false"}, 0.75),
        ({"dropout_param.scale_train": "0"}, 0.75),
        ({"dropout_param.scale_train": "true"}, None),
        ({"dropout_param.engine": "CUDNN"}, None),
        ({}, None),
    ],
)
def test_dropout(extra: "dict[str, str]", scale: Optional[float]) -> None:
    """A multiplication by 1 - ratio if scale_train is false, and no map of its own otherwise."""
    layer = make_layer('type: "Dropout" dropout_param { dropout_ratio: 0.25 }')
    layer.extra = extra
    result = affine_of(layer, None)
    if scale is None:
        assert result is None
    else:
        assert isinstance(result, Affine)
        assert (float(result.scale), float(result.shift)) == (scale, 0)


def test_results_belong_to_what_they_are_computed_from() -> None:
    layer = make_layer(SCALE, [2])
    blobs = layer.blobs
    with remembering():
        first = affine_of(layer, 4)
        layer.param.bottom[0] = "renamed"
        assert affine_of(layer, 4) is first
        layer.blobs = (Dense(np.array([3.0])),)
        assert float(affine(layer).scale) == 3
        assert affine_of(layer, None) is not affine_of(layer, 4)
        layer.blobs = blobs
        assert affine_of(layer, 4) is first


def test_nothing_is_remembered_elsewhere() -> None:
    """Between two merges a caller may edit parameters in place."""
    layer = make_layer(SCALE, [2, 3])
    with remembering():
        first = affine(layer)
        assert affine(copy(layer)) is first
    assert affine(layer) is not first
    layer.param.scale_param.axis = 3
    with remembering():
        assert (first.axis, affine(layer).axis) == (1, 3)


def test_names_in_a_reason_are_those_of_now() -> None:
    layer = make_layer('type: "Scale" bottom: "f"', [])
    assert affine_of(layer, 4) == "its factor is another blob, 'f'"
    layer.param.bottom[1] = "g"
    assert affine_of(layer, 4) == "its factor is another blob, 'g'"

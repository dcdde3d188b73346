"""What layers/signs.py says of layers is so when they are run, and Caffe's code agrees on NaN."""

from typing import Tuple

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.layers.catalogue import CATALOGUE, that
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.signs import never_negative, why_not_unchanged
from caffe_merge.layers.standard import standard
from tests.nets import make_layer, parse_layer, prototxt
from tests.real_caffe import RealCaffe

# What a layer's text is, which of its bottoms are never negative, and which it takes to be.
LAYERS: Tuple[Tuple[str, Tuple[bool, ...], object], ...] = (
    ("ReLU", (False,), ()),
    ("PReLU", (True,), (0,)),
    ("ELU", (True,), (0,)),
    ("ELU", (False,), None),
    ("Clip' clip_param { min: -1 max: 4 }'", (True,), (0,)),
    ("Clip' clip_param { min: -5 max: -1 }'", (True,), None),
    ("Power' power_param { power: 4 shift: -1 }'", (False,), ()),
    ("Power' power_param { power: -2 }'", (False,), ()),
    ("Power' power_param { power: 3 shift: 1 }'", (True,), (0,)),
    ("Power' power_param { scale: -1 }'", (True,), None),
    ("Eltwise' eltwise_param { operation: MAX }'", (False, True), (1,)),
    ("Eltwise' eltwise_param { operation: PROD }'", (True, True), (0, 1)),
    ("Eltwise", (True, False), None),
    ("Axpy", (True, True, True), (0, 1, 2)),
    ("Concat", (True, True), (0, 1)),
    ("Concat", (True, False), None),
    ("Crop", (True, False), (0,)),
    ("Input", (), None),
    ("Dropout", (True,), (0,)),
    ("Dropout' phase: TRAIN'", (True,), None),
    ("LRN", (True,), (0,)),
    ("LRN' lrn_param { k: -1 }'", (True,), None),
    ("MVN", (True,), None),
    ("OfNobody", (True,), None),
)


def layer_of(text: str, bottoms: int) -> Layer:
    kind, _, body = text.rstrip("'").partition("'")
    return Layer(parse_layer(f'type: "{kind}" {body}', bottom=list("abc"[:bottoms]), top=["y"]))


@pytest.mark.parametrize(("text", "signs", "basis"), LAYERS)
def test_never_negative(text: str, signs: Tuple[bool, ...], basis: object) -> None:
    layer = layer_of(text, len(signs))
    if layer.type == "PReLU":
        layer.load_blobs(make_layer('type: "PReLU"', np.full(4, 0.5)).blobs)
    assert never_negative(layer, signs, 4) == basis


@pytest.mark.parametrize("name", sorted(t for t, row in CATALOGUE.items() if row.never_negative))
def test_types_of_the_catalogue(name: str) -> None:
    """Those that the reference runs, on values of one sign or of both."""
    layer = layer_of(name, 1)
    form = standard(layer)
    always = CATALOGUE[name].never_negative == "always"
    assert never_negative(layer, [True], 4) == (() if always else (0,))
    assert never_negative(layer, [False], 4) == (() if always else None)
    if isinstance(form, tuple) and CATALOGUE[name].family == "pointwise":
        values = np.random.default_rng(1).normal(0, 3, (2, 4, 5, 3))
        for top in reference.forward(*form, [values if always else np.abs(values)]):
            assert (top >= 0).all()


@pytest.mark.parametrize("name", sorted(that("rectifier")))
def test_rectifiers_give_out_what_is_not_negative(name: str) -> None:
    layer = make_layer(f'type: "{name}"', *[np.arange(4.0) - 2] * (name == "PReLU"))
    form = standard(layer)
    assert why_not_unchanged(layer) is None
    assert isinstance(form, tuple)
    values = np.abs(np.random.default_rng(1).normal(0, 3, (2, 4, 5)))
    blobs = [blob.float64() for blob in form[1]]
    np.testing.assert_array_equal(reference.forward(form[0], blobs, [values])[0], values)


def test_infinite_slopes_make_nan_of_0() -> None:
    layers = [
        make_layer('type: "ReLU" relu_param { negative_slope: inf }'),
        make_layer('type: "ELU" elu_param { alpha: nan }'),
        make_layer('type: "PReLU"', np.array([0.5, -np.inf])),
    ]
    for layer in layers:
        assert "not finite" in str(why_not_unchanged(layer))
    assert why_not_unchanged(make_layer('type: "PReLU"', np.array([0.5, -9]))) is None


@pytest.mark.parametrize("kind", ["ReLU", "PReLU", "ELU", "AbsVal"])
def test_caffe_leaves_nan_alone(real_caffe: RealCaffe, kind: str) -> None:
    """As a net without the layer does: there is nothing below 0 to take away."""
    text = prototxt("data 1 3", f"r: {kind} data -> y")
    data = np.array([[np.nan, np.inf, 1.0]], np.float32)
    weights = {"r": [np.full(3, 0.25)]} if kind == "PReLU" else {}
    np.testing.assert_array_equal(real_caffe.forward(text, weights, {"data": data})["y"], data)

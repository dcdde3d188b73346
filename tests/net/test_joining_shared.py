"""Blobs that layers share by `param { name }`, as they are loaded: whose values, whose fillers."""

from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

from caffe_merge.errors import NetError
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.net import saving
from tests.net.test_joining import (
    INPUT,
    forward_bias,
    layer_text,
    model,
    notes,
    values,
)
from tests.nets import Stored, load, load_pair, write_pair
from tests.real_caffe import RealCaffe

SHARED = "param { name: 'w' }"
SHARING = {
    "the last record counts": [("a", [Stored((4,))]), ("b", [Stored((4,))])],
    "whatever the order of the layers": [("b", [Stored((4,))]), ("a", [Stored((4,))])],
    "a record of the owner alone": [("a", [Stored((4,))])],
    "a record of the sharer alone": [("b", [Stored((4,))])],
}


@pytest.mark.parametrize("case", SHARING)
def test_shared_blobs(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = INPUT + layer_text("Bias", "a", SHARED) + layer_text("Bias", "b", SHARED, top="z")
    weights = model(SHARING[case])
    net = load(tmp_path, text, weights)
    outputs = forward_bias(real_caffe, tmp_path, text, weights)
    assert (values(net, "a"), values(net, "b")) == (outputs["y"], outputs["z"])


XAVIER = "inner_product_param {{ num_output: 3 bias_term: false weight_filler {{ {} }} }}"


@pytest.mark.parametrize("holder", "ab")
def test_shared_blobs_need_no_filler(holder: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    """Who shares a blob that the file has runs on it, whatever its own filler."""
    body = SHARED + XAVIER.format("type: 'xavier'")
    text = (
        INPUT
        + layer_text("InnerProduct", "a", body)
        + layer_text("InnerProduct", "b", body, top="z")
    )
    weights = model([(holder, [Stored((3, 120))])])
    net = load(tmp_path, text, weights)
    assert values(net, "a") == values(net, "b") != []
    assert notes(net) == []
    assert not any(layer.missing or layer.filled for layer in net.layers)
    ones = {"x": np.ones((2, 4, 5, 6), "f4")}
    outputs = real_caffe.forward_pair(*write_pair(tmp_path, text, weights), ones)
    total = np.reshape(values(net, "b"), (3, 120)).sum(axis=1)
    np.testing.assert_allclose(outputs["y"], [total, total], rtol=1e-5)
    np.testing.assert_array_equal(outputs["z"], outputs["y"])


def test_the_first_filler_of_a_shared_blob_counts(tmp_path: Path) -> None:
    """Where that is random nothing is known; where it is not, the others do not matter."""
    fillers = {"a": "type: 'xavier'", "b": "type: 'constant' value: 2"}
    for order, missing in (("ab", [True, True]), ("ba", [False, False])):
        text = INPUT + "".join(
            layer_text("InnerProduct", name, SHARED + XAVIER.format(fillers[name]), top=name)
            for name in order
        )
        net = load(tmp_path, text, model([("x", [])]))
        assert [layer.missing for layer in net.layers[1:]] == missing
        assert [layer.filled for layer in net.layers[1:]] == [
            not is_missing for is_missing in missing
        ]


RANDOM_FILLER = "weight_filler { type: 'xavier' }"


@pytest.mark.parametrize("absent", ["a", "b"], ids=["the owner", "the sharer"])
@pytest.mark.parametrize("names", [("w", "v"), ("w", "")], ids=["all", "weights alone"])
def test_a_layer_without_a_record_runs_on_what_it_shares(
    absent: str, names: Tuple[str, str], tmp_path: Path, real_caffe: RealCaffe
) -> None:
    """Its fillers, random or not, fill what nobody gives; it is written with what it runs on."""
    specs = " ".join(f"param {{ name: '{name}' }}" for name in names)
    filler = f"{RANDOM_FILLER} bias_filler {{ value: 3 }}"
    body = f"{specs} inner_product_param {{ num_output: 3 {filler} }}"
    text = (
        INPUT
        + layer_text("InnerProduct", "a", body)
        + layer_text("InnerProduct", "b", body, top="z")
    )
    (present,) = {"a", "b"} - {absent}
    weights = model([("x", []), (present, [Stored((3, 120)), Stored((3,))])])
    net = load(tmp_path, text, weights)
    held = {layer.name: [blob.array() for blob in layer.blobs] for layer in net.layers}
    assert (held["a"][0] == held["b"][0]).all()
    assert (held[absent][1] == (held[present][1] if names[1] else 3)).all()
    assert notes(net) == ([] if names[1] else [("filler-weights", absent)])
    saving.save(net, str(tmp_path / "p"), str(tmp_path / "m"))
    data = np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype("f4")
    for files in (
        (tmp_path / "net.prototxt", tmp_path / "net.caffemodel"),
        (tmp_path / "p", tmp_path / "m"),
    ):
        outputs = real_caffe.forward_pair(*files, {"x": data})
        for name, top in (("a", "y"), ("b", "z")):
            expected = data.reshape(2, -1) @ held[name][0].T + held[name][1]
            np.testing.assert_allclose(outputs[top], expected, rtol=1e-4, atol=1e-4)
    assert load_pair((tmp_path / "p", tmp_path / "m")).notes == []


def test_random_values_are_shared_too(tmp_path: Path) -> None:
    """The owner's filler counts: where it is random nobody knows them."""
    body = "{} inner_product_param {{ num_output: 3 bias_term: false {} }}"
    text = INPUT + layer_text("InnerProduct", "a", body.format(SHARED, RANDOM_FILLER))
    text += layer_text("InnerProduct", "b", body.format(SHARED, ""), top="z")
    net = load(tmp_path, text, model([("x", [])]))
    assert [(layer.missing, layer.blobs) for layer in net.layers[1:]] == [(True, ())] * 2
    assert notes(net) == [("missing-weights", "a"), ("missing-weights", "b")]
    text = text.replace(RANDOM_FILLER, "weight_filler { value: 2 }")
    net = load(tmp_path, text, model([("x", [])]))
    assert values(net, "b") == [2.0] * 360


def test_a_blob_that_is_shared_within_a_layer(tmp_path: Path, real_caffe: RealCaffe) -> None:
    """The last one of the record counts."""
    body = f"{SHARED} {SHARED} scale_param {{ bias_term: true }}"
    text, weights = (
        INPUT + layer_text("Scale", body=body),
        model([("l", [Stored((4,)), Stored((4,))])]),
    )
    net = load(tmp_path, text, weights)
    ones = {"x": np.ones((2, 4, 5, 6), "f4")}
    outputs = real_caffe.forward_pair(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", ones)
    factor, shift = (blob.array() for blob in net.layers[1].blobs)
    np.testing.assert_allclose(outputs["y"][0, :, 0, 0], factor + shift, rtol=1e-6)


def test_permissive_sharing_wants_equal_counts_and_shares(tmp_path: Path) -> None:
    """share_mode PERMISSIVE: the last values in the file serve both shapes; STRICT refuses."""
    spec = 'param { name: "w" share_mode: PERMISSIVE }'
    text = (
        'layer { name: "d" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 1 '
        'dim: 1 } } }\nlayer { name: "s" type: "Scale" bottom: "x" top: "s" SPEC }\n'
        'layer { name: "b" type: "Bias" bottom: "s" top: "b" SPEC bias_param { num_axes: 3 } }\n'
    )
    first, two = np.arange(4.0), np.arange(4.0).reshape(4, 1, 1) + 7
    pair = write_pair(tmp_path, text.replace("SPEC", spec), {"s": [first], "b": [two]})
    layers = {layer.name: layer for layer in load_pair(pair).layers}
    assert layers["s"].blobs[0].array().tolist() == two.ravel().tolist()
    assert layers["b"].blobs[0].array().tolist() == two.tolist()
    strict = text.replace("SPEC", 'param { name: "w" }')
    pair = write_pair(tmp_path, strict, {"s": [first], "b": [two]})
    with pytest.raises(NetError, match=r"blob 0 has shape \(4, 1, 1\) and shares 'w'"):
        load_pair(pair)


def test_a_record_that_does_not_count_is_written_anew(tmp_path: Path) -> None:
    """All records of a shared blob say the same in what is written; others are copied."""
    text = INPUT + layer_text("Bias", "a", SHARED) + layer_text("Bias", "b", SHARED, top="z")
    net = load(tmp_path, text, model([("a", [Stored((4,))]), ("b", [Stored((4,))])]))
    saving.save(net, str(tmp_path / "p"), str(tmp_path / "m"))
    first, other = open_index(str(tmp_path / "m")).layers
    assert first.blobs[0].array().tolist() == other.blobs[0].array().tolist() == values(net, "b")
    again = load_pair((tmp_path / "p", tmp_path / "m"))
    assert all(entry.new is None for entry in saving.entries(again))

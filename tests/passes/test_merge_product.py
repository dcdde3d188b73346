"""merge-product: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger
from tests.nets import prototxt, seeded

IN = "data 2 4 5 3"
RELU = "r: ReLU s -> r"


def product(name: str = "ip", body: str = "", bottom: str = "data", outputs: int = 60) -> str:
    fields = f"inner_product_param {{ num_output: {outputs} {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {fields} }}"


def conv(name: str = "c", body: str = "kernel_size: 3 pad: 1", outputs: int = 4) -> str:
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution data -> {name} {{ {fields} }}"


def flat(name: str = "f", bottom: str = "c") -> str:
    return f"{name}: Flatten {bottom} -> {name}"


def add(*bottoms: str, coeff: str = "") -> str:
    return f"s: Eltwise {' '.join(bottoms)} -> s {{ eltwise_param {{ {coeff} }} }}"


CONVOLUTIONS = {
    "3x3": conv(),
    "grouped": conv(body="kernel_size: 3 pad: 1 group: 2"),
    "depthwise": conv(body="kernel_size: 3 pad: 1 group: 4 bias_term: false"),
    "one": conv(body="kernel_size: 1"),
    "dilated": conv(body="kernel_size: 3 pad: 2 dilation: 2"),
    "oblong": conv(body="kernel_h: 5 kernel_w: 1 pad_h: 2 pad_w: 0"),
    "strided": conv(body="kernel_size: 3 pad: 1 stride: 2", outputs=10),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("body", ["", "transpose: true"])
def test_a_convolution_goes_into_the_product(merged: Merger, name: str, body: str) -> None:
    result = merged(IN, product(body=body), CONVOLUTIONS[name], flat(), add("ip", "f"), RELU)
    assert result.names == ["ip", "r"]
    (change,) = result.report.changes
    assert (change.rewrite, change.changed) == ("merge-product", ("ip",))
    after, before = result.report.after, result.report.before
    assert (after.multiply_adds or 0) < (before.multiply_adds or 0)
    assert after.parameters < before.parameters


def test_the_product_may_be_reshaped(merged: Merger) -> None:
    """As in RepMLP, where the sum has four axes; several convolutions are one before."""
    back = "b: Reshape ip -> b { reshape_param { shape { dim: 0 dim: 4 dim: 5 dim: 3 } } }"
    lines = [product(), back, conv(), conv("d", "kernel_size: 5 pad: 2")]
    norms = [f"n{x}: BatchNorm {x} -> n{x}" for x in "cd"]
    result = merged(IN, *lines, *norms, add("b", "nc", "nd"), RELU)
    assert result.names == ["ip", "b", "r"]


def test_a_flattened_input(merged: Merger) -> None:
    """What only the product reads flat it reads as it is (fold-permute)."""
    lines = [flat("x", "data"), product(bottom="x"), conv(), flat(), add("ip", "f"), RELU]
    assert merged(IN, *lines).names == ["ip", "r"]


def test_coefficients_and_other_bottoms(merged: Merger) -> None:
    lines = [product(), conv(), flat(), flat("t", "data"), "u: TanH t -> u"]
    coeff = "coeff: -0.5 coeff: 3 coeff: 2"
    result = merged(IN, *lines, add("f", "u", "ip", coeff=coeff), RELU)
    assert result.names == ["ip", "t", "u", "s", "r"]
    assert list(result.layer("s").param.eltwise_param.coeff) == [3, 1]


def test_products_of_one_blob(merged: Merger) -> None:
    lines = [product(), product("b", "transpose: true bias_term: false"), add("ip", "b"), RELU]
    assert merged(IN, *lines).names == ["ip", "r"]


def test_a_new_bias(merged: Merger) -> None:
    lines = [product(body="bias_term: false"), conv(), flat(), add("ip", "f"), RELU]
    result = merged(IN, *lines)
    assert [blob.shape for blob in result.blobs("ip")] == [(60, 60), (60,)]


def test_in_place_around_and_outputs(merged: Merger) -> None:
    lines = [product(), conv(), flat(), add("ip", "f"), "r: Sigmoid s -> s"]
    assert merged(IN, *lines).names == ["ip", "r"]
    result = merged(IN, *lines[:4])
    assert (result.names, list(result.layer("ip").param.top)) == (["ip"], ["s"])


def test_shared_weights_are_unshared(merged: Merger) -> None:
    share = "{ param { name: 'w' } inner_product_param { num_output: 60 bias_term: false } }"
    lines = [IN, f"ip: InnerProduct data -> ip {share}", "t: TanH data -> t",
             f"o: InnerProduct t -> o {share}", conv(), flat(), add("ip", "f"), RELU]  # fmt: skip
    weights = seeded(prototxt(*lines))["ip"]
    result = merged(*lines, weights={"ip": weights, "o": weights})
    assert result.names == ["ip", "t", "o", "r"]


REFUSED: Dict[str, List[str]] = {
    "kept as asked": [product(), conv(), flat(), add("ip", "f"), RELU],
    "its axis is not 1": ["p: InnerProduct data -> ip { inner_product_param { axis: 3 "
                          "num_output: 3 } }", conv(), add("ip", "c"), RELU],
    "more values than what goes": [
        product(body="bias_term: false"), conv(body="kernel_size: 1 group: 4"), flat(),
        add("ip", "f"), RELU],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    keep = ["c"] if reason == "kept as asked" else []
    result = merged(IN, *REFUSED[reason], keep=keep, only=["merge-product"])
    assert not result.report.changes
    said = [refusal.reason for refusal in result.report.refusals if refusal.layer == "s"]
    assert reason in said[0]


STAYS: Dict[str, List[str]] = {
    "of another blob": ["t: TanH data -> t", product(bottom="t"), conv(), flat(), add("ip", "f")],
    "read elsewhere": [product(), conv(), flat(), add("ip", "f"), "t: TanH f -> t"],
    "product read elsewhere": [product(), conv(), flat(), add("ip", "f"), "t: TanH ip -> t"],
    "no sum": [product(), conv(), flat(), add("ip", "f", coeff="operation: MAX")],
    "permuted": [product(), conv(), "p: Permute c -> p { permute_param { order: 0 order: 2 } }",
                 flat(bottom="p"), add("ip", "f")],
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_stays(merged: Merger, name: str) -> None:
    result = merged(IN, *STAYS[name], RELU, only=["merge-product"])
    assert not result.report.changes


def test_values_are_those_of_the_matrix(merged: Merger) -> None:
    """A convolution of ones over a blob of ones counts what of its window lies inside."""
    convolution = conv(body="kernel_size: 3 pad: 1 bias_term: false")
    lines = [IN, product(body="bias_term: false"), convolution, flat(), add("ip", "f"), RELU]
    weights = {"ip": [np.zeros((60, 60))], "c": [np.ones((4, 4, 3, 3))]}
    (matrix,) = merged(*lines, weights=weights).blobs("ip")
    inside = np.outer([2, 3, 3, 3, 2], [2, 3, 2]) * 4
    np.testing.assert_array_equal(matrix.sum(axis=1), np.tile(inside.ravel(), 4))

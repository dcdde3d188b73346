"""fold-permute: it fires, it refuses with its reason, and what it writes is right."""

import re
from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger
from tests.nets import prototxt, seeded

IN = "data 2 3 5 4"
CONV = "c: Convolution data -> c { convolution_param { num_output: 6 kernel_size: 2 } }"
PERMUTE = "p: Permute c -> p { permute_param { order: 0 order: 2 order: 3 order: 1 } }"
FLAT = "f: Flatten {} -> f"
ONLY = ["fold-permute"]


def product(bottom: str, body: str = "", name: str = "ip") -> str:
    body = f"inner_product_param {{ num_output: 7 {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"


@pytest.mark.parametrize("body", ["", "transpose: true", "bias_term: false"])
def test_a_permute(merged: Merger, body: str) -> None:
    lines = [IN, CONV, PERMUTE, product("p", body)]
    result = merged(*lines, only=ONLY)
    assert result.names == ["c", "ip"]
    old = np.asarray(seeded(prototxt(*lines))["ip"][0], np.float32)
    old = old.T if "transpose" in body else old
    new = result.blobs("ip")[0]
    new = new.T if "transpose" in body else new
    expected = old.reshape(7, 4, 3, 6).transpose(0, 3, 1, 2).reshape(7, -1)
    np.testing.assert_array_equal(new, expected)
    (change,) = result.report.changes
    assert (change.changed, change.removed) == (("ip",), ("p",))


def test_the_last_of_a_detector(merged: Merger) -> None:
    """Permute, Flatten and InnerProduct, as in exported nets."""
    result = merged(IN, CONV, PERMUTE, FLAT.format("p"), product("f"))
    assert result.names == ["c", "ip"]


MOVES = {
    "flatten": FLAT.format("c"),
    "reshape": "f: Reshape c -> f { reshape_param { shape { dim: 0 dim: -1 } } }",
    "three axes": "f: Reshape c -> f { reshape_param { shape { dim: 0 dim: 9 dim: 8 } } }",
    "permute of places": "f: Permute c -> f { permute_param { order: 0 order: 1 order: 3 } }",
}


@pytest.mark.parametrize("name", MOVES)
def test_goes(merged: Merger, name: str) -> None:
    result = merged(IN, CONV, MOVES[name], product("f"), only=ONLY)
    assert result.names == ["c", "ip"]
    changed = result.report.changes[0].changed
    assert changed == (("ip",) if "permute" in name else ())


@pytest.mark.parametrize("relu", ["r: ReLU f -> r", "r: ReLU f -> f"])
@pytest.mark.parametrize("name", MOVES)
def test_through_a_relu(merged: Merger, name: str, relu: str) -> None:
    """What wrote in place still does."""
    result = merged(IN, CONV, MOVES[name], relu, product(relu[-1]), only=ONLY)
    assert result.names == ["c", "r", "ip"]
    param = result.layer("r").param
    assert (param.bottom == param.top) == (relu[-1] == "f")


def test_of_memory_that_others_read(merged: Merger) -> None:
    relu, other = "r: ReLU f -> f", "other: TanH c -> other"
    result = merged(IN, CONV, PERMUTE.replace("p", "f", 1).replace("-> p", "-> f"), relu,
                    product("f"), other, only=ONLY)  # fmt: skip
    assert result.names == ["c", "r", "ip", "other"]
    result = merged(IN, CONV, FLAT.format("c"), relu, product("f"), other, only=ONLY)
    result.refused("f", "others see what 'r' writes in place")


def test_not_through_a_slope_for_each_channel(merged: Merger) -> None:
    result = merged(IN, CONV, PERMUTE, "r: PReLU p -> r", product("r"), only=ONLY)
    result.refused("p", "PReLU 'r' behind it does not compute each value by itself")


def test_an_axis_counted_from_the_end(merged: Merger) -> None:
    result = merged(IN, CONV, FLAT.format("c"), product("f", "axis: -1"), only=ONLY)
    assert result.layer("ip").param.inner_product_param.axis == 1


def test_axes_in_front_of_the_products_own_stay(merged: Merger) -> None:
    lines = ["p: Permute c -> p { permute_param { order: 0 order: 1 order: 3 order: 2 } }"]
    result = merged(IN, CONV, *lines, product("p", "axis: 2"), only=ONLY)
    assert result.names == ["c", "ip"]
    lines = ["f: Flatten c -> f { flatten_param { axis: 2 } }"]
    assert merged(IN, CONV, *lines, product("f", "axis: 2"), only=ONLY).names == ["c", "ip"]


def test_several_products(merged: Merger) -> None:
    lines = [product("p"), product("p", "transpose: true", "b"), "s: Eltwise ip b -> s"]
    assert merged(IN, CONV, PERMUTE, *lines, only=ONLY).names == ["c", "ip", "b", "s"]


def test_shared_weights(merged: Merger) -> None:
    """Of two that change alike the name stays; of one that does not, it goes."""
    share = "{ param { name: 'w' } inner_product_param { num_output: 7 bias_term: false } }"
    second = [CONV.replace("c:", "d:").replace("-> c", "-> d")]
    second += [PERMUTE.replace("p: ", "q: ").replace("c -> p", "d -> q")]
    for last, names in (("q", ["w", "w"]), ("d", ["", "w"])):
        lines = [IN, CONV, PERMUTE, *second, f"a: InnerProduct p -> a {share}"]
        lines += [f"b: InnerProduct {last} -> b {share}"]
        lines += ["t: TanH q -> t"] if last == "d" else []
        weights = seeded(prototxt(*lines))["a"]
        result = merged(*lines, weights={"a": weights, "b": weights}, only=ONLY)
        specs = [[spec.name for spec in result.layer(n).param.param] for n in "ab"]
        assert [spec[0] if spec else "" for spec in specs] == names


def test_in_place_layers_around(merged: Merger) -> None:
    lines = ["r: ReLU c -> c", PERMUTE, product("p"), "s: Sigmoid ip -> ip", "t: TanH c -> t"]
    assert merged(IN, CONV, *lines, only=ONLY).names == ["c", "r", "ip", "s", "t"]


REFUSED: Dict[str, List[str]] = {
    "not by InnerProducts alone": [PERMUTE, product("p"), "t: TanH p -> t"],
    "kept as asked": [PERMUTE, product("p")],
    "in front of axis 1": [PERMUTE.replace("order: 0 order: 2", "order: 1 order: 0")
                           .replace("order: 3 order: 1", ""), product("p")],
    "in front of axis 2": [PERMUTE, product("p", "axis: 2")],
    "may move": [
        "p: Reshape c -> p { reshape_param { shape { dim: 2 dim: -1 } } }", product("p")],
    "a fork's field": [PERMUTE.replace("order: 0", "odd: 1 order: 0"), product("p")],
    "in place by another": ["q: Split c -> q r", PERMUTE.replace("c -> p", "q -> p"),
                            "s: Sigmoid r -> r", product("p")],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    keep = ["ip"] if reason == "kept as asked" else []
    weights = {"ip": [np.ones((7, 72)), np.ones(7)]} if "fork" in reason else {}
    result = merged(IN, CONV, *REFUSED[reason], keep=keep, only=ONLY, weights=weights)
    assert "p" in result.names
    said = [refusal.reason for refusal in result.report.refusals if refusal.layer == "p"]
    assert re.search(reason, said[0])

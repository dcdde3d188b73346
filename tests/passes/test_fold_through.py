"""fold-through: a positive multiplier goes back through ReLU, PReLU and Pooling."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger

IN = "data 2 5 9 8"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }"
READ = ["t: TanH s -> t", "u: AbsVal s -> u"]  # so that it cannot go forwards
POSITIVE = {"times": [np.linspace(0.0, 2.1, 6)]}
NEGATIVE = {"times": [np.linspace(-1.0, 2.1, 6)]}

BETWEEN: Dict[str, List[str]] = {
    "relu": ["r: ReLU conv -> r", "times: Scale r -> s"],
    "in_place": ["r: ReLU conv -> conv", "times: Scale conv -> conv", "p: TanH conv -> s"],
    "leaky": ["r: ReLU conv -> r { relu_param { negative_slope: 0.2 } }", "times: Scale r -> s"],
    "prelu": ["r: PReLU conv -> r", "times: Scale r -> s"],
    "maximum": ["r: Pooling conv -> r { pooling_param { kernel_size: 3 stride: 2 } }",
                "times: Scale r -> s"],
    "mean": ["r: Pooling conv -> r { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }",
             "times: Scale r -> s"],
    "both": ["r: ReLU conv -> conv", "q: Pooling conv -> q { pooling_param { kernel_size: 2 } }",
             "times: Scale q -> s"],
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_back_through(merged: Merger, name: str) -> None:
    """The Scale is gone, and no layer got a bias that it does not need."""
    result = merged(IN, CONV, *BETWEEN[name], *READ, weights=POSITIVE)
    assert "times" not in result.names
    assert result.fate("times").detail == "folded into Convolution 'conv'"


def test_no_bias_for_no_shift(merged: Merger) -> None:
    """A convolution without bias stays one."""
    bare = CONV.replace("kernel_size", "bias_term: false kernel_size")
    result = merged(IN, bare, *BETWEEN["relu"], *READ, weights=POSITIVE)
    assert result.names == ["conv", "r", "t", "u"]
    assert len(result.layer("conv").blobs) == 1


def test_a_mean_takes_any_multiplier(merged: Merger) -> None:
    """It is linear."""
    result = merged(IN, CONV, *BETWEEN["mean"], *READ, weights=NEGATIVE)
    assert "times" not in result.names


@pytest.mark.parametrize("name", ["relu", "leaky", "prelu", "maximum", "both"])
def test_a_negative_multiplier(merged: Merger, name: str) -> None:
    """It stays, and the reason is told."""
    result = merged(IN, CONV, *BETWEEN[name], *READ, weights=NEGATIVE)
    result.refused("times", "back through .*: a negative multiplier does not go through")


def test_a_shift(merged: Merger) -> None:
    """It stays."""
    lines = ["r: ReLU conv -> r", "s: Scale r -> s { scale_param { bias_term: true } }"]
    result = merged(IN, CONV, *lines, *READ)
    result.refused("s", "back through 'r': a shift does not go through it")


POOLED = {
    "maximum": "kernel_size: 3 stride: 2 pad: 1",
    "mean": "pool: AVE kernel_size: 2 stride: 2",
    "padded_mean": "pool: AVE kernel_size: 3 pad: 1",
}


@pytest.mark.parametrize("name", POOLED)
def test_a_shift_through_pooling(merged: Merger, name: str) -> None:
    """The largest value plus 1 is the largest of the values plus 1; so with means, 0 apart."""
    lines = [f"p: Pooling conv -> p {{ pooling_param {{ {POOLED[name]} }} }}",
             "s: Scale p -> s { scale_param { bias_term: true } }"]  # fmt: skip
    weights = {"s": [np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6)]}
    result = merged(IN, CONV, *lines, *READ, weights=weights)
    assert ("s" in result.names) == (name == "padded_mean")
    if name == "padded_mean":
        result.refused("s", "back through 'p': it counts the zeros of its padding")


def test_another_reader_between(merged: Merger) -> None:
    """Who reads the ReLU as well must find the same in it."""
    lines = [*BETWEEN["relu"], "e: AbsVal r -> e"]
    result = merged(IN, CONV, *lines, *READ, weights=POSITIVE)
    assert "times" in result.names


def test_another_reader_before(merged: Merger) -> None:
    """Who reads the convolution as well likewise."""
    lines = [*BETWEEN["relu"], "e: AbsVal conv -> e"]
    result = merged(IN, CONV, *lines, *READ, weights=POSITIVE)
    result.refused("times", "the output of layer 'conv' is read by 'e' as well")


def test_keep(merged: Merger) -> None:
    """What is between may have to stay as it is; then so does the blob that it writes."""
    result = merged(IN, CONV, *BETWEEN["relu"], *READ, weights=POSITIVE, keep=["r"])
    result.refused("times", "'r' are kept as asked")


def test_shared_weights(merged: Merger) -> None:
    """They would change for both."""
    shared = 'num_output: 6 kernel_size: 3 bias_term: false } param { name: "w" '
    lines = [f"{n}: Convolution data -> {n} {{ convolution_param {{ {shared} }} }}" for n in
             ("conv", "d")]  # fmt: skip
    lines += [*BETWEEN["relu"], *READ]
    result = merged(IN, *lines, weights=POSITIVE, keep_shared=True)
    result.refused("times", "layer 'conv' shares its weights with 'd', kept so")


def test_along_another_axis(merged: Merger) -> None:
    """The convolution has nothing along the width."""
    lines = ["r: ReLU conv -> r", "times: Scale r -> s { scale_param { axis: 3 } }"]
    result = merged(IN, CONV, *lines, *READ)
    result.refused("times", "it acts along axis 3, the channels of layer 'conv' lie on axis 1")


def test_what_is_between_is_none_of_these(merged: Merger) -> None:
    """TanH lets no multiplier through, and a second top of a Pooling says where the maximum is."""
    lines = ["r: TanH conv -> r", "times: Scale r -> s"]
    assert "times" in merged(IN, CONV, *lines, *READ, weights=POSITIVE).names
    pool = "r: Pooling conv -> r m { pooling_param { kernel_size: 2 } }"
    lines = [pool, "times: Scale r -> s", "e: AbsVal m -> e"]
    assert "times" in merged(IN, CONV, *lines, *READ, weights=POSITIVE).names


@pytest.mark.parametrize("kind", ["Deconvolution", "InnerProduct"])
def test_other_linear_layers(merged: Merger, kind: str) -> None:
    """They take it in as well."""
    own = "inner_product_param { num_output: 6 }" if kind == "InnerProduct" else (
        "convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 1 }"
    )  # fmt: skip
    line = f"conv: {kind} data -> conv {{ {own} }}"
    result = merged(IN, line, *BETWEEN["relu"], *READ, weights=POSITIVE)
    assert result.names == ["conv", "r", "t", "u"]

"""drop-dead-channels: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List, Optional, Sequence

import numpy as np
import pytest

from tests.merger import Merged, Merger

IN = "data 2 3 9 8"
ONLY = ["drop-dead-channels"]
Blobs = Dict[str, List[np.ndarray]]


def conv(name: str, bottom: str, outputs: int, body: str = "kernel_size: 3") -> str:
    inside = f"num_output: {outputs} {body}"
    return f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {inside} }} }}"


def weights(
    shape: Sequence[int],
    dead: Sequence[int] = (),
    bias: float = -0.5,
    unread: Sequence[int] = (),
    alike: Optional[Sequence[int]] = None,
) -> List[np.ndarray]:
    """Blobs of a convolution: outputs of 0 with this bias, inputs of 0, outputs alike."""
    random = np.random.default_rng(sum(shape))
    kernel = random.standard_normal(shape)
    biases = random.standard_normal(shape[0])
    kernel[list(dead)] = 0
    biases[list(dead)] = bias
    kernel[:, list(unread)] = 0
    if alike:
        kernel[list(alike)], biases[list(alike)] = kernel[alike[0]], biases[alike[0]]
    return [kernel, biases]


def sizes(result: Merged) -> Dict[str, List[int]]:
    """Name -> shape of the weights, of the layers that have some."""
    return {layer.name: list(layer.blobs[0].shape) for layer in result.after.layers if layer.blobs}


A = (6, 3, 3, 3)
BETWEEN: Dict[str, List[str]] = {
    "relu": ["r: ReLU x -> y"],
    "in place": ["r: ReLU x -> x", "p: PReLU x -> x"],
    "pointwise": ["r: ReLU x -> y", "v: Power y -> w { power_param { power: 2 shift: 1 } }"],
    "norm": ["n: BatchNorm x -> y", "m: Scale y -> z { scale_param { bias_term: true } }"],
    "scale": ["m: Scale x -> z { scale_param { bias_term: true } }", "r: ReLU z -> w"],
    "pooling": ["r: ReLU x -> y", "p: Pooling y -> z { pooling_param { kernel_size: 2 } }"],
    "mean": ["p: Pooling x -> z { pooling_param { pool: AVE kernel_size: 3 stride: 2 } }"],
    "depthwise": ["r: ReLU x -> y", conv("w", "y", 6, "kernel_size: 3 group: 6 pad: 1")],
}


def between(kind: str) -> List[str]:
    return [
        line.replace(" x -> x", " a -> a").replace(" x -> ", " a -> ") for line in BETWEEN[kind]
    ]


def end(lines: List[str]) -> str:
    return lines[-1].split(" -> ")[1].split()[0] if lines else "a"


@pytest.mark.parametrize("kind", BETWEEN)
def test_constant_channels_go_with_all_that_is_computed_for_them(merged: Merger, kind: str) -> None:
    """Whatever they are behind the layers between: it goes into the bias of what does not pad."""
    lines = between(kind)
    reader = conv("b", end(lines), 4, "kernel_size: 2")
    layer_weights = {"a": weights(A, dead=[1, 4])}
    result = merged(IN, conv("a", "data", 6), *lines, reader, weights=layer_weights, only=ONLY)
    assert sizes(result)["a"] == [4, 3, 3, 3]
    assert sizes(result)["b"] == [4, 4, 2, 2]
    assert result.report.after.parameters < result.report.before.parameters


@pytest.mark.parametrize("kind", BETWEEN)
def test_channels_that_nobody_reads(merged: Merger, kind: str) -> None:
    lines = between(kind)
    readers = [conv(name, end(lines), 4, "kernel_size: 2 pad: 1") for name in "bc"]
    layer_weights = {
        "b": weights((4, 6, 2, 2), unread=[0, 3]),
        "c": weights((4, 6, 2, 2), unread=[0, 5]),
    }
    result = merged(IN, conv("a", "data", 6), *lines, *readers, weights=layer_weights, only=ONLY)
    assert sizes(result)["a"] == [5, 3, 3, 3]
    assert sizes(result)["c"] == [4, 5, 2, 2]


@pytest.mark.parametrize("kind", sorted({*BETWEEN} - {"in place", "norm", "scale", "depthwise"}))
def test_of_equal_channels_one_stays(merged: Merger, kind: str) -> None:
    lines = between(kind)
    readers = [conv("b", end(lines), 4, "kernel_size: 2 pad: 1"),
               f"c: InnerProduct {end(lines)} -> c {{ inner_product_param {{ num_output: 5 }} }}",
               f"d: InnerProduct {end(lines)} -> d {{ inner_product_param {{ num_output: 5 "
               "transpose: true } }",
               f"e: Deconvolution {end(lines)} -> e {{ convolution_param {{ num_output: 3 "
               "kernel_size: 2 stride: 2 } }"]  # fmt: skip
    layer_weights = {"a": weights(A, alike=[1, 3, 4])}
    result = merged(IN, conv("a", "data", 6), *lines, *readers, weights=layer_weights, only=ONLY)
    assert [sizes(result)[name][0 if name == "e" else 1] for name in "abe"] == [3, 4, 4]


def test_equal_channels_with_other_values_behind_them_stay(merged: Merger) -> None:
    layer_weights = {"a": weights(A, alike=[1, 3])}
    lines = [conv("a", "data", 6), "p: PReLU a -> p", conv("b", "p", 4)]
    assert merged(IN, *lines, weights=layer_weights, only=ONLY).report.changes == []


def test_never_above_0_behind_a_relu(merged: Merger) -> None:
    """A row of weights of one sign, of what is never below 0."""
    kernel, bias = weights((5, 6, 2, 2))
    kernel[2], bias[2] = -np.abs(kernel[2]), -0.1
    lines = [conv("a", "data", 6), "r: ReLU a -> r",
             "p: Pooling r -> p { pooling_param { kernel_size: 2 } }",
             conv("b", "p", 5, "kernel_size: 2"), "q: ReLU b -> b",
             conv("c", "b", 3, "kernel_size: 1")]  # fmt: skip
    result = merged(IN, *lines, weights={"b": [kernel, bias]}, only=ONLY)
    assert sizes(result) == {"a": [6, 3, 3, 3], "b": [4, 6, 2, 2], "c": [3, 4, 1, 1]}


def test_it_goes_on_to_what_only_they_needed(merged: Merger) -> None:
    """Channels of ``a`` that only dead channels of ``b`` read are dead next."""
    kernel, bias = weights((5, 6, 1, 1), dead=[3])
    kernel[:3, 2] = kernel[4:, 2] = 0
    kernel[3, 2] = 1.0
    lines = [conv("a", "data", 6), "r: ReLU a -> r", conv("b", "r", 5, "kernel_size: 1"),
             "q: ReLU b -> q", conv("c", "q", 4)]  # fmt: skip
    layer_weights = {"b": [kernel, bias], "c": weights((4, 5, 3, 3), unread=[3])}
    result = merged(IN, *lines, weights=layer_weights, only=ONLY)
    assert sizes(result) == {"a": [5, 3, 3, 3], "b": [4, 5, 1, 1], "c": [4, 4, 3, 3]}


def test_concat_and_slice(merged: Merger) -> None:
    lines = [conv("a", "data", 6), conv("b", "data", 4), "k: Concat a b -> k", "r: ReLU k -> k",
             "s: Slice k -> s t { slice_param { slice_point: 5 } }",
             conv("c", "s", 4, "kernel_size: 2"), conv("d", "t", 4, "kernel_size: 2")]  # fmt: skip
    layer_weights = {"a": weights(A, dead=[1, 5]), "b": weights((4, 3, 3, 3), dead=[0, 3])}
    result = merged(IN, *lines, weights=layer_weights, only=ONLY)
    assert [sizes(result)[name][:2] for name in "abcd"] == [[4, 3], [2, 3], [4, 4], [4, 2]]
    assert result.layer("s").param.slice_param.slice_point == [4]


@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX"])
def test_eltwise_where_all_agree(merged: Merger, operation: str) -> None:
    lines = [conv("a", "data", 6), conv("b", "data", 6), conv("c", "e", 4), "r: ReLU e -> e"]
    lines.insert(2, f"e: Eltwise a b -> e {{ eltwise_param {{ operation: {operation} }} }}")
    lines.append(lines.pop(3))
    layer_weights = {"a": weights(A, dead=[1, 4]), "b": weights(A, dead=[2, 4])}
    result = merged(IN, *lines, weights=layer_weights, only=ONLY)
    assert [sizes(result)[name][:2] for name in "abc"] == [[5, 3], [5, 3], [4, 5]]


def test_one_channel_stays_of_each_blob(merged: Merger) -> None:
    layer_weights = {"a": weights(A, dead=range(6))}
    lines = [conv("a", "data", 6), "r: ReLU a -> r", conv("b", "r", 4)]
    assert sizes(merged(IN, *lines, weights=layer_weights, only=ONLY)) == {
        "a": [1, 3, 3, 3], "b": [4, 1, 3, 3],
    }  # fmt: skip


def test_a_reader_without_bias_gets_one_for_a_constant(merged: Merger) -> None:
    layer_weights = {"a": weights(A, dead=[2], bias=0.7)}
    lines = [conv("a", "data", 6), conv("b", "a", 4, "kernel_size: 2 bias_term: false")]
    result = merged(IN, *lines, weights=layer_weights, only=ONLY)
    assert [blob.shape for blob in result.blobs("b")] == [(4, 5, 2, 2), (4,)]


def test_blobs_whose_channels_went_have_names_of_their_own(merged: Merger) -> None:
    layer_weights = {"a": weights(A, dead=[2])}
    result = merged(
        IN, conv("a", "data", 6), "r: ReLU a -> r", conv("b", "r", 4), weights=layer_weights
    )
    tops = [top for layer in result.after.layers for top in layer.param.top]
    assert {"a", "r"}.isdisjoint(tops)
    assert tops[-1] == "b"
    (change,) = result.report.changes
    assert change.note == "1 channel of 'a' left out"


def test_once_folds_have_made_zeros(merged: Merger) -> None:
    """A Scale of 0 behind a BatchNorm, as pruning by its size leaves it."""
    scale = np.array([0.5, 0, 1.2, 0, 0.3, 0.1])
    lines = [conv("a", "data", 6), "n: BatchNorm a -> a",
             "s: Scale a -> a { scale_param { bias_term: true } }", "r: ReLU a -> a",
             conv("b", "a", 4, "kernel_size: 3 pad: 1")]  # fmt: skip
    result = merged(IN, *lines, weights={"s": [scale, np.full(6, -0.2)]})
    assert sizes(result) == {"a": [4, 3, 3, 3], "b": [4, 4, 3, 3]}


DEAD = {"a": weights(A, dead=[2], bias=0.7)}
REFUSED: Dict[str, List[str]] = {
    "it pads with 0": ["r: ReLU a -> r", conv("b", "r", 4, "kernel_size: 3 pad: 1")],
    "the net output 'a'": [],
    "Softmax 's' needs or makes all": ["s: Softmax a -> s"],
    "Convolution 'b' needs or makes all": [conv("b", "a", 4, "kernel_size: 1 group: 2")],
    "Deconvolution 'b' reads them: not all": [
        "b: Deconvolution a -> b { convolution_param { num_output: 3 kernel_size: 2 } }"],
    "Eltwise": ["e: Eltwise a data6 -> e", conv("b", "e", 4)],
    "fork": ["p: Pooling a -> p { pooling_param { kernel_size: 2 odd: 3 } }", conv("b", "p", 4)],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_a_constant_that_stays(merged: Merger, reason: str) -> None:
    lines = [IN, conv("a", "data", 6)]
    if reason == "Eltwise":
        lines += [conv("data6", "data", 6)]
    pattern = {"Eltwise": "they are not all 0", "fork": "Pooling 'p' needs"}.get(reason, reason)
    layer_weights = {**DEAD, **({"b": weights((4, 6, 3, 3))} if reason == "fork" else {})}
    result = merged(*lines, *REFUSED[reason], weights=layer_weights, only=ONLY)
    result.refused("a", f"it makes 1 constant channel: .*{pattern}")


def test_a_layer_without_tops_is_a_reader_like_any_other(merged: Merger) -> None:
    lines = [conv("a", "data", 6), "r: ReLU a -> y", conv("b", "y", 4), "quiet: Silence b -> "]
    result = merged(IN, *lines, "end: TanH b -> end", weights={"a": weights(A, dead=[1, 4])})
    assert sizes(result) == {"a": [4, 3, 3, 3], "b": [4, 4, 3, 3]}


def test_of_a_net_input_all_channels_stay(merged: Merger) -> None:
    result = merged(IN, conv("a", "data", 4), weights={"a": weights((4, 3, 3, 3), unread=[1])})
    result.refused("a", "could do without 1 channel of its bottom: they are those of a net input")


def test_shared_weights_stay(merged: Merger) -> None:
    lines = [f"{name}: Convolution data -> {name} {{ param {{ name: 'w' }} convolution_param {{ "
             "num_output: 6 kernel_size: 3 } }" for name in "ab"]  # fmt: skip
    readers = [conv("c", "a", 4), conv("d", "b", 4)]
    layer_weights = {"a": weights(A, dead=[2]), "b": weights(A, dead=[2])}
    result = merged(IN, *lines, *readers, weights=layer_weights, only=ONLY)
    result.refused("a", "shares its weights with 'b'")


@pytest.mark.parametrize("kept", ["a", "r", "b"])
def test_kept_as_asked(merged: Merger, kept: str) -> None:
    lines = [conv("a", "data", 6), "r: ReLU a -> r", conv("b", "r", 4)]
    layer_weights = {"a": weights(A, dead=[2])}
    assert merged(IN, *lines, weights=layer_weights, only=ONLY, keep=[kept]).report.changes == []


def test_rounding_that_a_curve_makes_more_of(merged: Merger) -> None:
    """The norm's fold rounds large weights: behind Sigmoid that shows, with or without channels."""
    kernel, bias = weights((60, 3, 3, 3))
    lines = [conv("a", "data", 60), "n: BatchNorm a -> n", "s: Sigmoid n -> s",
             conv("b", "s", 5, "kernel_size: 1"), "t: ReLU b -> t"]  # fmt: skip
    blobs = {
        "a": [500 * kernel, bias],
        "n": [np.zeros(60), np.full(60, 0.7), np.ones(1)],
        "b": weights((5, 60, 1, 1), unread=[2]),
    }
    result = merged(IN, *lines, weights=blobs)
    assert sizes(result) == {"a": [59, 3, 3, 3], "b": [5, 59, 1, 1]}

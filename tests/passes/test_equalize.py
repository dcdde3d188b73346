"""equalize: it fires through what hands multipliers on, stops at the rest, and outputs stay."""

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from tests.merger import Merged, Merger
from tests.nets import Weights, prototxt, seeded

IN = "data 2 6 9 11"


def conv(name: str, bottom: str, outputs: int, more: str = "") -> str:
    body = f"num_output: {outputs} kernel_size: 3 pad: 1 {more}"
    return f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {body} }} }}"


def fc(name: str, bottom: str, outputs: int, more: str = "") -> str:
    body = f"inner_product_param {{ num_output: {outputs} {more} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"


FIRST, RELU = conv("a", "data", 8), "r: ReLU a -> a"
LAST = conv("z", "a", 5)

FIRES: Dict[str, List[str]] = {
    "relu": [FIRST, RELU, LAST],
    "not_in_place": [FIRST, "r: ReLU a -> b", conv("z", "b", 5)],
    "leaky": [FIRST, "r: ReLU a -> a { relu_param { negative_slope: 0.2 } }", LAST],
    "prelu": [FIRST, "r: PReLU a -> a", LAST],
    "no_bias": [conv("a", "data", 8, "bias_term: false"), RELU, LAST],
    "maximum": [FIRST, RELU, "p: Pooling a -> p { pooling_param { kernel_size: 3 stride: 2 } }",
                conv("z", "p", 5)],
    "mean": [FIRST, "p: Pooling a -> p { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }",
             RELU.replace("a", "p"), conv("z", "p", 5)],
    "depthwise": [FIRST, RELU, conv("d", "a", 8, "group: 8"), "s: ReLU d -> d", conv("z", "d", 5)],
    "grouped": [FIRST, RELU, conv("g", "a", 12, "group: 4"), "s: ReLU g -> g",
                conv("z", "g", 6, "group: 2")],
    "deconvolution": [FIRST, RELU, "d: Deconvolution a -> d { convolution_param { num_output: 6 "
                      "kernel_size: 4 stride: 2 group: 2 } }", "s: ReLU d -> d",
                      conv("z", "d", 5)],
    "product": [FIRST, RELU, fc("f", "a", 7), "s: ReLU f -> f", fc("z", "f", 3)],
    "transposed": [FIRST, RELU, fc("f", "a", 7, "transpose: true"), "s: ReLU f -> f",
                   fc("z", "f", 3, "transpose: true bias_term: false")],
    "flatten": [FIRST, RELU, "f: Flatten a -> f", fc("z", "f", 3)],
    "concat": [FIRST, RELU, conv("b", "data", 4), "s: ReLU b -> b", "c: Concat a b -> c",
               conv("z", "c", 5)],
    "concat_with_what_stays": [FIRST, RELU, "c: Concat data a -> c", conv("z", "c", 5)],
    "slice": [FIRST, RELU, "s: Slice a -> b c { slice_param { slice_point: 3 } }",
              conv("y", "b", 4), conv("z", "c", 5)],
    "branches": [FIRST, RELU, conv("y", "a", 4), LAST],
    "residual": [FIRST, RELU, conv("b", "a", 7), "s: ReLU b -> b", conv("c", "b", 8),
                 "sum: Eltwise a c -> sum", "t: ReLU sum -> sum", conv("z", "sum", 5)],
    "coefficients": [FIRST, conv("b", "data", 8), "sum: Eltwise a b -> sum { eltwise_param { "
                     "coeff: 1 coeff: -0.5 } }", "t: ReLU sum -> sum", conv("z", "sum", 5)],
    "largest": [FIRST, conv("b", "data", 8), "m: Eltwise a b -> m { eltwise_param { "
                "operation: MAX } }", conv("z", "m", 5)],
    "scale": [FIRST, RELU, "n: Scale a -> n { scale_param { bias_term: true } }",
              conv("z", "n", 5)],
    "bias": [FIRST, RELU, "n: Bias a -> n", conv("z", "n", 5)],
    "power": [FIRST, RELU, "n: Power a -> n { power_param { shift: 0.7 scale: 2 } }",
              conv("z", "n", 5)],
}  # fmt: skip


def skewed(lines: List[str], seed: int = 0) -> Weights:
    """Seeded weights whose channels are far apart, those made and those read."""
    random = np.random.default_rng(seed)
    weights = seeded(prototxt(*lines), seed)
    for blobs in weights.values():
        if blobs and blobs[0].ndim > 1:
            for axis in (0, 1):
                shape = [-1 if number == axis else 1 for number in range(blobs[0].ndim)]
                factors = np.exp(1.2 * random.standard_normal(blobs[0].shape[axis]))
                blobs[0] = blobs[0] * factors.reshape(shape)
    return weights


def parts(result: Merged, maker: str, reader: str) -> Tuple[Any, Any]:
    """Ranges of the channels that one makes and the other reads, as parts of the largest."""
    produced = np.abs(result.blobs(maker)[0]).max(axis=(1, 2, 3))
    read = np.abs(result.blobs(reader)[0]).max(axis=(0, 2, 3))
    return produced / produced.max(), read / read.max()


def rescaled(result: Merged) -> List[str]:
    return [name for change in result.report.changes if change.rewrite == "equalize"
            for name in change.changed]  # fmt: skip


@pytest.mark.parametrize("name", FIRES)
def test_it_fires(merged: Merger, name: str) -> None:
    """The outputs are what they were, in float64 and in real Caffe."""
    lines = [IN, *FIRES[name]]
    result = merged(*lines, weights=skewed(lines), equalize=True)
    assert {"z"} < {*rescaled(result)}


def test_the_ranges_come_together(merged: Merger) -> None:
    """What is made and what is read have the same ranges, each as parts of its layer's largest."""
    lines = [IN, FIRST, RELU, LAST]
    result, read = parts(merged(*lines, weights=skewed(lines)), "a", "z")
    product = result * read
    result, read = parts(merged(*lines, weights=skewed(lines), equalize=True), "a", "z")
    assert result == pytest.approx(read, rel=0.05)
    assert (result * read).sum() == pytest.approx((product / product.max()).sum(), rel=0.1)
    assert (result * read).sum() > product.sum() * 1.2


def test_off_by_default_and_on_by_its_name(merged: Merger) -> None:
    lines = [IN, FIRST, RELU, LAST]
    assert rescaled(merged(*lines, weights=skewed(lines))) == []
    assert rescaled(merged(*lines, weights=skewed(lines), only=["equalize"])) == ["a", "z"]


def test_behind_a_fold(merged: Merger) -> None:
    """The ranges are those of the merged layers."""
    lines = [IN, FIRST, "n: BatchNorm a -> a", "m: Scale a -> a", RELU, LAST]
    weights = skewed(lines)
    weights["m"] = [np.exp(2 * np.random.default_rng(1).standard_normal(8))]
    result = merged(*lines, weights=weights, equalize=True)
    assert result.names == ["a", "r", "z"]
    produced, read = parts(result, "a", "z")
    assert produced == pytest.approx(read, rel=0.05)


def test_blobs_that_change_get_new_names(merged: Merger) -> None:
    lines = [IN, FIRST, "r: ReLU a -> b", conv("z", "b", 5)]
    result = merged(*lines, weights=skewed(lines), equalize=True)
    tops = [top for layer in result.after.layers for top in layer.param.top]
    assert tops == ["data", "a_merged", "r_merged", "z"]


def test_what_is_equal_stays(merged: Merger) -> None:
    weights = {"a": [np.ones((8, 6, 3, 3)), np.ones(8)], "z": [np.ones((5, 8, 3, 3)), np.ones(5)]}
    assert rescaled(merged(IN, FIRST, RELU, LAST, weights=weights, equalize=True)) == []


def test_channels_that_stay(merged: Merger) -> None:
    """A dead one, one that nobody reads, and one that is nearly its bias."""
    lines = [IN, FIRST, RELU, LAST]
    weights = skewed(lines)
    weights["a"][0][1] = 0
    weights["z"][0][:, 2] = 0
    weights["a"][1][3] = 100 * np.abs(weights["a"][0][3]).max()
    result = merged(*lines, weights=weights, equalize=True, skip=["drop-dead-channels"])
    old, new = (next(layer for layer in net.layers if layer.name == "a").blobs[0].float64()
                for net in (result.before, result.after))  # fmt: skip
    same = [channel for channel in range(8) if (old[channel] == new[channel]).all()]
    assert {1, 2, 3} <= {*same}
    assert len(same) < 6


STOPPED: Dict[str, Tuple[List[str], str]] = {
    "relu6": (["r: ReLU6 a -> a", LAST], "ReLU6 'r' reads it: a multiplier does not go through"),
    "clip": (["r: Clip a -> a { clip_param { min: 0 max: 6 } }", LAST], "Clip 'r' reads it"),
    "sigmoid": (["r: Sigmoid a -> a", LAST], "Sigmoid 'r' reads it: a multiplier does not"),
    "output": ([], "'a' is a net output"),
    "output_behind": ([RELU], "'a' is a net output"),
    "another_reader": ([RELU, LAST, "t: TanH a -> t"], "TanH 't' reads it"),
    "product": ([conv("b", "data", 6), "m: Eltwise a b -> m { eltwise_param { operation: PROD } }",
                 conv("z", "m", 5)], "Eltwise 'm' reads it: a multiplier does not go through"),
    "joined_with_the_input": (["t: TanH data -> t", "e: Eltwise a t -> e", conv("z", "e", 5)],
                              "Eltwise 'e' joins it with what stays"),
    "two_bottoms": (["t: TanH data -> t", "m: Scale a t -> m { scale_param { axis: 0 } }",
                     conv("z", "m", 5)], "its factor is another blob"),
    "lrn": (["n: LRN a -> n", conv("z", "n", 5)], "LRN 'n' reads it"),
    "another_axis": ([fc("z", "a", 5, "axis: 2")], "its axis is 2, not 1"),
    "two_pooled": (["p: Pooling a -> p m { pooling_param { kernel_size: 2 } }",
                    conv("z", "p", 5), conv("y", "m", 2)], "only one mean or maximum"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_it_stops(merged: Merger, name: str) -> None:
    """The layer before it keeps its weights, and why is told."""
    behind, reason = STOPPED[name]
    lines = [IN, conv("a", "data", 6), *behind]
    result = merged(*lines, weights=skewed(lines), equalize=True, serial="never")
    result.refused("a", reason)


def test_what_the_user_keeps_stays(merged: Merger) -> None:
    lines = [IN, FIRST, RELU, LAST]
    for layer, reason in (("a", "kept as asked"), ("z", "Convolution 'z' reads it: .*kept as"),
                          ("r", "ReLU 'r' reads it: .*kept as asked")):  # fmt: skip
        result = merged(*lines, weights=skewed(lines), equalize=True, keep=[layer])
        result.refused("a", reason)
        assert rescaled(result) == []


def test_shared_weights_stay(merged: Merger) -> None:
    first, second = (conv(name, bottom, 6)[:-1] + 'param { name: "w" } }'
                     for name, bottom in (("a", "data"), ("b", "a")))  # fmt: skip
    lines = [IN, first, RELU, second, "s: ReLU b -> b", conv("z", "b", 5)]
    weights = skewed(lines)
    weights["b"][0] = weights["a"][0]
    result = merged(*lines, weights=weights, equalize=True)
    result.refused("a", "shares its weights with 'b'")
    assert rescaled(result) == []


def test_what_nobody_knows_the_size_of_stays(merged: Merger) -> None:
    """Behind a window of a fork no shape is known, and a layer that does not fit is told."""
    pool = "p: Pooling a -> p { pooling_param { kernel_size: 3 unheard: 1 } }"
    lines = [IN, FIRST, pool, fc("z", "p", 3)]
    weights = {**skewed([IN, FIRST]), "z": [np.ones((3, 20)), np.ones(3)]}
    merged(*lines, weights=weights, equalize=True).refused("a", "Pooling 'p' reads it: .*unheard")

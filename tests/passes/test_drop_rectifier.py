"""drop-rectifier: what is never negative needs no ReLU, and what may be keeps it."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger

IN = ["data 2 4 7 6"]
CONV = "c: Convolution data -> c { convolution_param { num_output: 5 kernel_size: 3 } }"
OTHER = CONV.replace("c: ", "d: ").replace("-> c", "-> d")
END = "end: TanH y -> end"
RELU = "r: ReLU {} -> y"

# What stands before the ReLU, whose last top is x.
NEVER: Dict[str, List[str]] = {
    "relu": ["a: ReLU c -> x"],
    "relu in place": ["a: ReLU c -> c", "q: Dropout c -> c", "b: Split c -> x"],
    "slope below 0": ["a: ReLU c -> x { relu_param { negative_slope: -0.5 } }"],
    "sigmoid": ["a: Sigmoid c -> x"],
    "softmax": ["a: Softmax c -> x"],
    "abs": ["a: AbsVal c -> x"],
    "exp": ["a: Exp c -> x { exp_param { base: 2 scale: -0.5 shift: -3 } }"],
    "bnll": ["a: BNLL c -> x"],
    "threshold": ["a: Threshold c -> x { threshold_param { threshold: -0.1 } }"],
    "square": ["a: Power c -> x { power_param { power: 2 scale: -0.5 shift: 0.1 } }"],
    "root": ["a: ReLU c -> a", "p: Power a -> x { power_param { power: 0.5 shift: 1 } }"],
    "leaky behind": ["a: ReLU c -> a", "b: TanH a -> b", "s: Swish b -> x"],
    "maximum": ["a: ReLU c -> a",
                "p: Pooling a -> x { pooling_param { kernel_size: 3 stride: 2 pad: 1 } }"],
    "mean": ["a: Sigmoid c -> a",
             "p: Pooling a -> x { pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }"],
    "lrn": ["a: ReLU c -> a", "n: LRN a -> x"],
    "sum": ["a: ReLU c -> a", "b: Sigmoid d -> b",
            "s: Eltwise a b -> x { eltwise_param { coeff: 2 coeff: 0.5 } }"],
    "product": ["a: ReLU c -> a", "b: Sigmoid d -> b",
                "s: Eltwise a b -> x { eltwise_param { operation: PROD } }"],
    "larger of two": ["a: TanH c -> a", "b: ReLU d -> b",
                      "s: Eltwise a b -> x { eltwise_param { operation: MAX } }"],
    "concat": ["a: ReLU c -> a", "b: Sigmoid d -> b", "s: Concat a b -> x"],
    "slice": ["a: ReLU c -> a", "s: Slice a -> x x2 { slice_param { slice_point: 2 } }"],
    "moved": ["a: ReLU c -> a", "t: Tile a -> t { tile_param { axis: 2 tiles: 2 } }",
              "k: Crop t d -> k { crop_param { axis: 2 offset: 1 offset: 0 } }",
              "f: Flatten k -> x"],
    "other factor": ["a: ReLU c -> a", "b: Sigmoid d -> b",
                     "s: Scale a b -> x { scale_param { axis: 0 } }"],
    "relu6": ["a: ReLU6 c -> x"],
    "clip": ["a: Clip c -> x { clip_param { min: 0 max: 2 } }"],
    "permute": ["a: ReLU c -> a", "p: Permute a -> x { permute_param { order: 0 order: 2 } }"],
    "interp": ["a: ReLU c -> a", "p: Interp a -> x { interp_param { height: 8 width: 9 } }"],
}  # fmt: skip
MAY_BE: Dict[str, List[str]] = {
    "leaky": ["a: ReLU c -> x { relu_param { negative_slope: 0.1 } }"],
    "prelu": ["a: PReLU c -> x"],
    "cube": ["a: Power c -> x { power_param { power: 3 } }"],
    "shifted": ["a: ReLU c -> a", "p: Power a -> x { power_param { power: 3 shift: -0.1 } }"],
    "a window of nothing": ["a: ReLU c -> a",
                            "p: Pooling a -> x { pooling_param { kernel_size: 2 stride: 3 } }"],
    "difference": ["a: ReLU c -> a", "b: Sigmoid d -> b",
                   "s: Eltwise a b -> x { eltwise_param { coeff: 1 coeff: -1 } }"],
    "half a sum": ["a: ReLU c -> a", "s: Eltwise a d -> x"],
    "half a concat": ["a: ReLU c -> a", "s: Concat a d -> x"],
    "log": ["a: Sigmoid c -> a", "l: Log a -> x"],
    "net input": ["s: Split c -> x"],
    "clip": ["a: Clip c -> x { clip_param { min: -1 max: 2 } }"],
}  # fmt: skip


def net(lines: List[str], relu: str = RELU) -> List[str]:
    return [*IN, CONV, OTHER, *lines, relu.replace("{}", "x"), END]


@pytest.mark.parametrize("name", NEVER)
def test_goes(merged: Merger, name: str) -> None:
    result = merged(*net(NEVER[name]), only=["drop-rectifier"])
    (change,) = result.report.changes
    assert (change.removed, change.changed) == (("r",), ())
    assert "r" not in result.names
    assert "is never negative" in change.note


@pytest.mark.parametrize("name", MAY_BE)
def test_stays(merged: Merger, name: str) -> None:
    result = merged(*net(MAY_BE[name]), only=["drop-rectifier"])
    assert not result.report.changes
    assert "r" in result.names


@pytest.mark.parametrize(
    "relu",
    [
        "r: ReLU x -> y { relu_param { negative_slope: 0.3 } }",
        "r: PReLU x -> y",
        "r: ELU x -> y",
        "r: AbsVal x -> y",
    ],
)
def test_its_likes_go_too(merged: Merger, relu: str) -> None:
    result = merged(*net(NEVER["relu"], relu), only=["drop-rectifier"])
    assert result.names == ["c", "d", "a", "end"]


@pytest.mark.parametrize(("kind", "bias", "goes"), [
    ("Scale", [0.5] * 5, True), ("Scale", [-0.1] * 5, False), ("Bias", None, True),
])  # fmt: skip
def test_maps_per_channel_by_their_values(
    merged: Merger, kind: str, bias: "list[float] | None", goes: bool
) -> None:
    blobs = [np.arange(5.0), np.array(bias)] if bias else [np.arange(5.0)]
    lines = ["a: ReLU c -> a", f"s: {kind} a -> x"]
    lines[1] += " { scale_param { bias_term: true } }" if bias else ""
    result = merged(*net(lines), weights={"s": blobs}, only=["drop-rectifier"])
    assert ("r" in result.names) != goes


def test_prelu_by_its_slopes(merged: Merger) -> None:
    for slopes, goes in (([-0.5, 0, 0, -1, 0], True), ([-0.5, 0, 0, 0.1, 0], False)):
        weights = {"a": [np.array(slopes)]}
        result = merged(*net(["a: PReLU c -> x"]), weights=weights, only=["drop-rectifier"])
        assert ("r" in result.names) != goes


def test_in_place_and_several_in_a_row(merged: Merger) -> None:
    lines = [f"r{n}: ReLU c -> c" for n in range(4)]
    assert merged(*IN, CONV, *lines, "end: TanH c -> end").names == ["c", "r0", "end"]


def test_what_is_read_by_others_too(merged: Merger) -> None:
    lines = ["a: ReLU c -> a", "r: ReLU a -> y", "b: Sigmoid a -> b", "e: Sigmoid y -> e"]
    assert merged(*IN, CONV, *lines).names == ["c", "a", "b", "e"]


def test_a_net_output_keeps_its_name(merged: Merger) -> None:
    result = merged(*IN, CONV, "a: ReLU c -> a", "r: ReLU a -> y")
    assert result.names == ["c", "a"]
    assert result.layer("a").param.top == ["y"]


REFUSED = {
    "its name": ["a: ReLU c -> a", "r: ReLU a -> y", "b: TanH a -> b"],
    "kept as asked": NEVER["relu"] + [RELU.format("x"), END],
    "a fork's field": [*NEVER["relu"], "r: ReLU x -> y { relu_param { odd: 1 } }", END],
    "more than 64": ["a: ReLU c -> a",
                     *(f"f{n}: TanH {'a' if not n else f'f{n - 1}'} -> f{n}" for n in range(70)),
                     RELU.format("f69"), END],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    keep = ["r"] if reason == "kept as asked" else []
    pattern = reason.replace("its name", "would have readers")
    merged(*IN, CONV, *REFUSED[reason], keep=keep, only=["drop-rectifier"]).refused("r", pattern)


def test_slopes_that_are_shared(merged: Merger) -> None:
    body = "{ param { name: 'slope' } }"
    lines = ["a: ReLU c -> a", f"p: PReLU a -> y {body}", f"q: PReLU d -> e {body}", END]
    weights = {"p": [np.full(5, 0.25)], "q": [np.full(5, 0.25)]}
    result = merged(*IN, CONV, OTHER, *lines, weights=weights, only=["drop-rectifier"])
    assert result.names == ["c", "d", "a", "q", "end"]

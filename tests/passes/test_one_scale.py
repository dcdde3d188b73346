"""one-scale: what cannot be folded backwards becomes one Scale, and BatchNorm is gone."""

from typing import List

import numpy as np
import pytest

from tests.merger import Merger

BODY = "{ scale_param { bias_term: true } }"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }"
PAIR = ["bn: BatchNorm x -> b", f"scale: Scale b -> b {BODY}"]

# The layers before a BatchNorm + Scale on blob x, and the reason given.
FEEDING = {
    "net_input": (["x 2 6 5 4"], "'x' is a net input"),
    "concat": (["data 2 6 5 4", "cat: Concat data data -> x"], "fed by 'cat', a Concat"),
    "eltwise": (["data 2 6 5 4", "sum: Eltwise data data -> x"], "fed by 'sum', an Eltwise"),
    "pooling": (["data 2 6 5 4", "pool: Pooling data -> x { pooling_param { kernel_size: 2 } }"],
                "fed by 'pool', a Pooling"),
    "activation": (["data 2 5 8 7", CONV, "relu: ReLU conv -> x"], "fed by 'relu', a ReLU"),
    "activation_in_place": (["data 2 5 8 7", CONV.replace("-> conv", "-> x"), "relu: ReLU x -> x"],
                            "fed by 'relu', a ReLU"),
    "reader": (["data 2 5 8 7", CONV.replace("-> conv", "-> x"), "tanh: TanH x -> t"],
               "the output of layer 'conv' is read by 'tanh' as well"),
    "split": (["data 2 5 8 7", CONV, "split: Split conv -> x y", "tanh: TanH y -> t"],
              "is read by 'tanh' as well"),
    "split_output": (["data 2 5 8 7", CONV, "split: Split conv -> x y"], "fed by 'split', a Split"),
    "flat": (["x 3 6"], "'x' is a net input"),
    "volume": (["x 2 6 3 4 2"], "'x' is a net input"),
    "one_channel": (["x 2 1 3 4"], "'x' is a net input"),
    "many_channels": (["x 1 40 3 4"], "'x' is a net input"),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDING)
def test_batch_norm_and_scale(merged: Merger, name: str) -> None:
    """BatchNorm and Scale become one Scale, and the reason why not less is told."""
    lines, reason = FEEDING[name]
    result = merged(*lines, *PAIR, "out: TanH b -> out")
    assert "bn" not in result.names
    assert result.layer("scale").type == "Scale"
    assert result.fate("bn").fate == "gone"
    assert result.fate("bn").detail.startswith("merged into Scale 'scale': ")
    assert reason in result.fate("bn").detail
    assert result.fate("scale").detail.startswith("took in 'bn': ")


RUNS = {
    "bn": ["bn: BatchNorm x -> t"],
    "bn_in_place": ["bn: BatchNorm x -> x", "p: Power x -> x", "id: TanH x -> t"],
    "bn_eps": ["bn: BatchNorm x -> t { batch_norm_param { eps: 0.01 } }"],
    "scale_without_bias": ["bn: BatchNorm x -> b", "s: Scale b -> t"],
    "scale_first": [f"s: Scale x -> s {BODY}", "bn: BatchNorm s -> t"],
    "scale_bias": ["s: Scale x -> s", "b: Bias s -> t"],
    "bias_power": ["b: Bias x -> b", "p: Power b -> t { power_param { scale: -3 shift: 1 } }"],
    "two_scales": [f"s: Scale x -> s {BODY}", f"s2: Scale s -> t {BODY}"],
    "two_powers": ["p: Power x -> p { power_param { scale: 2 } }",
                   "p2: Power p -> t { power_param { shift: -1.5 } }"],
    "scalar_scale": ["bn: BatchNorm x -> b",
                     "s: Scale b -> t { scale_param { num_axes: 0 bias_term: true } }"],
    "scalar_pair": ["s: Scale x -> s { scale_param { num_axes: 0 } }",
                    "s2: Scale s -> t { scale_param { num_axes: 0 bias_term: true } }"],
    "scale_from_end": ["bn: BatchNorm x -> b", "s: Scale b -> t { scale_param { axis: -3 } }"],
    "along_height": ["b: Bias x -> b { bias_param { axis: 2 } }",
                     "p: Power b -> t { power_param { scale: 2 } }"],
    "along_width": ["p: Power x -> p { power_param { scale: 2 } }",
                    "s: Scale p -> t { scale_param { axis: -1 } }"],
    "long": ["bn: BatchNorm x -> x", f"s: Scale x -> y {BODY}", "b: Bias y -> y",
             "p: Power y -> z { power_param { scale: 0.5 shift: 2 } }", "bn2: BatchNorm z -> z",
             "s2: Scale z -> t"],
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_any_run_becomes_one_scale(merged: Merger, name: str) -> None:
    """Whatever the run, one Scale is left."""
    result = merged("data 2 6 5 4", "cat: Concat data data -> x", *RUNS[name], "end: ELU t -> out")
    left = [layer for layer in result.after.layers if layer.type not in ("Input", "Concat", "ELU")]
    assert [layer.type for layer in left if layer.type != "TanH"] == ["Scale"]


# In place and not, mixed in every way: no name may come to hold another value than before.
NAMES = ["x x x", "b b b", "x b b", "x x b", "b b c", "x b c", "b c c", "b c d"]


@pytest.mark.parametrize("after", ["out: TanH {0} -> {0}", "out: TanH {0} -> out", ""])
@pytest.mark.parametrize("feeding", ["input", "concat", "in_place", "in_place_on_input"])
@pytest.mark.parametrize("names", NAMES)
def test_names(merged: Merger, names: str, feeding: str, after: str) -> None:
    """Names mean what they meant: the shared check compares every name that both nets have."""
    first = {
        "input": ["x 2 6 5 4"],
        "concat": ["data 2 6 5 4", "cat: Concat data data -> x"],
        "in_place": ["data 2 6 5 4", "cat: Concat data data -> x", "relu: ReLU x -> x"],
        "in_place_on_input": ["x 2 6 5 4", "relu: ReLU x -> x"],
    }[feeding]
    single, two, three = names.split()
    result = merged(
        *first,
        f"bn: BatchNorm x -> {single}",
        f"scale: Scale {single} -> {two}",
        f"bias: Bias {two} -> {three}",
        *([after.format(three)] if after else []),
    )
    kinds = [layer.type for layer in result.after.layers]
    assert "BatchNorm" not in kinds
    # The input keeps what came in; what another layer wrote over it holds the next to its name.
    held = feeding == "in_place_on_input" and single == "x" and three != "x"
    assert sum(kind in ("Scale", "Bias") for kind in kinds) == (2 if held else 1)


def test_memory_that_others_see(merged: Merger) -> None:
    """What is written in place behind a Flatten is seen by other readers of what it flattens."""
    result = merged(
        "data 2 6 5 4", "cat: Concat data data -> c", "flat: Flatten c -> x",
        "bn: BatchNorm x -> x", "scale: Scale x -> s", "other: TanH c -> other",
    )  # fmt: skip
    assert result.names == ["cat", "flat", "bn", "scale", "other"]
    assert result.layer("bn").type == "Scale"


def test_memory_that_others_read_meanwhile(merged: Merger) -> None:
    """Between two writes in place somebody reads the same memory: the two stay two."""
    lines = ["bn: BatchNorm x -> x", "between: TanH c -> between", "scale: Scale x -> x"]
    flat = ["data 2 6 5 4", "cat: Concat data data -> c", "flat: Flatten c -> x"]
    assert len(merged(*flat, *lines).names) == 5
    assert merged(*flat, lines[0], lines[2]).names == ["cat", "flat", "scale"]


def test_a_run_behind_a_run_that_was_renamed(merged: Merger) -> None:
    """A rewrite made earlier in the same pass renames the bottom of one found before that."""
    result = merged(
        "data 2 6 5 4",
        "pool: Pooling data -> x { pooling_param { kernel_size: 2 } }",
        "bn: BatchNorm x -> x",
        "power: Power x -> p { power_param { scale: 2 } }",
        "bn2: BatchNorm p -> q",
        "tanh: TanH p -> t",
    )
    assert [layer.type for layer in result.after.layers[2:]] == ["Scale", "Scale", "TanH"]


def test_nothing_between_keeps_two_apart(merged: Merger) -> None:
    """Maps along different axes, or with another reader between, are not one Scale."""
    height = "h: Scale b -> h { scale_param { axis: 2 } }"
    assert merged("x 2 6 5 4", "bn: BatchNorm x -> b", height).names == ["bn", "h"]
    lines = ["x 2 6 5 4", "bn: BatchNorm x -> b", f"s: Scale b -> s {BODY}", "t: TanH b -> t"]
    assert merged(*lines).names == ["bn", "s", "t"]


def test_equal_sizes_on_different_axes(merged: Merger) -> None:
    """C == H: vectors of the same length are still along different axes."""
    result = merged(
        "x 2 6 6 4", "bn: BatchNorm x -> b", "s: Scale b -> s { scale_param { axis: 2 } }"
    )
    assert [result.layer(name).type for name in ("bn", "s")] == ["Scale", "Scale"]


def test_a_lone_scale_stays(merged: Merger) -> None:
    """One multiply-add already: not a byte of it changes."""
    result = merged("x 2 6 5 4", f"scale: Scale x -> out {BODY}")
    assert not result.report.changes
    result.refused("scale", "net input")


def test_batch_norm_becomes_a_scale(merged: Merger) -> None:
    """Its own parameters and param specs go; the values are those of the formula."""
    result = merged(
        "x 2 2 5 4",
        "bn: BatchNorm x -> out { param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } "
        "batch_norm_param { eps: 0.5 use_global_stats: true } }",
        weights={"bn": [np.array([4, -8.0]), np.array([1, 30.0]), np.array([4.0])]},
    )
    layer = result.layer("bn")
    assert layer.type == "Scale"
    assert not layer.param.param
    assert not layer.param.HasField("batch_norm_param")
    scale = 1 / np.sqrt(np.array([1, 30]) / 4 + 0.5)
    np.testing.assert_array_equal(result.blobs("bn")[0], scale.astype(np.float32))
    np.testing.assert_array_equal(
        result.blobs("bn")[1], (np.array([-1, 2]) * scale).astype(np.float32)
    )
    why = "its bottom 'x' is a net input; forwards: 'out' is a net output"
    assert result.fate("bn")[2:] == ("changed", f"became a Scale: {why}")


def test_no_bias_where_none_is_needed(merged: Merger) -> None:
    """A BatchNorm of mean 0 becomes a Scale without bias_term."""
    zero = [np.zeros(6), np.ones(6), np.ones(1)]
    result = merged("x 2 6 5 4", "bn: BatchNorm x -> out", weights={"bn": zero})
    assert len(result.blobs("bn")) == 1
    assert "bias_term" not in result.text


def test_a_shared_scale_stays_whole(merged: Merger) -> None:
    """Scales that share weights: the BatchNorms beside them take the map, they keep theirs."""
    share = "{ param { name: 'w' } param { name: 'v' } scale_param { bias_term: true } }"
    lines: List[str] = ["x 2 6 5 4", "y 2 6 5 4"]
    for name in ("x", "y"):
        lines += [f"bn_{name}: BatchNorm {name} -> b_{name}",
                  f"scale_{name}: Scale b_{name} -> s_{name} {share}"]  # fmt: skip
    values = [np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6)]
    result = merged(*lines, weights={"scale_x": values, "scale_y": values})
    assert result.names == ["bn_x", "bn_y"]
    assert {result.layer(name).type for name in result.names} == {"Scale"}


def test_two_shared_scales_alone(merged: Merger) -> None:
    """Two Scales that share their weights with each other alone: one is left, with both maps."""
    share = "{ param { name: 'w' } }"
    values = [np.linspace(0.5, 2, 6)]
    result = merged("x 2 6 5 4", f"a: Scale x -> a {share}", f"b: Scale a -> b {share}",
                    weights={"a": values, "b": values})  # fmt: skip
    assert result.names == ["b"]
    np.testing.assert_allclose(result.blobs("b")[0], values[0] ** 2, rtol=1e-6)


def test_unknown_channels(merged: Merger) -> None:
    """Powers on a blob of unknown shape: a Scale could not be given its size."""
    power = "Power {} -> {} {{ power_param {{ scale: 2 }} }}"
    result = merged("x 2 6 5 4", "odd: Mystery x -> m", "a: " + power.format("m", "a"),
                    "b: " + power.format("a", "b"))  # fmt: skip
    result.refused("a", "the number of its channels is not known")


def test_of_a_shape_nobody_knows(merged: Merger) -> None:
    """Behind a layer of unknown type there is still one Scale; an axis from the end waits."""
    result = merged(
        "x 2 6 5 4",
        "odd: Mystery x -> m",
        "bn: BatchNorm m -> b",
        f"s: Scale b -> s {BODY}",
        "end: Scale s -> e { scale_param { axis: -3 } }",
        weights={
            "bn": [np.zeros(6), np.ones(6), np.ones(1)],
            "s": [np.full(6, 2.0), np.ones(6)],
            "end": [np.ones(6)],
        },
    )
    assert result.names == ["odd", "s", "end"]
    result.refused("end", "axis is -3 and the rank of its bottom is not known")


def test_keep_cuts_a_run(merged: Merger) -> None:
    """--keep of a layer cuts the run there."""
    lines = ["x 2 6 5 4", "bn: BatchNorm x -> b", f"s: Scale b -> s {BODY}", "bias: Bias s -> out"]
    result = merged(*lines, keep=["s"])
    assert [layer.type for layer in result.after.layers] == ["Input", "Scale", "Scale", "Bias"]
    result.refused("s", "kept as asked")

"""fold-through: maps per channel go back through all that lies between."""

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
    result.refused("times", "back through 'r': layer 'r' is kept as asked")


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
    result = merged(IN, CONV, *lines, *READ, weights=POSITIVE)
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
    fields = "inner_product_param { num_output: 6 }" if kind == "InnerProduct" else (
        "convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 1 }"
    )  # fmt: skip
    line = f"conv: {kind} data -> conv {{ {fields} }}"
    result = merged(IN, line, *BETWEEN["relu"], *READ, weights=POSITIVE)
    assert result.names == ["conv", "r", "t", "u"]


BN = ["n: BatchNorm y -> n", "m: Scale n -> n { scale_param { bias_term: true } }"]
END = ["t: TanH n -> t", "u: AbsVal n -> u"]


def conv(name: str, outputs: int, body: str = "kernel_size: 1", bottom: str = "data") -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


TWO = [conv("a", 4, "kernel_size: 3 pad: 1 bias_term: false"), conv("b", 3)]
THREE = [conv("a", 2), "r: ReLU a -> r", conv("b", 4, bottom="r"), conv("c", 3), conv("e", 2)]
WHOLE = "a: Convolution data -> a { convolution_param { num_output: 6 kernel_h: 9 kernel_w: 8 } }"
ORDER = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
# What makes y of convolutions a, b, c and data.
MOVED: Dict[str, List[str]] = {
    "concat": [*TWO, "y: Concat a b -> y"],
    "concat_of_concats": [*THREE, "d: Concat b c -> d", "y: Concat e d -> y"],
    "concat_of_rows": [conv("a", 4), conv("b", 4),
                       "y: Concat a b -> y { concat_param { axis: 2 } }"],
    "concat_with_a_norm": [conv("a", 4), "q: TanH data -> q", "b: BatchNorm q -> b",
                           "y: Concat a b -> y"],
    "concat_of_itself": [conv("a", 4), "y: Concat a a -> y { concat_param { axis: 3 } }"],
    "flatten": [WHOLE, "y: Flatten a -> y"],
    "reshape": [WHOLE, "y: Reshape a -> y { reshape_param { shape { dim: 0 dim: -1 } } }"],
    "reshape_of_places": [
        conv("a", 4), "y: Reshape a -> y { reshape_param { shape { dim: 0 dim: 0 dim: -1 } } }"],
    "shuffle": [conv("a", 6), "y: ShuffleChannel a -> y { shuffle_channel_param { group: 2 } }"],
    "permute_twice": [conv("a", 4), f"p: Permute a -> p {{ {ORDER} }}",
                      "y: Permute p -> y { permute_param { order: 0 order: 3 order: 1 } }"],
    "crop": [conv("a", 4), "y: Crop a data -> y { crop_param { axis: 2 } }"],
    "interp": [conv("a", 4), "y: Interp a -> y { interp_param { height: 11 width: 7 } }"],
    "upsample": [conv("a", 4), "y: Upsample a -> y { upsample_param { scale: 2 } }"],
    "mean": [*TWO, "c: Concat a b -> c",
             "y: Pooling c -> y { pooling_param { pool: AVE kernel_size: 2 } }"],
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_what_moves_values(merged: Merger, name: str) -> None:
    """BatchNorm and Scale, with a shift, go back to where the channels come from."""
    result = merged(IN, *MOVED[name], *BN, *END)
    assert not {"n", "m"} & {*result.names}
    assert "BatchNorm" not in [layer.type for layer in result.after.layers]


@pytest.mark.parametrize("name", MOVED)
def test_what_moves_values_in_place(merged: Merger, name: str) -> None:
    """The layers write over the blob."""
    lines = ["n: BatchNorm y -> y", "m: Scale y -> y", "o: ReLU y -> y", "t: TanH y -> t"]
    result = merged(IN, *MOVED[name], *lines)
    assert not {"n", "m"} & {*result.names}


def test_slices(merged: Merger) -> None:
    """Each map to its channels; the last part has none, and its values stay."""
    lines = [conv("a", 9), "s: Slice a -> x y z { slice_param { slice_point: 2 slice_point: 6 } }",
             "n: BatchNorm x -> n", "m: Scale y -> m", "t: TanH z -> t",
             "u: AbsVal n -> u", "v: AbsVal m -> v"]  # fmt: skip
    result = merged(IN, *lines)
    assert result.names == ["a", "s", "t", "u", "v"]
    assert list(result.layer("s").param.top)[2] == "z", "its values did not change"


def test_slices_that_are_joined_again(merged: Merger) -> None:
    """Both parts ask the one convolution, each for its channels."""
    lines = [conv("a", 9), "s: Slice a -> x z { slice_param { slice_point: 2 } }",
             "r: ReLU x -> x", "y: Concat z x -> y"]  # fmt: skip
    weights = {"m": [np.linspace(0.5, 2, 9)]}
    result = merged(IN, *lines, "m: Scale y -> n", *END, weights=weights)
    assert result.names == ["a", "s", "r", "y", "t", "u"]


PROD = "{ eltwise_param { operation: PROD } }"
PLANE = "{ pooling_param { pool: AVE global_pooling: true } }"
PRODUCTS = {
    "gate": [conv("a", 5), conv("b", 5), "g: Sigmoid b -> g", f"y: Eltwise g a -> y {PROD}"],
    "plane": [conv("a", 5), conv("b", 5), f"p: Pooling b -> p {PLANE}", "f: Flatten p -> f",
              "g: Sigmoid f -> g", "y: Scale a g -> y { scale_param { axis: 0 } }"],
    "its_factor": ["h: TanH data -> h",
                   "a: InnerProduct data -> a { inner_product_param { num_output: 5 } }",
                   "y: Scale h a -> y { scale_param { axis: 0 } }"],
    "in_a_product": [conv("a", 5), "g: Sigmoid data -> g", "h: TanH data -> h",
                     f"z: Eltwise g h -> z {PROD}", "q: ReLU a -> q",
                     f"y: Eltwise z q -> y {PROD}"],
    "maximum": [conv("a", 5), conv("b", 5),
                "y: Eltwise a b -> y { eltwise_param { operation: MAX } }"],
    "sum": ["g: TanH data -> g", conv("a", 5), conv("b", 5, "kernel_size: 1", "g"),
            "y: Eltwise a b -> y { eltwise_param { coeff: 1 coeff: -2 } }"],
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_into_a_factor(merged: Merger, name: str) -> None:
    """A multiplier goes into the factor that can take it in, into every summand."""
    weights = {"m": [np.linspace(0.5, 2, 5)]}
    result = merged(IN, *PRODUCTS[name], "m: Scale y -> n", *END, weights=weights)
    assert "m" not in result.names


def test_no_factor_takes_it(merged: Merger) -> None:
    """The reason is that of the first."""
    lines = ["g: Sigmoid data -> g", "h: TanH data -> h", f"y: Eltwise g h -> y {PROD}"]
    result = merged(IN, *lines, "m: Scale y -> n", *END)
    result.refused("m", "back through 'y': it is fed by 'g', a Sigmoid")


STAYS = {
    "another_source": ([conv("a", 4), "q: TanH data -> q", "y: Concat a q -> y"],
                       "back through 'y': it is fed by 'q', a TanH"),
    "another_reader": ([*TWO, "y: Concat a b -> y", "q: TanH b -> q"],
                       "back through 'y': the output of layer 'b' is read by 'q' as well"),
    "reader_between": ([*TWO, "y: Concat a b -> y", "q: TanH y -> q"],
                       "the output of layer 'y' is read by 'q' as well"),
    "two_maps": ([conv("a", 4), "y: Concat a a -> y"],
                 "those that read 'a' would need maps that differ"),
    "input": (["y: Pooling data -> y { pooling_param { pool: AVE kernel_size: 2 } }"],
              "back through 'y': its bottom 'data' is a net input"),
    "spread": ([conv("a", 4), "y: Flatten a -> y"],
               "it would have to be another map at each place"),
    "border": ([conv("a", 4),
                "y: Pooling a -> y { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }"],
               "it counts the zeros of its padding"),
    "rectified": ([*TWO, "c: Concat a b -> c", "y: ReLU c -> y"], "a shift does not go through it"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_it_stays(merged: Merger, name: str) -> None:
    """And says why."""
    lines, reason = STAYS[name]
    result = merged(IN, *lines, "m: Scale y -> n { scale_param { bias_term: true } }", *END)
    result.refused("m", reason)


def test_a_crop_reads_the_shape(merged: Merger) -> None:
    """What changes may be read for its shape, before and between."""
    lines = [conv("a", 4), "r: ReLU a -> y", "c: Crop data y -> c { crop_param { axis: 2 } }",
             "d: Crop data a -> d { crop_param { axis: 2 } }", "m: Scale y -> n"]  # fmt: skip
    weights = {"m": [np.linspace(0.5, 2, 4)]}
    assert merged(IN, *lines, *END, weights=weights).names == ["a", "r", "c", "d", "t", "u"]
    lines = [conv("a", 4), "d: Crop data a -> d { crop_param { axis: 2 } }", "m: BatchNorm a -> n"]
    assert merged(IN, *lines, *END).names == ["a", "d", "t", "u"]
    kept = merged(IN, *lines, *END, keep=["d"], skip=["one-scale"])
    kept.refused("m", "the output of layer 'a' is read by 'd' as well")


def test_shared_behind_a_concat(merged: Merger) -> None:
    """Two convolutions of one weight would need two: it is unshared, or kept so."""
    named = 'num_output: 4 kernel_size: 1 bias_term: false } param { name: "w" '
    lines = [f"{n}: Convolution data -> {n} {{ convolution_param {{ {named} }} }}" for n in "ab"]
    lines += ["q: ReLU b -> q", "y: Concat a q -> y"]
    weights = {"m": [np.linspace(0.5, 2, 8)]}
    result = merged(IN, *lines, "m: Scale y -> n", *END, weights=weights)
    assert "m" not in result.names
    result = merged(IN, *lines, "m: Scale y -> n", *END, weights=weights, keep_shared=True)
    result.refused("m", "shares its weights with 'a', kept so")


def test_a_reshape_of_what_has_one_axis(merged: Merger) -> None:
    """There is no axis behind it that a map per channel could come from."""
    lines = [
        "data 2 5",
        "s: Reduction data -> s { reduction_param { axis: 1 } }",
        "y: Reshape s -> y { reshape_param { axis: 1 num_axes: 0 shape { dim: 1 } } }",
        "b: Bias y -> b { bias_param { axis: -1 } }",
        "m: Scale b -> m { scale_param { bias_term: true } }",
    ]
    assert merged(*lines).names == ["s", "y", "m"]


def test_a_net_output_gets_no_reader(merged: Merger) -> None:
    """A PriorBox would read it for its shape: what anything reads is no net output in Caffe."""
    after = merged(
        "data 2 3 4 5",
        "b: BatchNorm data -> b",
        "p: PriorBox b data -> p { prior_box_param { min_size: 3 aspect_ratio: 2 } }",
        "c: BatchNorm b -> c",
    )
    assert after.names == ["p", "c"]

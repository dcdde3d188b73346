"""fold-forward: what cannot be folded backwards goes into the layers that read it."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger

IN = "data 2 6 9 11"
CAT = "cat: Concat data data -> x"
BN = "bn: BatchNorm x -> b"
SCALE = "scale: Scale b -> s { scale_param { bias_term: true } }"
TIMES = "times: Scale x -> s"  # without a shift
POSITIVE = {"times": [np.linspace(0.3, 2.1, 12)]}


def conv(name: str, body: str = "kernel_size: 3", bottom: str = "s", outputs: int = 5) -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


def fc(name: str, body: str = "", bottom: str = "s") -> str:
    """An InnerProduct likewise."""
    fields = f"inner_product_param {{ num_output: 5 {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {fields} }}"


READERS: Dict[str, List[str]] = {
    "conv": [conv("c")],
    "conv_without_bias": [conv("c", "kernel_size: 3 bias_term: false")],
    "grouped": [conv("c", "kernel_size: 3 group: 3", outputs=9)],
    "depthwise": [conv("c", "kernel_h: 3 kernel_w: 2 group: 12 stride: 2", outputs=24)],
    "product": [fc("c")],
    "product_transposed": [fc("c", "transpose: true bias_term: false")],
    "several": [conv("c"), conv("d", "kernel_size: 1"), fc("e")],
    "mean": ["p: Pooling s -> p { pooling_param { pool: AVE kernel_size: 2 stride: 2 } }",
             conv("c", bottom="p")],
    "flat": ["p: Pooling s -> p { pooling_param { pool: AVE kernel_size: 3 stride: 3 } }",
             "f: Flatten p -> f", fc("c", bottom="f")],
    "flat_beside_another": ["f: Flatten s -> f", "t: TanH data -> t", "g: Flatten t -> g",
                            "j: Concat g f -> j", fc("c", bottom="j")],
    "concat": ["t: TanH data -> t", "j: Concat t s -> j", conv("c", bottom="j")],
    "scale": ["c: Scale s -> c { scale_param { bias_term: true } }",
              "d: Scale s -> d { scale_param { bias_term: true } }"],
    "part_of_each_image": ["f: Flatten s -> f { flatten_param { end_axis: 2 } }",
                           conv("c", bottom="f")],
    "joined_elsewhere": ["j: Concat s s -> j { concat_param { axis: 2 } }", conv("c", bottom="j")],
    "cut_elsewhere": ["cut: Slice s -> k l { slice_param { axis: 2 slice_point: 5 } }",
                      conv("c", bottom="k"), conv("d", bottom="l")],
    "turned": ["r: Permute s -> r { permute_param { order: 0 order: 2 order: 3 order: 1 } }",
               fc("c", bottom="r")],
    "tile": ["r: Tile s -> r { tile_param { tiles: 2 } }", conv("c", bottom="r")],
    "reshape": ["r: Reshape s -> r { reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }",
                fc("c", bottom="r")],
    "crop_of_it": ["r: Crop s data -> r { crop_param { axis: 2 } }", conv("c", bottom="r")],
    "crop_by_it": ["t: TanH data -> t", "r: Crop t s -> r { crop_param { axis: 2 } }",
                   conv("c", bottom="s"), conv("d", bottom="r")],
    "slice": ["cut: Slice s -> k l { slice_param { slice_point: 5 } }",
              conv("c", bottom="k"), conv("d", bottom="l")],
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_into_what_reads_it(merged: Merger, name: str) -> None:
    """BatchNorm and Scale, with a shift, are gone."""
    lines = READERS[name]
    result = merged(IN, CAT, BN, SCALE, *lines)
    assert "bn" not in result.names
    assert "scale" not in result.names
    assert result.fate("bn").detail.startswith("folded forwards into 'c'")


MULTIPLIED: Dict[str, List[str]] = {
    "padded": [conv("c", "kernel_size: 3 pad: 1")],
    "deconvolution": ["c: Deconvolution s -> c { convolution_param { num_output: 6 kernel_size: 4"
                      " stride: 2 pad: 1 group: 2 } }"],
    "relu": ["r: ReLU s -> r", conv("c", "kernel_size: 3 pad: 1", "r")],
    "relu_in_place": ["r: ReLU s -> s", conv("c", "kernel_size: 3 pad: 1")],
    "leaky": ["r: ReLU s -> s { relu_param { negative_slope: 0.1 } }", conv("c")],
    "prelu": ["r: PReLU s -> s", conv("c")],
    "maximum_of_two": ["r: Eltwise s s -> r { eltwise_param { operation: MAX } }",
                       conv("c", bottom="r")],
    "product": ["t: TanH x -> t", "r: Eltwise t s -> r { eltwise_param { operation: PROD } }",
                conv("c", "kernel_size: 3 pad: 1", "r")],
    "square": ["r: Eltwise s s -> r { eltwise_param { operation: PROD } }", conv("c", bottom="r")],
    "sum": ["r: Eltwise s s -> r { eltwise_param { coeff: 2 coeff: -1 } }", conv("c", bottom="r")],
    "maximum": ["p: Pooling s -> p { pooling_param { kernel_size: 3 pad: 1 stride: 2 } }",
                conv("c", bottom="p")],
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIPLIED)
def test_positive_multipliers(merged: Merger, name: str) -> None:
    """They go through padding, ReLU and maxima."""
    result = merged(IN, CAT, TIMES, *MULTIPLIED[name], weights=POSITIVE)
    assert "times" not in result.names


def test_all_in_place(merged: Merger) -> None:
    """The blob that the Scale wrote over has another value now, and another name."""
    lines = ["times: Scale x -> x", "r: ReLU x -> x", conv("c", bottom="x"), "t: TanH c -> t"]
    result = merged(IN, CAT, *lines, weights=POSITIVE)
    assert result.names == ["cat", "r", "c", "t"]
    names = {top for layer in result.after.layers for top in layer.param.top}
    assert "x" not in names
    assert list(result.layer("r").param.bottom) == list(result.layer("r").param.top)


REFUSED = {
    "border": ([conv("c", "kernel_size: 3 pad: 1")], "it pads with 0, which the shift"),
    "deconvolution": (
        ["c: Deconvolution s -> c { convolution_param { num_output: 6 kernel_size: 3 } }"],
        "see as many inputs",
    ),
    "relu": (["r: ReLU s -> r", conv("c", bottom="r")], "a shift does not go through it"),
    "padded_mean": (
        ["p: Pooling s -> p { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }",
         conv("c", bottom="p")],
        "it counts the zeros of its padding",
    ),
    "another_reader": ([conv("c"), "t: TanH s -> t"], "TanH 't' reads it: it cannot take it in"),
    "kernel_larger_than_input": (
        [conv("c", "kernel_size: 10 stride: 3")], "its kernel is larger than its input",
    ),
    "along_another_axis": ([fc("c", "axis: 2")], "its axis is 2, not 1"),
    "joined_elsewhere": (
        ["t: TanH x -> t", "j: Concat s t -> j { concat_param { axis: 2 } }",
         conv("c", bottom="j")],
        "it would have to be another map at each place that a channel goes to",
    ),
    "reshaped": (
        ["r: Reshape s -> r { reshape_param { shape { dim: 0 dim: 3 dim: 4 dim: -1 } } }",
         conv("c", "kernel_size: 1", "r")],
        "it spreads axis 1 over several axes",
    ),
    "turned": (
        ["r: Permute s -> r { permute_param { order: 0 order: 2 order: 1 } }",
         conv("c", "kernel_size: 1", "r")],
        "the map acts along axis 2, its channels lie on axis 1",
    ),
    "moved_to_another_axis": (
        ["r: Tile s -> r { tile_param { axis: 2 tiles: 2 } }",
         "f: Flatten r -> f { flatten_param { axis: 2 } }", fc("c", "axis: 2", "f")],
        "its axis is 2, not 1",
    ),
    "where_the_maximum_is": (
        ["p: Pooling s -> p m { pooling_param { kernel_size: 2 } }", conv("c", bottom="p"),
         "t: TanH m -> t"],
        "only one mean or maximum hands it on",
    ),
    "another_scale": (
        ["t: Scale s x -> t { scale_param { axis: 0 } }", conv("c", bottom="t")],
        "a shift does not go through it",
    ),
    "output": ([], "'s' is a net output"),
    "output_behind": (["p: Pooling s -> p { pooling_param { pool: AVE kernel_size: 2 } }"],
                      "'p' is a net output"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_stays(merged: Merger, name: str) -> None:
    """As one Scale, and the reason is told."""
    lines, reason = REFUSED[name]
    result = merged(IN, CAT, "scale: Scale x -> s { scale_param { bias_term: true } }", *lines)
    result.refused("scale", f"forwards: .*{reason}")


@pytest.mark.parametrize("kind", ["ReLU r", "Pooling maximum"])
def test_negative_multipliers(merged: Merger, kind: str) -> None:
    """They turn what is largest into what is least."""
    layer, _ = kind.split()
    body = " { pooling_param { kernel_size: 2 } }" if layer == "Pooling" else ""
    lines = [f"r: {layer} s -> r{body}", conv("c", bottom="r")]
    weights = {"times": [np.linspace(-1.0, 2.1, 12)]}
    result = merged(IN, CAT, TIMES, *lines, weights=weights)
    result.refused("times", "a negative multiplier does not go through")


def test_over_a_net_input(merged: Merger) -> None:
    """The input keeps its name and shape, and holds what came in."""
    lines = ["n: BatchNorm x -> x", "times: Scale x -> x { scale_param { bias_term: true } }"]
    for last in ("x", "s"):
        lines[1] = lines[1].replace("-> x", f"-> {last}")
        result = merged("x 2 12 9 11", *lines, conv("c", bottom=last), "r: ReLU c -> c")
        assert result.names == ["c", "r"]
        assert list(result.layer("c").param.bottom) == ["x"]


def test_over_a_net_input_with_several_readers(merged: Merger) -> None:
    readers = [conv("c", bottom="x"), conv("d", bottom="x")]
    result = merged("x 2 12 9 11", "n: BatchNorm x -> x", "p: Power x -> x", *readers)
    assert result.names == ["c", "d"]


REFUSED_OVER_AN_INPUT = {
    "it pads with 0": [conv("c", bottom="x", body="kernel_size: 3 pad: 1")],
    "reads it: it cannot take it in": [conv("c", bottom="x"), "l: LRN x -> l"],
    "kept": [conv("c", bottom="x")],
}


@pytest.mark.parametrize("reason", REFUSED_OVER_AN_INPUT)
def test_refused_over_a_net_input(merged: Merger, reason: str) -> None:
    keep = ["c"] if reason == "kept" else []
    result = merged("x 2 12 9 11", "n: BatchNorm x -> x", *REFUSED_OVER_AN_INPUT[reason], keep=keep)
    assert result.layer("n").param.top == ["x"]
    assert any(reason in refusal.reason for refusal in result.report.refusals)


def test_over_a_net_input_that_another_layer_wrote_over(merged: Merger) -> None:
    """Its name would hold what it never held."""
    lines = ["r: ReLU x -> x", "times: Scale x -> x", conv("c", bottom="x")]
    result = merged("x 2 12 9 11", *lines, only=["fold-forward"])
    result.refused("times", "it is written over 'x', which keeps its name")


def test_from_a_net_input(merged: Merger) -> None:
    """Pixels times a number: the first convolution does it."""
    lines = ["p: Power x -> s { power_param { scale: 0.0078125 shift: -1 } }", conv("c")]
    assert merged("x 2 12 9 11", *lines).names == ["c"]


def test_keep(merged: Merger) -> None:
    """A reader that is to stay as it is cannot take it in."""
    result = merged(IN, CAT, TIMES, conv("c"), keep=["c"])
    result.refused("times", "layer 'c', which reads it, is kept")


def test_a_mirrored_half(merged: Merger) -> None:
    """CReLU as it is published: the Scale behind the Concat does what the Power did."""
    result = merged(
        IN,
        "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 } }",
        "neg: Power conv -> neg { power_param { scale: -1 } }",
        "both: Concat conv neg -> both",
        "scale: Scale both -> scale { scale_param { bias_term: true } }",
        "relu: ReLU scale -> relu",
    )
    assert result.names == ["conv", "both", "scale", "relu"]
    assert result.fate("neg").detail == "folded forwards into 'scale'"


def test_shared_weights(merged: Merger) -> None:
    """They would change for both."""
    shared = 'num_output: 6 kernel_size: 3 bias_term: false } param { name: "w" '
    lines = [f"{n}: Convolution {x} -> {n} {{ convolution_param {{ {shared} }} }}" for n, x in
             (("c", "s"), ("d", "x"))]  # fmt: skip
    result = merged(IN, CAT, TIMES, *lines, keep_shared=True)
    result.refused("times", "layer 'c' shares its weights with 'd', kept so")


def test_along_another_axis(merged: Merger) -> None:
    """A Scale along the width is no map per channel."""
    result = merged(IN, CAT, "times: Scale x -> s { scale_param { axis: 3 } }", conv("c"))
    result.refused("times", "it acts along axis 3")


@pytest.mark.parametrize("bottom", ["x", "data"])
def test_memory_behind_it(merged: Merger, bottom: str) -> None:
    """Without the Scale, what is written in place behind it would be the blob before it."""
    lines = [f"times: Scale {bottom} -> s", "f: Flatten s -> f", "r: ReLU f -> f", fc("c", "", "f")]
    weights = {"times": [np.linspace(0.3, 2.1, 12 if bottom == "x" else 6)]}
    skip = ["fold-permute"]  # which takes the Flatten out
    result = merged(IN, CAT, *lines, "t: TanH x -> t", weights=weights, skip=skip)
    result.refused("times", "memory is written in place that others see as it is now")


def test_over_the_memory_of_another_blob(merged: Merger) -> None:
    """No name is left that held the result in the end: that of the Flatten's bottom is gone too."""
    lines = ["f: Flatten x -> f", "times: Scale f -> f", fc("c", "", "f")]
    result = merged(IN, CAT, *lines, only=["fold-forward"])
    assert result.names == ["cat", "f", "c"]
    assert not {"x", "f"} & {name for layer in result.after.layers for name in layer.param.top}
    for reader in "t: TanH x -> t", "g: Flatten x -> g":
        result = merged(IN, CAT, *lines, reader, only=["fold-forward"])
        result.refused("times", "it is written over 'f', which keeps its name")
    result = merged("data 2 3 4 5", lines[0].replace("x", "data"), *lines[1:])
    result.refused("times", "it is written over 'f', which keeps its name")


def test_memory_of_what_is_before(merged: Merger) -> None:
    """Who reads it later would find it written over."""
    lines = [TIMES, "f: Flatten x -> f", "t: TanH f -> f", conv("c")]
    result = merged(IN, CAT, *lines, weights=POSITIVE)
    result.refused("times", "memory is written in place that others see as it is now")


def test_of_unknown_shape(merged: Merger) -> None:
    """A single number needs to know how many channels there are."""
    lines = ["odd: Mystery data -> x", "p: Power x -> s { power_param { scale: 2 } }", conv("c")]
    weights = {"c": [np.ones((5, 6, 3, 3)), np.ones(5)]}
    merged(IN, *lines, weights=weights).refused("p", "the number of its channels is not known")


def test_one_number_along_the_width(merged: Merger) -> None:
    """Where the width is 1 it is for all, and its proof runs on that width."""
    lines = ["s: Scale x -> s { scale_param { axis: -1 } }", conv("c", "kernel_h: 3 kernel_w: 1")]
    assert merged("x 2 12 9 1", *lines, weights={"s": [np.array([2.0])]}).names == ["c"]


def test_several_runs_into_one_layer(merged: Merger) -> None:
    """Each through the Concat that joins them."""
    result = merged(
        IN, "a: AbsVal data -> a", "t: TanH data -> t", "k: Scale a -> k", "l: BatchNorm t -> l",
        "j: Concat k l -> j", conv("c", bottom="j"),
    )  # fmt: skip
    assert result.names == ["a", "t", "j", "c"]


def test_memory_that_the_layer_kept_apart(merged: Merger) -> None:
    """Once it is gone the blob before it is written over by who writes a Flatten's top."""
    lines = ["t: TanH data -> t", "n: BatchNorm t -> n", "f: Flatten n -> f", "l: Scale f -> f"]
    result = merged("data 2 6 1 1", *lines, skip=["fold-through"])
    assert result.names == ["t", "f", "l"]
    assert result.layer("t").param.top == ["t_merged"], "its values are not those of 't' at the end"

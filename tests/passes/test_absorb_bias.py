"""absorb-bias: high biases go behind their ReLU; where no value is cut off the outputs stay."""

from typing import Dict, List, Tuple

import numpy as np
import pytest

from tests.merger import Merged, Merger
from tests.nets import Weights, prototxt, seeded

IN = "data 2 6 9 11"
CONV = "a: Convolution data -> a { convolution_param { num_output: 8 kernel_size: 3 } }"
NORM, RELU = "n: BatchNorm a -> a", "r: ReLU a -> a"
SCALE = "m: Scale a -> a { scale_param { bias_term: true } }"
START = [IN, CONV, NORM, SCALE, RELU]
GAMMA = np.linspace(0.5, -1.2, 8)
BETA = np.array([5.0, 2.0, -4.0, 0.0, 3.0, 1.0, 7.0, 2.5])
HIGH = np.maximum(BETA - 3 * np.abs(GAMMA), 0)


def conv(name: str, bottom: str, outputs: int = 5, more: str = "") -> str:
    body = f"num_output: {outputs} kernel_size: 1 {more}"
    return f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {body} }} }}"


LAST = conv("z", "a")


def quiet(lines: List[str], variance: float = 1e6) -> Weights:
    """Weights whose statistics leave all values near beta: above beta - 3 gamma.

    A smaller ``variance`` than that of the values sends some below.
    """
    weights = seeded(prototxt(*lines), 3)
    weights["n"] = [np.zeros(8), np.full(8, variance), np.ones(1)]
    weights["m"] = [GAMMA * np.sqrt((variance + 1e-5) / variance), BETA]
    return weights


def shifted(result: Merged) -> List[str]:
    assert result.report.approximation is not None
    return list(result.report.approximation.layers)


FIRES: Dict[str, List[str]] = {
    "dropout": ["d: Dropout a -> a", LAST],
    "relu_twice": ["s: ReLU a -> a", LAST],
    "convolution": [LAST],
    "not_in_place": [conv("z", "b")],
    "grouped": [conv("z", "a", 6, "group: 2")],
    "no_bias": [conv("z", "a", 5, "bias_term: false")],
    "product": ["z: InnerProduct a -> z { inner_product_param { num_output: 3 } }"],
    "maximum": ["p: Pooling a -> p { pooling_param { kernel_size: 3 stride: 2 } }",
                conv("z", "p")],
    "mean": ["p: Pooling a -> p { pooling_param { pool: AVE global_pooling: true } }",
             "z: InnerProduct p -> z { inner_product_param { num_output: 3 } }"],
    "branches": [conv("y", "a", 4), LAST],
    "concat": [conv("b", "data", 4).replace("kernel_size: 1", "kernel_size: 3"),
               "c: Concat b a -> c", conv("z", "c")],
    "scale_behind": ["s: Scale a -> s { scale_param { bias_term: true } }", conv("z", "s")],
}  # fmt: skip


@pytest.mark.parametrize("name", FIRES)
def test_it_fires(merged: Merger, name: str) -> None:
    """The biases move, no layer is left of it, and the outputs are what they were."""
    lines = [*START, *FIRES[name]]
    if name == "not_in_place":
        lines[4] = "r: ReLU a -> b"
    result = merged(*lines, weights=quiet(lines), absorb_bias=True)
    plain = merged(*lines, weights=quiet(lines))
    assert shifted(result) == ["r"]
    assert result.names == plain.names
    assert result.blobs("a")[1] == pytest.approx(plain.blobs("a")[1] - HIGH, abs=1e-6)
    assert not np.allclose(result.blobs("z")[-1], plain.blobs("z")[-1])


def test_it_says_how_many_channels(merged: Merger) -> None:
    lines = [*START, LAST]
    approximation = merged(*lines, weights=quiet(lines), absorb_bias=True).report.approximation
    assert approximation is not None
    assert approximation.channels == np.count_nonzero(HIGH) == 4
    assert "was not measured" in approximation.summary()


def test_off_by_default_and_on_by_its_name(merged: Merger) -> None:
    lines = [*START, LAST]
    assert merged(*lines, weights=quiet(lines)).report.approximation is None
    assert merged(*lines, weights=quiet(lines), equalize=True).report.approximation is None


def test_alone_it_inserts_the_two_layers(merged: Merger) -> None:
    lines = [*START, LAST]
    result = merged(*lines, weights=quiet(lines), only=["absorb-bias", "fold-affine"])
    assert [layer.type for layer in result.after.layers][-3:] == ["ReLU", "Scale", "Convolution"]


def test_with_equalize(merged: Merger) -> None:
    lines = [*START, LAST]
    weights = quiet(lines)
    weights["z"][0] *= np.exp(np.linspace(-2, 2, 8)).reshape(1, 8, 1, 1)
    result = merged(*lines, weights=weights, absorb_bias=True, equalize=True)
    assert {change.rewrite for change in result.report.changes} >= {"absorb-bias", "equalize"}
    assert result.names == ["a", "r", "z"]


def test_two_in_a_row(merged: Merger) -> None:
    """Both of one round: in the next there is no BatchNorm any more."""
    second = "l: Scale b -> b { scale_param { bias_term: true } }"
    lines = [*START, conv("b", "a", 8), "k: BatchNorm b -> b", second,
             "s: ReLU b -> b", conv("z", "b")]  # fmt: skip
    weights = quiet(lines)
    weights["k"] = [np.zeros(8), np.full(8, 4e6), np.ones(1)]
    weights["l"] = [np.full(8, 0.4), np.linspace(1.5, 4, 8)]
    result = merged(*lines, weights=weights, absorb_bias=True)
    assert shifted(result) == ["r", "s"]
    assert result.names == ["a", "r", "b", "s", "z"]


STOPPED: Dict[str, Tuple[List[str], str]] = {
    "padding": ([conv("z", "a", 5, "pad: 1")], "pads with 0, which the shift does not reach"),
    "output": ([], "'a' is a net output"),
    "sum": ([conv("b", "data", 8).replace("kernel_size: 1", "kernel_size: 3"),
             "e: Eltwise a b -> e", conv("z", "e")], "Eltwise 'e' reads it: a shift does not go"),
    "sigmoid": (["s: Sigmoid a -> s", conv("z", "s")], "Sigmoid 's' reads it"),
    "two_readers": ([LAST, "t: TanH a -> t"], "TanH 't' reads it"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_it_stops(merged: Merger, name: str) -> None:
    behind, reason = STOPPED[name]
    lines = [*START, *behind]
    result = merged(*lines, weights=quiet(lines), absorb_bias=True)
    result.refused("r", reason)
    assert result.report.approximation is None


def test_a_slope_below_0_stays(merged: Merger) -> None:
    lines = [*START[:4], "r: ReLU a -> a { relu_param { negative_slope: 0.1 } }", LAST]
    result = merged(*lines, weights=quiet(lines), absorb_bias=True)
    result.refused("r", "below 0 it has a slope")


def test_without_a_norm_nothing_is_known(merged: Merger) -> None:
    lines = [IN, CONV, RELU, LAST]
    merged(*lines, absorb_bias=True).refused("r", "no BatchNorm in front of it")


def test_what_others_read_stays(merged: Merger) -> None:
    lines = [*START[:4], "r: ReLU a -> b", conv("z", "b"), "t: TanH a -> t"]
    merged(*lines, weights=quiet(lines), absorb_bias=True).refused("r", "'a' is read by others")


@pytest.mark.parametrize("layer", ["r", "m", "z"])
def test_what_the_user_keeps_stays(merged: Merger, layer: str) -> None:
    lines = [*START, LAST]
    result = merged(*lines, weights=quiet(lines), absorb_bias=True, keep=[layer])
    result.refused("r", "kept as asked")
    assert result.report.approximation is None


def test_low_biases_stay(merged: Merger) -> None:
    """That there is nothing to do is said."""
    lines = [*START, LAST]
    weights = {**quiet(lines), "m": [np.ones(8), np.full(8, 2.9)]}
    result = merged(*lines, weights=weights, absorb_bias=True)
    assert result.report.approximation is None
    result.refused("r", "no channel of it is 3 standard deviations above 0")
    (note,) = result.report.notes
    assert note.kind == "none-absorbed"
    assert "moved nothing: ReLU 'r' stays: no channel of it" in note.text


@pytest.mark.parametrize("choice", [{"skip": ["absorb-bias"]}, {"only": ["fold-affine"]}])
def test_a_pass_that_is_left_out_moves_nothing(
    merged: Merger, choice: Dict[str, List[str]]
) -> None:
    lines = [*START, LAST]
    result = merged(*lines, weights=quiet(lines), absorb_bias=True, **choice)
    assert result.report.approximation is None
    (note,) = (note for note in result.report.notes if note.kind == "none-absorbed")
    assert str(note.text) == "absorb_bias has moved nothing: only or skip leaves its pass out"


def test_where_weights_stay_shared(merged: Merger) -> None:
    """Then nobody could take the shifts in, and layers would be left of them."""
    shared = 'kernel_size: 1 } param { name: "w" } param { name: "b" '
    lines = [*START, conv("o", "data", 8), "s: ReLU o -> o",
             conv("y", "a", 5).replace("kernel_size: 1 ", shared),
             conv("z", "o", 5).replace("kernel_size: 1 ", shared)]  # fmt: skip
    result = merged(*lines, weights=quiet(lines), absorb_bias=True, keep_shared=True)
    result.refused("r", "Convolution 'y' shares its weights with 'z', kept so with")
    assert result.names == ["a", "r", "o", "s", "y", "z"]
    assert shifted(merged(*lines, weights=quiet(lines), absorb_bias=True)) == ["r"]


def test_over_a_net_input(merged: Merger) -> None:
    lines = ["data 2 8 9 11", *(line.replace(" a -> a", " data -> data") for line in START[2:]),
             conv("z", "data")]  # fmt: skip
    result = merged(*lines, weights=quiet(lines), absorb_bias=True)
    result.refused("r", "the memory of its bottom 'data' is that of another blob too")
    assert result.names == ["m", "r", "z"]


def test_what_wrote_in_place_still_does(merged: Merger) -> None:
    lines = [*START, LAST]
    relu = merged(*lines, weights=quiet(lines), absorb_bias=True).layer("r").param
    assert relu.bottom == relu.top

"""drop-identity: layers that do nothing at inference go, names and outputs stay."""

from pathlib import Path

import numpy as np
import pytest

import caffe_merge
from tests.merger import Merger, assert_equal, random_inputs, run
from tests.nets import load

CONV = "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }"
RELU = "relu: ReLU conv -> conv"
START = ["data 2 5 8 7", CONV, RELU]

ONES = {"id": [np.ones(6), np.zeros(6)]}
IDENTITIES = {
    "dropout": "Dropout conv -> y",
    "dropout_ratio": "Dropout conv -> y { dropout_param { dropout_ratio: 0.9 } }",
    "split": "Split conv -> y",
    "concat": "Concat conv -> y",
    "slice": "Slice conv -> y",
    "power": "Power conv -> y",
    "power_spelt": "Power conv -> y { power_param { power: 1 scale: 1 shift: 0 } }",
    "relu": "ReLU conv -> y { relu_param { negative_slope: 1 } }",
    "permute": "Permute conv -> y { permute_param { order: 0 order: 1 } }",
    "pooling": "Pooling conv -> y { pooling_param { kernel_size: 1 } }",
    "pooling_sides": "Pooling conv -> y { pooling_param { pool: AVE kernel_h: 1 kernel_w: 1 } }",
    "reshape": "Reshape conv -> y { reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 } } }",
}
NO_IDENTITIES = {
    "power": "Power conv -> y { power_param { scale: 1.001 } }",
    "permute": "Permute conv -> y { permute_param { order: 0 order: 2 } }",
    "squared": "Power conv -> y { power_param { power: 2 } }",
    "relu": "ReLU conv -> y",
    "pooling": "Pooling conv -> y { pooling_param { kernel_size: 2 } }",
    "pooling_stride": "Pooling conv -> y { pooling_param { kernel_size: 1 stride: 2 } }",
    "pooling_oblong": "Pooling conv -> y { pooling_param { kernel_h: 1 kernel_w: 2 } }",
    "pooling_pad": "Pooling conv -> y { pooling_param { kernel_size: 2 pad: 1 stride: 2 } }",
    "pooling_global": "Pooling conv -> y { pooling_param { pool: AVE global_pooling: true } }",
    "reshape": "Reshape conv -> y { reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 1 } } }",
    "reshape_fewer": "Reshape conv -> y { reshape_param { shape { dim: 0 dim: 0 } num_axes: 2 } }",
    "flatten": "Flatten conv -> y",
    "softmax": "Softmax conv -> y",
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_goes(merged: Merger, name: str) -> None:
    """It goes, and the net behind it reads on."""
    result = merged(*START, f"id: {IDENTITIES[name]}", "tanh: TanH y -> out")
    assert result.names == ["conv", "relu", "tanh"]


@pytest.mark.parametrize("name", NO_IDENTITIES)
def test_stays(merged: Merger, name: str) -> None:
    """What looks like one and is none stays."""
    lines = [*START, f"id: {NO_IDENTITIES[name]}", "tanh: TanH y -> out"]
    result = merged(*lines, only=["drop-identity"])
    assert result.names == ["conv", "relu", "id", "tanh"]
    assert not result.report.changes


@pytest.mark.parametrize(
    ("layer", "unit", "other"),
    [
        ("Scale conv -> y { scale_param { bias_term: true } }", [1, 0], [1, 1e-7]),
        ("Scale conv -> y", [1], [1.0000001]),
        ("Bias conv -> y", [0], [1e-30]),
        ("PReLU conv -> y", [1], [0.9999999]),
    ],
)
def test_by_its_values(
    merged: Merger, layer: str, unit: "list[float]", other: "list[float]"
) -> None:
    """A Scale of 1 and 0 goes; one in which a single value differs is none."""
    lines = [*START, f"id: {layer}", "tanh: TanH y -> out"]
    values = [np.full(6, float(value)) for value in unit]
    result = merged(*lines, weights={"id": values})
    assert result.names == ["conv", "relu", "tanh"]
    values[-1][4] = other[-1]
    result = merged(*lines, weights={"id": values}, only=["drop-identity"])
    assert result.names == ["conv", "relu", "id", "tanh"]


def test_flat_blobs(merged: Merger) -> None:
    """Flatten of a blob of two axes does nothing."""
    ip = "ip: InnerProduct data -> ip { inner_product_param { num_output: 4 } }"
    result = merged("data 3 5", ip, "flat: Flatten ip -> flat", "tanh: TanH flat -> out")
    assert result.names == ["ip", "tanh"]


def test_dropout_hides_a_batch_norm(merged: Merger) -> None:
    """A Dropout between Convolution and BatchNorm goes first, then the BatchNorm folds."""
    result = merged("data 2 5 8 7", CONV, "drop: Dropout conv -> conv", "bn: BatchNorm conv -> bn",
                    "split: Split bn -> s", "scale: Scale s -> out")  # fmt: skip
    assert result.names == ["conv"]


# How the Dropout is placed: lines behind conv and relu, and the layers that stay.
PLACES = {
    "in_place": (["d: Dropout conv -> conv", "t: TanH conv -> out"], ["t"]),
    "apart": (["d: Dropout conv -> d", "t: TanH d -> out"], ["t"]),
    "then_in_place": (["d: Dropout conv -> d", "t: TanH d -> d", "e: BNLL d -> out"], ["t", "e"]),
    "output_in_place": (["d: Dropout conv -> conv"], []),
    "output": (["d: Dropout conv -> out"], []),
    "two_of_them": (["d: Dropout conv -> d", "e: Dropout d -> e", "t: TanH e -> e"], ["t"]),
    "output_of_two": (["d: Dropout conv -> d", "e: Dropout d -> e"], []),
    "read_beside": (["d: Dropout conv -> d", "t: TanH conv -> t", "s: Eltwise d t -> out"],
                    ["t", "s"]),
    "read_twice": (["d: Dropout conv -> d", "s: Eltwise d d -> out"], ["s"]),
    "in_place_beside": (["d: Dropout conv -> d", "u: TanH d -> d", "t: BNLL conv -> t",
                         "s: Eltwise d t -> out"], ["u", "t", "s"]),
    "many_readers": (["d: Dropout conv -> d", "t: TanH d -> t", "e: BNLL d -> e"], ["t", "e"]),
    "split_in_three": (["d: Split conv -> a b c", "t: TanH a -> t", "e: BNLL b -> e",
                        "s: Eltwise t e c -> out"], ["t", "e", "s"]),
    "split_unused": (["d: Split conv -> a b", "x: Silence b -> ", "t: TanH a -> out"], ["x", "t"]),
    "behind_a_split": (["s: Split conv -> p q", "d: Dropout p -> d", "t: TanH d -> d"], ["s", "t"]),
    "split_in_one": (["d: Split conv -> a", "t: TanH a -> a"], ["t"]),
    "in_place_behind_a_flatten": (["f: Flatten conv -> f", "d: Dropout f -> f", "t: TanH f -> t"],
                                  ["f", "t"]),
    "beside_a_reader": (["s: Split conv -> p q", "d: Dropout p -> p", "t: TanH p -> t",
                         "u: TanH q -> u"], ["t", "u"]),
    "shared_memory_alone": (["d: Concat conv -> a", "f: Flatten a -> f", "t: TanH f -> f"],
                            ["f", "t"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_places(merged: Merger, name: str) -> None:
    """In place or not, one reader or many: it goes and no name changes its meaning."""
    lines, left = PLACES[name]
    assert merged(*START, *lines).names == ["conv", "relu", *left]


# Where it cannot go: lines behind the input, the layer, the reason.
STAYS = {
    "input_to_output": (["d: Dropout data -> out"], "d", "joins a net input to a net output"),
    "input_in_place_to_output": (["r: ReLU data -> data", "d: Dropout data -> out"], "d",
                                 "joins a net input to a net output"),
    "output_beside_a_reader": ([CONV, "d: Dropout conv -> out", "t: TanH conv -> t"], "d",
                               "net output 'out' would have readers"),
    "two_outputs_of_one": ([CONV, "d: Dropout conv -> a", "e: Dropout conv -> b"], "d",
                           "net output 'a' would have readers"),
    "split_to_outputs": ([CONV, "d: Split conv -> a b"], "d", "2 net outputs could not all keep"),
    "split_to_an_output": ([CONV, "d: Split conv -> a b", "t: TanH b -> t"], "d",
                           "net output 'a' would have readers"),
    "written_in_place": ([CONV, "d: Split conv -> a b", "t: TanH a -> a", "e: BNLL b -> e"], "d",
                         "memory is written in place that others see"),
    "written_behind_a_split": ([CONV, "s: Split conv -> p q", "d: Dropout p -> a",
                                "f: Flatten a -> f", "t: TanH f -> f"], "d",
                               "memory is written in place"),
    "input_written_in_place": (["d: Concat data -> a", "t: TanH a -> a"], "d",
                               "memory is written in place"),
    "copied_before_written": ([CONV, "d: Dropout conv -> a", "f: Flatten a -> f", "t: TanH f -> f",
                               "e: BNLL conv -> e"], "d", "memory is written in place"),
    "copied_long_before": ([CONV, "d: Dropout conv -> a", "f: Flatten a -> f", "c: Concat f -> g",
                            "s: Split g -> p", "t: TanH p -> p", "e: BNLL conv -> e"], "d",
                            "memory is written in place"),
    "beside_a_write": ([CONV, "s: Split conv -> p q", "d: Dropout q -> out", "t: TanH p -> p"],
                       "d", "memory is written in place"),
    "input_copied_before": (["d: Dropout data -> a", "f: Flatten a -> f", "t: TanH f -> f"], "d",
                            "memory is written in place"),
    "train": ([CONV, "d: Dropout conv -> d { phase: TRAIN dropout_param { dropout_ratio: 0 } }",
               "t: TanH d -> t"], "d", "phase is TRAIN"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_stays_and_says_why(merged: Merger, name: str) -> None:
    """Net outputs keep their names; what still drops stays."""
    lines, layer, reason = STAYS[name]
    merged("data 2 5 8 7", *lines).refused(layer, reason)


def test_on_a_net_input(merged: Merger) -> None:
    """The input keeps its name, whoever reads it."""
    result = merged("data 2 5 8 7", "d: Dropout data -> d", CONV.replace("data", "d"))
    assert result.names == ["conv"]
    assert list(result.layer("conv").param.bottom) == ["data"]
    assert merged("data 2 5 8 7", "d: Dropout data -> data", CONV).names == ["conv"]
    assert merged("data 2 5 8 7", "d: Dropout data -> data").names == []


# Dropouts of forks: scale_train false multiplies by 1 - ratio at test time.
TIMES = "d: Dropout {} -> d {{ dropout_param {{ dropout_ratio: 0.3 scale_train: false }} }}"


IP = "ip: InnerProduct data -> ip { inner_product_param { num_output: 4 } }"
STATISTICS = [np.arange(4.0), np.arange(1.0, 5), np.ones(1)]
MULTIPLIED = {
    "folded": ([IP, TIMES.format("ip"), "t: TanH d -> out"], ["ip", "t"]),
    "folded_with_others": ([IP, TIMES.format("ip"), "b: BatchNorm d -> out"], ["ip"]),
    "into_a_scale": ([IP, "r: ReLU ip -> r", TIMES.format("r"), "b: BatchNorm d -> out"],
                     ["ip", "r", "b"]),
    "becomes_a_scale": (["r: ReLU data -> r", TIMES.format("r"),
                         "p: Power d -> out { power_param { shift: 1 } }"], ["r", "d"]),
    "kept": (["r: ReLU data -> r", TIMES.format("r"), "t: TanH d -> out"], ["r", "d", "t"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIPLIED)
def test_dropout_that_multiplies(merged: Merger, name: str) -> None:
    """It is a multiplication at test time, folded as one or kept; a Power says which."""
    lines, names = MULTIPLIED[name]
    shape = "data 3 5 2"
    weights = {"b": STATISTICS} if "b:" in " ".join(lines) else {}
    result = merged(shape, *lines, weights=weights)
    assert result.names == names
    body = "dropout_param { dropout_ratio: 0.3 scale_train: false }"
    power = [line.replace(body, "power_param { scale: 0.7 }") for line in lines]
    power = [line.replace("d: Dropout", "d: Power") for line in power]
    plain = merged(shape, *power, weights=weights, only=["drop-identity"]).before
    inputs = random_inputs(plain)
    assert_equal(run(plain, inputs), run(result.after, inputs), 1e-6)
    if name == "kept":
        result.refused("d", "fed by 'r', a ReLU")
    if name == "becomes_a_scale":
        assert result.layer("d").type == "Scale"
        assert "dropout_param" not in result.text  # the fork's field went with it


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("scale_train: true", ["conv", "relu", "t"]),
        ("sample_weights_test: false", ["conv", "relu", "t"]),
        ("engine: CUDNN", ["conv", "relu", "t"]),
        ("random_seed: -1", ["conv", "relu", "t"]),
        ("sqrt_scale: true", ["conv", "relu", "t"]),
        ("dropout_ratio: 0 scale_train: false", ["conv", "relu", "t"]),
        ("sample_weights_test: true", ["conv", "relu", "d", "t"]),
        ("sample_weights_test: true scale_train: false", ["conv", "relu", "d", "t"]),
        ("mystery: 3", ["conv", "relu", "d", "t"]),
    ],
)
def test_fields_of_forks(merged: Merger, field: str, names: "list[str]") -> None:
    """Fields known to change nothing are harmless; one that drops at test time is not."""
    lines = [*START, f"d: Dropout conv -> d {{ dropout_param {{ {field} }} }}", "t: TanH d -> out"]
    result = merged(*lines)
    assert result.names == names
    if "sample_weights_test: true" in field:
        result.refused("d", "sample_weights_test is true")
    if "mystery" in field:
        result.refused("d", "dropout_param.mystery is a fork's field, whose effect is not known")


@pytest.mark.parametrize(("coeff", "gone"), [("", True), ("coeff: 1", True), ("coeff: 2", False)])
def test_eltwise_of_one(coeff: str, gone: bool, tmp_path: Path) -> None:
    """Caffe itself wants two bottoms; nets that were cut by hand have one."""
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "t" type: "TanH" bottom: "x" top: "t" }\n'
        'layer { name: "e" type: "Eltwise" bottom: "t" top: "e" eltwise_param { COEFF } }\n'
    ).replace("COEFF", coeff)
    net = load(tmp_path, text, {"t": []})
    caffe_merge.merge(net)
    assert [layer.name for layer in net.layers] == (["x", "t"] if gone else ["x", "t", "e"])
    assert net.layers[-1].param.top == ["e"]


def test_a_permute_that_shares_its_memory(merged: Merger) -> None:
    """A layer that writes over its top writes over its bottom too, which others see: it stays."""
    lines = ["a: TanH data -> a", "id: Permute a -> b { permute_param { order: 0 order: 1 } }",
             "w: ReLU b -> b", "n: Sigmoid b -> n", "o: AbsVal a -> o"]  # fmt: skip
    result = merged("data 2 5", *lines)
    result.refused("id", "memory is written in place that others see as it is now")

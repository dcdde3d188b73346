"""affine-as: it fires, it refuses with its reason, and what it writes is right."""

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import UsageError
from tests.merger import Merger
from tests.nets import load_pair, prototxt, write_pair

IN = "data 2 12 9 11"
CAT = "cat: Concat data data -> x"  # behind it nothing goes back
SCALE = "scale: Scale x -> s { scale_param { bias_term: true } }"
BN = "bn: BatchNorm x -> s"
PADDED = "c: Convolution s -> c { convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }"

LEFT: Dict[str, List[str]] = {
    "scale": [SCALE, PADDED],
    "no_bias": ["scale: Scale x -> s", "t: TanH s -> t"],
    "one_value": ["scale: Scale x -> s { scale_param { num_axes: 0 } }", "t: TanH s -> t"],
    "from_the_end": ["scale: Scale x -> s { scale_param { axis: -3 } }", "t: TanH s -> t"],
    "bias": ["scale: Bias x -> s", "t: TanH s -> t"],
    "batch_norm": ["scale: BatchNorm x -> s", PADDED],
    "several_readers": [SCALE, PADDED, "t: TanH s -> t"],
    "net_output": [SCALE],
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_becomes_a_convolution(merged: Merger, name: str) -> None:
    """One group a channel, one tap."""
    result = merged(IN, CAT, *LEFT[name], affine_as="conv")
    layer = result.layer("scale")
    conv_param = layer.param.convolution_param
    assert layer.type == "Convolution"
    assert (conv_param.num_output, conv_param.group, list(conv_param.kernel_size)) == (24, 24, [1])
    assert layer.blobs[0].shape == (24, 1, 1, 1)
    assert conv_param.bias_term == (len(layer.blobs) == 2) == (name not in ("no_bias", "one_value",
                                                                     "from_the_end"))  # fmt: skip
    assert result.fate("scale").detail == "became a depthwise Convolution of 1x1"
    assert "scale_param" not in result.text


def test_in_place(merged: Merger) -> None:
    """A convolution cannot write over its bottom, so that gets another name."""
    lines = ["scale: Scale x -> x { scale_param { bias_term: true } }", "r: ReLU x -> x"]
    result = merged(IN, CAT, *lines, "t: TanH x -> t", affine_as="conv")
    (bottom,), (top,) = result.layer("scale").param.bottom, result.layer("scale").param.top
    assert (bottom, top) == ("cat_merged", "x")
    assert list(result.layer("r").param.bottom) == list(result.layer("r").param.top) == ["x"]


def test_behind_another_in_place(merged: Merger) -> None:
    """The whole chain below it has the other name."""
    lines = ["r: TanH x -> x", "scale: Scale x -> x", "t: TanH x -> x"]
    result = merged(IN, CAT, *lines, affine_as="conv")
    assert [list(result.layer(name).param.top) for name in ("cat", "r", "scale", "t")] == [
        ["r_merged"], ["r_merged"], ["x"], ["x"],
    ]  # fmt: skip


def test_other_passes_come_first(merged: Merger) -> None:
    """What folds folds: only what is left changes its form."""
    conv = "c: Convolution data -> x { convolution_param { num_output: 6 kernel_size: 3 } }"
    assert merged(IN, conv, SCALE, "t: TanH s -> t", affine_as="conv").names == ["c", "t"]
    more = "more: Scale s -> m { scale_param { bias_term: true } }"
    result = merged(IN, CAT, BN, more, "t: TanH m -> t", affine_as="conv")
    assert result.names == ["cat", "more", "t"]
    assert result.layer("more").type == "Convolution"


REFUSED: Dict[str, Tuple[List[str], str]] = {
    "two_axes": (
        ["f: InnerProduct data -> f { inner_product_param { num_output: 6 } }", "h: TanH f -> x",
         SCALE],
        "its bottom has 2 axes, a convolution wants 4",
    ),
    "another_axis": (
        [CAT, "scale: Scale x -> s { scale_param { axis: 3 } }"],
        "it acts along axis 3",
    ),
    "several_axes": (
        [CAT, "scale: Scale x -> s { scale_param { num_axes: 2 } }"],
        r"it varies along axes \[1, 2\]",
    ),
    "net_input": (
        ["scale: Scale data -> data { scale_param { bias_term: true } }"],
        "it is written over 'data', which keeps its name",
    ),
    "two_bottoms": (
        [CAT, "scale: Scale x x -> s { scale_param { axis: 0 } }"],
        "its factor is another blob",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_stays_a_scale(merged: Merger, name: str) -> None:
    """And why."""
    lines, reason = REFUSED[name]
    merged(IN, *lines, affine_as="conv").refused("scale", reason)


def test_keep(merged: Merger) -> None:
    result = merged(IN, CAT, SCALE, PADDED, affine_as="conv", keep=["scale"])
    result.refused("scale", "kept as asked with keep")


DIAGONAL = "d: Convolution x -> s { convolution_param { num_output: 24 group: 24 kernel_size: 1 } }"
NOT_DIAGONAL = {
    "stride": DIAGONAL.replace("kernel_size: 1", "kernel_size: 1 stride: 2"),
    "pad": DIAGONAL.replace("kernel_size: 1", "kernel_size: 1 pad: 1"),
    "window": DIAGONAL.replace("kernel_size: 1", "kernel_size: 3 pad: 1"),
    "groups": DIAGONAL.replace("group: 24", "group: 12"),
    "outputs": DIAGONAL.replace("num_output: 24", "num_output: 48"),
}


@pytest.mark.parametrize("bias", ["true", "false"])
def test_the_reverse(merged: Merger, bias: str) -> None:
    """A depthwise convolution of 1x1 becomes a Scale."""
    line = DIAGONAL.replace("kernel_size", f"bias_term: {bias} kernel_size")
    result = merged(IN, CAT, line, "t: TanH s -> t", affine_as="scale")
    assert result.layer("d").type == "Scale"
    assert [blob.shape for blob in result.layer("d").blobs] == [(24,)] * (1 + (bias == "true"))


def test_the_reverse_folds_on(merged: Merger) -> None:
    """What was no affine layer before goes back through a ReLU, as a Scale does."""
    conv = "c: Convolution data -> c { convolution_param { num_output: 24 kernel_size: 3 } }"
    line = DIAGONAL.replace("kernel_size", "bias_term: false kernel_size")
    lines = [IN, conv, "r: ReLU c -> x", line, "t: TanH s -> t"]
    weights = {"d": [np.linspace(0.5, 2.0, 24).reshape(24, 1, 1, 1)]}
    assert merged(*lines, weights=weights, affine_as="scale").names == ["c", "r", "t"]
    assert merged(*lines, weights=weights).names == ["c", "r", "d", "t"]


@pytest.mark.parametrize("name", NOT_DIAGONAL)
def test_other_convolutions_stay(merged: Merger, name: str) -> None:
    result = merged(IN, CAT, NOT_DIAGONAL[name], "t: TanH s -> t", affine_as="scale")
    assert result.layer("d").type == "Convolution"


def test_convolutions_that_are_kept_stay(merged: Merger) -> None:
    result = merged(IN, CAT, DIAGONAL, "t: TanH s -> t", affine_as="scale", keep=["d"])
    result.refused("d", "kept as asked")


@pytest.mark.parametrize("keep", [[], ["more"]])
def test_what_shares_its_weights(merged: Merger, keep: List[str]) -> None:
    """It goes on to share them with those that have the same form."""
    lines = ["scale: Scale data -> s { param { name: 'w' } }", "t: TanH s -> t",
             "more: Scale t -> m { param { name: 'w' } }"]  # fmt: skip
    result = merged(IN, *lines, affine_as="conv", keep=keep)
    assert result.layer("scale").type == "Convolution"
    specs = [result.layer(name).param.param for name in ("scale", "more")]
    assert [[spec.name for spec in layer_specs] for layer_specs in specs] == [
        ["" if keep else "w"],
        ["w"],
    ]
    body = "num_output: 24 group: 24 kernel_size: 1 bias_term: false } param { name: 'w' }"
    line = f"d: Convolution x -> s {{ convolution_param {{ {body} }}"
    other = f"e: Convolution t -> e {{ convolution_param {{ {body} }}"
    result = merged(IN, CAT, line, "t: TanH s -> t", other, affine_as="scale")
    assert [result.layer(name).type for name in "de"] == ["Scale", "Scale"]
    assert [result.layer(name).param.param[0].name for name in "de"] == ["w", "w"]


@pytest.mark.parametrize("first", ["conv", "scale"])
def test_a_merge_without_the_flag_changes_nothing(tmp_path: Path, first: str) -> None:
    """Whatever the form, no other pass takes it back."""
    text = prototxt(IN, CAT, SCALE, PADDED, "u: TanH c -> u", DIAGONAL.replace("x -> s", "x -> e"))
    pair = write_pair(tmp_path, text)
    net = load_pair(pair)
    caffe_merge.merge(net, affine_as=first)
    once = (tmp_path / "once.prototxt", tmp_path / "once.caffemodel")
    caffe_merge.save(net, str(once[0]), str(once[1]))
    assert {layer.name: layer.type for layer in net.layers if layer.name in ("scale", "d")} == (
        dict.fromkeys(("scale", "d"), "Convolution" if first == "conv" else "Scale")
    )
    again = load_pair(once)
    assert caffe_merge.merge(again).changes == []
    out = (tmp_path / "twice.prototxt", tmp_path / "twice.caffemodel")
    caffe_merge.save(again, str(out[0]), str(out[1]))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in out]


def test_choices(tmp_path: Path) -> None:
    text = prototxt(IN, CAT, SCALE)
    pair = write_pair(tmp_path, text)
    for name, choice in (("affine_as", "Scale"), ("serial", "sometimes")):
        with pytest.raises(UsageError, match=f"{name}: expected one of .*, found '{choice}'"):
            caffe_merge.merge(load_pair(pair), **{name: choice})

"""merge-branches: what an Eltwise adds up of one blob becomes one convolution."""

from typing import Dict, List, Tuple

import pytest

from tests.passes.support import Merger

IN = "data 2 6 9 11"


def conv(name: str, body: str, bottom: str = "data", outputs: int = 6) -> str:
    """A Convolution that writes a blob of its own name."""
    own = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {own} }}"


def branches(*lines: str, sums: str = "", bottoms: str = "", param: str = "") -> List[str]:
    """The layers ``lines``, their Eltwise, and what reads it."""
    names = bottoms or " ".join(line.split(":")[0] for line in lines)
    own = f" {{ eltwise_param {{ {param} }} }}" if param else ""
    return [IN, *lines, f"sum: Eltwise {names}{sums} -> sum{own}", "relu: ReLU sum -> relu"]


K3, K1 = "kernel_size: 3 pad: 1", "kernel_size: 1"
DW = "group: 6 bias_term: false"
SCALE = "scale: Scale data -> scale { scale_param { bias_term: true } }"
BN = "bn: BatchNorm data -> bn"

# What is summed, and the kernel, pad and group of the one convolution that it becomes.
ONE: Dict[str, Tuple[List[str], Tuple[int, int], Tuple[int, int], int]] = {
    "repvgg": (branches(conv("a", K3), conv("b", K1), sums=" data"), (3, 3), (1, 1), 1),
    "repvgg_bn": (branches(conv("a", K3), conv("b", K1), BN), (3, 3), (1, 1), 1),
    "acnet": (
        branches(
            conv("a", K3),
            conv("b", "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1"),
            conv("c", "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0"),
        ),
        (3, 3), (1, 1), 1,
    ),
    "replknet": (
        branches(
            conv("a", f"kernel_size: 7 pad: 3 {DW}"), conv("b", f"kernel_size: 5 pad: 2 {DW}"),
        ),
        (7, 7), (3, 3), 6,
    ),
    "skip": (branches(conv("a", K3), sums=" data"), (3, 3), (1, 1), 1),
    "skip_and_scale": (branches(conv("a", K3), SCALE, sums=" data"), (3, 3), (1, 1), 1),
    "depthwise_beside_dense": (branches(conv("a", K3), conv("b", f"{K3} {DW}")), (3, 3), (1, 1), 1),
    "groups_2_and_3": (
        branches(conv("a", "kernel_size: 3 pad: 1 group: 2"), conv("b", K3), sums=" data"),
        (3, 3), (1, 1), 1,
    ),
    "even": (branches(conv("a", "kernel_size: 4 pad: 1"), conv("b", "kernel_size: 2")),
             (4, 4), (1, 1), 1),
    "dilated": (branches(conv("a", "kernel_size: 3 pad: 2 dilation: 2"), conv("b", K1)),
                (3, 3), (2, 2), 1),
    "strided": (
        branches(
            conv("a", f"{K3} stride: 3"),
            conv("b", f"{K1} stride: 3"),
            conv("c", "kernel_size: 2 stride: 3 pad: 0"),
        ),
        (3, 3), (1, 1), 1,
    ),
    "mean": (
        branches(
            conv("a", K3),
            "m: Pooling data -> m { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }",
        ),
        (3, 3), (1, 1), 1,
    ),
    "chain": (
        branches(
            conv("b1", K1), conv("b2", "kernel_size: 3 bias_term: false", "b1", 5),
            conv("c", "kernel_size: 3", outputs=5), bottoms="b2 c",
        ),
        (3, 3), (0, 0), 1,
    ),
    "mean_behind_1x1": (
        branches(
            conv("b", "kernel_size: 1 bias_term: false", outputs=5),
            "m: Pooling b -> m { pooling_param { pool: AVE kernel_size: 3 pad: 1 } }",
            conv("c", K3, outputs=5), bottoms="c m",
        ),
        (3, 3), (1, 1), 1,
    ),
    "coefficients": (
        branches(conv("a", K3), conv("b", K1), sums=" data",
                 param="coeff: 0.5 coeff: -2 coeff: 3"),
        (3, 3), (1, 1), 1,
    ),
    "other_order": (branches(conv("b", K1), conv("a", K3), bottoms="data b a"), (3, 3), (1, 1), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_branches_of_one_blob(merged: Merger, name: str) -> None:
    """They become one convolution whose kernel has the taps of all, and the Eltwise is gone."""
    lines, kernel, pad, group = ONE[name]
    result = merged(*lines)
    (left, relu) = result.names
    assert relu == "relu"
    layer = result.layer(left)
    assert layer.type == "Convolution"
    assert list(layer.param.top) == ["sum"]
    assert layer.blobs[0].shape[2:] == kernel
    own = layer.param.convolution_param
    assert own.group == group
    pads = (own.pad_h, own.pad_w) if own.HasField("pad_h") else (*own.pad, 0, 0)[:1] * 2
    assert pads == pad


def test_nested_sums(merged: Merger) -> None:
    """The inner sum is a branch of the outer one."""
    result = merged(
        IN,
        conv("a", K3),
        conv("b", K1),
        "inner: Eltwise a b -> inner",
        conv("c", K1),
        "outer: Eltwise inner c data -> outer",
        "relu: ReLU outer -> relu",
    )
    assert result.names == ["a", "relu"]


def test_some_of_the_bottoms(merged: Merger) -> None:
    """Two bottoms come from one blob, the others not: the two become one."""
    result = merged(
        IN,
        "tanh: TanH data -> tanh",
        conv("a", K3),
        conv("b", K1),
        "sum: Eltwise tanh a b -> sum { eltwise_param { coeff: 2 coeff: -1 coeff: 0.5 } }",
        "relu: ReLU sum -> relu",
    )
    assert result.names == ["tanh", "a", "sum", "relu"]
    param = result.layer("sum").param
    assert list(param.eltwise_param.coeff) == [2, 1]
    assert param.bottom[1] not in ("a", "b"), "a blob of another value under an old name"


def test_two_pairs_of_bottoms(merged: Merger) -> None:
    """Each pair of another blob."""
    result = merged(
        IN,
        "tanh: TanH data -> tanh",
        conv("a", K3),
        conv("b", K1),
        conv("c", K3, "tanh"),
        conv("d", K1, "tanh"),
        "sum: Eltwise c b a d -> sum",
        "relu: ReLU sum -> relu",
    )
    assert result.names == ["tanh", "a", "c", "sum", "relu"]


def test_the_sum_is_a_net_output(merged: Merger) -> None:
    """It keeps its name."""
    result = merged(IN, conv("a", K3), conv("b", K1), "sum: Eltwise a b -> out")
    assert list(result.layer("a").param.top) == ["out"]


def test_written_in_place_afterwards(merged: Merger) -> None:
    """What follows the sum writes over the convolution's top now."""
    result = merged(
        IN, conv("a", K3), conv("b", K1), "sum: Eltwise a b -> s", "relu: ReLU s -> s",
        "t: TanH s -> t",
    )  # fmt: skip
    assert result.names == ["a", "relu", "t"]


def test_strides_that_fit_some_inputs_only(merged: Merger) -> None:
    """3x3 pad 1, 1x1 and 2x2 with stride 2 agree on even sizes; merged, they do so too."""
    lines = branches(
        conv("a", f"{K3} stride: 2"),
        conv("b", f"{K1} stride: 2"),
        conv("c", "kernel_size: 2 stride: 2"),
    )[1:]
    assert merged("data 2 6 8 10", *lines).names == ["a", "relu"]

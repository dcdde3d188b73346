"""merge-branches: what an Eltwise adds up of one blob becomes one convolution."""

import re
from typing import Dict, List, Tuple

import pytest

from caffe_merge.errors import NetError
from tests.merger import Merger

IN = "data 2 6 9 11"


def conv(name: str, body: str, bottom: str = "data", outputs: int = 6) -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


def branches(*lines: str, sums: str = "", bottoms: str = "", param: str = "") -> List[str]:
    """The layers ``lines``, their Eltwise, and what reads it."""
    names = bottoms or " ".join(line.split(":")[0] for line in lines)
    fields = f" {{ eltwise_param {{ {param} }} }}" if param else ""
    return [IN, *lines, f"sum: Eltwise {names}{sums} -> sum{fields}", "relu: ReLU sum -> relu"]


K3, K1 = "kernel_size: 3 pad: 1", "kernel_size: 1"
DW = "group: 6 bias_term: false"
SCALE = "scale: Scale data -> scale { scale_param { bias_term: true } }"
BN = "bn: BatchNorm data -> bn"

# What is summed, and the kernel, pad and group of the one convolution that it becomes.
INTO_ONE: Dict[str, Tuple[List[str], Tuple[int, int], Tuple[int, int], int]] = {
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


@pytest.mark.parametrize("name", INTO_ONE)
def test_branches_of_one_blob(merged: Merger, name: str) -> None:
    """They become one convolution whose kernel has the taps of all, and the Eltwise is gone."""
    lines, kernel, pad, group = INTO_ONE[name]
    result = merged(*lines)
    (left, relu) = result.names
    assert relu == "relu"
    layer = result.layer(left)
    assert layer.type == "Convolution"
    assert list(layer.param.top) == ["sum"]
    assert layer.blobs[0].shape[2:] == kernel
    conv_param = layer.param.convolution_param
    assert conv_param.group == group
    pads = (
        (conv_param.pad_h, conv_param.pad_w)
        if conv_param.HasField("pad_h")
        else (*conv_param.pad, 0, 0)[:1] * 2
    )
    assert pads == pad


def test_fields_that_say_so_already(merged: Merger) -> None:
    """They stay as they were written."""
    lines = branches(conv("a", "kernel_h: 3 kernel_w: 3 pad: 1 pad: 1"), conv("b", K1))
    conv_param = merged(*lines).layer("a").param.convolution_param
    assert (
        conv_param.kernel_h,
        conv_param.kernel_w,
        list(conv_param.pad),
        list(conv_param.kernel_size),
    ) == (3, 3, [1, 1], [])


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
    assert result.names == ["c", "relu"]
    assert result.layer("c").blobs[0].shape == (6, 6, 3, 3)
    assert len(result.report.changes) == 1


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


MEAN = "m: Pooling data -> m { pooling_param { pool: AVE %s } }"

# The layers, what the Eltwise adds, and why that stays.
REFUSED: Dict[str, Tuple[List[str], str]] = {
    "strides": (
        ["data 2 6 5 5", conv("a", "kernel_size: 3"), conv("b", "kernel_size: 1 stride: 2")],
        "branch from 'data' through 'b' stays: the branches differ in their strides",
    ),
    "mean_that_sticks_out": (
        ["data 2 6 8 8", conv("a", f"{K3} stride: 2"), MEAN % "kernel_size: 2 stride: 2"],
        "through 'm' stays: the last window of a mean may stick out of the input",
    ),
    "mean_behind_a_wider_border": (
        ["data 2 6 7 7", conv("a", "kernel_size: 3 pad: 2 stride: 2"),
         conv("c", "kernel_size: 1 pad: 1 bias_term: false"),
         "m: Pooling c -> m { pooling_param { pool: AVE kernel_size: 2 stride: 2 } }"],
        "through 'c', 'm' stays: the two reach differently beyond the borders",
    ),
    "two_strided_in_a_row": (
        ["data 2 6 9 9", conv("a", "kernel_size: 3 stride: 4"),
         "m: Pooling data -> c { pooling_param { pool: AVE kernel_size: 3 stride: 2 } }",
         conv("d", "kernel_size: 1 stride: 2", "c")],
        "through 'm', 'd' stays: the last window of a mean may stick out of the input",
    ),
    "border_of_a_bias": (
        [IN, conv("a", K3), conv("b", K1), conv("c", K3, "b")],
        "through 'b', 'c' stays: the second pads what the first gave a bias",
    ),
    "border_of_a_window": (
        [IN, conv("a", "kernel_size: 5 pad: 2"), conv("b", f"{K3} bias_term: false"),
         conv("c", K3, "b")],
        "through 'b', 'c' stays: the second pads, and the first would reach into the input",
    ),
    "multiply_adds": (
        [IN, conv("a", f"{K3} {DW}"), conv("b", K1)], "more multiply-adds than its branches",
    ),
    "a_mean_is_free": (
        [IN, conv("a", "kernel_size: 1 group: 6"), MEAN % "kernel_size: 3 pad: 1"],
        "through 'm' stays: one convolution would take more multiply-adds",
    ),
    "weights": (
        ["data 2 6 32 32", conv("b", "kernel_size: 1 bias_term: false"),
         conv("c", "kernel_size: 5 stride: 16 group: 6", "b"), conv("a", f"{K1} stride: 16")],
        "more weights than its branches",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_they_stay(merged: Merger, name: str) -> None:
    """And the reason is told, with the branch that it is about."""
    lines, reason = REFUSED[name]
    tops = [re.split("[ >]+", line.split("->")[1].strip())[0] for line in lines[1:]]
    read = " ".join(top for top in tops if not any(f" {top} ->" in line for line in lines))
    result = merged(*lines, f"sum: Eltwise {read} -> sum", "relu: ReLU sum -> relu", serial="never")
    assert result.names == [*(line.split(":")[0] for line in lines[1:]), "sum", "relu"]
    result.refused("sum", reason)


@pytest.mark.parametrize("name", ["coeff: 0.5", "coeff: 1 coeff: 1 coeff: 2"])
def test_another_number_of_coeff(merged: Merger, name: str) -> None:
    """Caffe has one for each bottom."""
    with pytest.raises(NetError, match="coeff"):
        merged(*branches(conv("a", K3), conv("b", K1), param=name))


@pytest.mark.parametrize("operation", ["PROD", "MAX"])
def test_no_sum(merged: Merger, operation: str) -> None:
    """Another operation is not linear."""
    lines = branches(conv("a", K3), conv("b", K1), param=f"operation: {operation}")
    assert merged(*lines).names == ["a", "b", "sum", "relu"]


def test_over_one_of_its_bottoms(merged: Merger) -> None:
    """Caffe loses that one, so what it computes is no sum."""
    lines = [conv("a", K3), conv("b", K1), "sum: Eltwise a b -> a", "relu: ReLU a -> relu"]
    assert merged(IN, *lines).names == ["a", "b", "sum", "relu"]


@pytest.mark.parametrize("kept", ["a", "b", "sum"])
def test_kept(merged: Merger, kept: str) -> None:
    """A branch that is to stay is none, and so is an Eltwise."""
    result = merged(*branches(conv("a", K3), conv("b", K1)), keep=[kept])
    assert result.names == ["a", "b", "sum", "relu"]


def test_shared_weights(merged: Merger) -> None:
    """One that shares with a layer elsewhere would change for both; two of one sum may."""
    shared = 'num_output: 6 kernel_size: 3 pad: 1 bias_term: false } param { name: "w" '
    lines = [f"{n}: Convolution data -> {n} {{ convolution_param {{ {shared} }} }}" for n in "ab"]
    net = branches(*lines, conv("c", K1))
    assert merged(*net, keep_shared=True).names == ["a", "relu"]
    net.append(f"d: Convolution data -> d {{ convolution_param {{ {shared} }} }}")
    result = merged(*net, keep_shared=True)
    assert result.names == ["a", "b", "c", "sum", "relu", "d"]
    result.refused("sum", "shares its weights with 'd', kept so with keep_shared")
    assert merged(*net).names == ["a", "relu", "d"]


def test_memory_written_by_another(merged: Merger) -> None:
    """Where the branches would read their blob later, or earlier, it is another one by then."""
    result = merged(
        IN,
        conv("x", K1),
        conv("a", K3, "x"),
        "flat: Flatten x -> flat",
        "tanh: TanH flat -> flat",
        conv("b", K1, "x"),
        "sum: Eltwise a b -> sum",
        "relu: ReLU sum -> relu",
    )
    result.refused("sum", "the memory of 'x' is written in place by another")


def test_nothing_to_become(merged: Merger) -> None:
    """A blob and its Scale: there is no convolution, nor is one worth it."""
    result = merged(IN, SCALE, "sum: Eltwise scale data -> sum", "relu: ReLU sum -> relu")
    assert result.names == ["scale", "sum", "relu"]


def test_the_best_part(merged: Merger) -> None:
    """A branch that is cheaper as it is stays, and the others become one without it."""
    narrow = conv("narrow", f"{K1} bias_term: false", outputs=2)
    bottleneck = [narrow, conv("wide", "kernel_size: 5 pad: 2", "narrow")]
    lines = [
        *bottleneck,
        conv("b", K1),
        "sum: Eltwise wide b data -> sum",
        "relu: ReLU sum -> relu",
    ]
    result = merged(IN, *lines)
    assert result.names == ["narrow", "wide", "b", "sum", "relu"]
    assert len(result.layer("sum").param.bottom) == 2


def test_a_global_mean(merged: Merger) -> None:
    """Its window is as large as the input, whatever size that has."""
    mean = "m: Pooling data -> m { pooling_param { pool: AVE global_pooling: true } }"
    lines = branches(conv("a", "kernel_h: 9 kernel_w: 11"), mean)
    assert merged(*lines).names == ["a", "m", "sum", "relu"]


def test_a_blob_added_twice(merged: Merger) -> None:
    """Each time it counts."""
    lines = [conv("a", K3), "sum: Eltwise data a data -> sum", "relu: ReLU sum -> relu"]
    assert merged(IN, *lines).names == ["a", "relu"]
    lines[1] = "sum: Eltwise a data a -> sum"
    assert merged(IN, *lines).names == ["a", "sum", "relu"]


def test_one_spatial_axis_and_three(merged: Merger) -> None:
    """As many as the blob has."""
    for sizes in ("7", "4 5 6"):
        net = [conv("a", K3), conv("b", K1), BN, "s: Eltwise a b bn data -> s", "t: TanH s -> t"]
        assert merged(f"data 2 6 {sizes}", *net).names == ["a", "t"]


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "DepthwiseConv", "ConvolutionDepthwise"])
def test_depthwise_of_forks(merged: Merger, kind: str) -> None:
    """A fork's layer stays one where it is depthwise still, else it is a Convolution."""
    size = "kernel_h: 3 kernel_w: 3 pad_h: 1 pad_w: 1 stride_h: 1 stride_w: 1"
    lines = [conv("a", f"{size} group: 6").replace("Convolution", kind, 1), conv("b", f"{K1} {DW}")]
    result = merged(*branches(*lines, sums=" data"))
    assert result.names == ["a", "relu"]
    assert result.layer("a").type == kind
    lines[1] = conv("b", "kernel_size: 5 pad: 2")
    result = merged(*branches(*lines))
    assert result.names == ["b", "relu"]
    assert result.layer("b").type == "Convolution"


def test_sums_in_sums_without_end(merged: Merger) -> None:
    """However deep: no call for each, and few rounds."""
    lines = [IN]
    for number in range(300):
        before = f"s{number - 1}" if number else "data"
        lines.append(conv(f"c{number}", "kernel_size: 1"))
        lines.append(f"s{number}: Eltwise {before} c{number} -> s{number}")
    result = merged(*lines, limit=1e-5)
    assert len(result.names) == 1
    assert len(result.report.changes) < 20

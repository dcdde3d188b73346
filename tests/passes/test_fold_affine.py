"""fold-affine: where it fires, on every kind of linear layer, and where it must not."""

from typing import Sequence

import numpy as np
import pytest

from tests.merger import Merger

CONV = "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }"
BN = "bn: BatchNorm conv -> bn"
SCALE = "scale: Scale bn -> scale { scale_param { bias_term: true } }"
RELU = "relu: ReLU scale -> out"

# Input shape, then type and text of a layer; all sizes differ, so no swapped axis fits by luck.
LINEAR = {
    "plain": ("2 5 8 7", "Convolution", "num_output: 6 kernel_size: 3"),
    "border": ("2 5 8 7", "Convolution", "num_output: 6 kernel_size: 3 pad: 2 stride: 2"),
    "group": ("2 6 8 7", "Convolution", "num_output: 9 group: 3 kernel_size: 3 pad: 1"),
    "depthwise": ("2 6 8 7", "Convolution", "num_output: 6 group: 6 kernel_size: 3"),
    "many_groups": ("2 24 5 4", "Convolution", "num_output: 72 group: 12 kernel_size: 3"),
    "many_channels": ("1 3 5 4", "Convolution", "num_output: 50 kernel_size: 2"),
    "dilated": ("2 5 9 11", "Convolution", "num_output: 6 kernel_size: 3 dilation: 2"),
    "oblong": (
        "2 5 9 8",
        "Convolution",
        "num_output: 6 kernel_h: 2 kernel_w: 5 pad_h: 1 pad_w: 0 stride_h: 3 stride_w: 2",
    ),
    "per_axis": (
        "2 5 9 8",
        "Convolution",
        "num_output: 6 kernel_size: 4 kernel_size: 3 dilation: 1 dilation: 2 pad: 0 pad: 3",
    ),
    "pointwise": ("2 5 4 3", "Convolution", "num_output: 6 kernel_size: 1"),
    "one_d": ("2 5 9", "Convolution", "num_output: 6 kernel_size: 3 pad: 1"),
    "three_d": (
        "2 3 6 5 7",
        "Convolution",
        "num_output: 4 kernel_size: 2 kernel_size: 3 kernel_size: 1",
    ),
    "axis_from_end": ("2 5 8 7", "Convolution", "num_output: 6 kernel_size: 3 axis: -3"),
    "no_bias": ("2 5 8 7", "Convolution", "num_output: 6 kernel_size: 3 bias_term: false"),
    "one_output": ("2 5 8 7", "Convolution", "num_output: 1 kernel_size: 3"),
    "deconv": ("2 5 4 3", "Deconvolution", "num_output: 6 kernel_size: 3 stride: 2"),
    "deconv_group": ("2 6 4 3", "Deconvolution", "num_output: 8 group: 2 kernel_size: 4 pad: 1"),
    "deconv_depthwise": (
        "2 6 4 3",
        "Deconvolution",
        "num_output: 6 group: 6 kernel_size: 4 stride: 2 pad: 1 bias_term: false",
    ),
    "deconv_groups_apart": ("2 4 4 3", "Deconvolution", "num_output: 12 group: 4 kernel_size: 2"),
    "deconv_padded_away": ("1 3 5 4", "Deconvolution", "num_output: 4 kernel_size: 1 pad: 1"),
    "deconv_three_d": ("1 4 2 3 3", "Deconvolution", "num_output: 6 group: 2 kernel_size: 2"),
    "inner_product": ("2 5 3 2", "InnerProduct", "num_output: 7"),
    "inner_product_t": ("2 5 3 2", "InnerProduct", "num_output: 7 transpose: true"),
    "inner_product_no_bias": ("3 11", "InnerProduct", "num_output: 7 bias_term: false"),
    "inner_product_axis": ("2 5", "InnerProduct", "num_output: 7 axis: -1"),
    "inner_product_wide": ("3 11", "InnerProduct", "num_output: 20 transpose: true"),
}  # fmt: skip


def linear(name: str) -> Sequence[str]:
    """Lines of an input and a linear layer `conv` that reads it."""
    shape, kind, text = LINEAR[name]
    field = "inner_product_param" if kind == "InnerProduct" else "convolution_param"
    return f"data {shape}", f"conv: {kind} data -> conv {{ {field} {{ {text} }} }}"


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("in_place", [True, False], ids=["in_place", "apart"])
def test_linear_layers(merged: Merger, name: str, in_place: bool) -> None:
    """BatchNorm and Scale go into every kind of linear layer."""
    bn, scale = ("conv", "conv") if in_place else ("bn", "scale")
    result = merged(
        *linear(name),
        f"bn: BatchNorm conv -> {bn}",
        f"scale: Scale {bn} -> {scale} {{ scale_param {{ bias_term: true }} }}",
        f"relu: ReLU {scale} -> out",
    )
    assert result.names == ["conv", "relu"]
    assert result.fate("bn").fate == result.fate("scale").fate == "gone"
    assert re_folded(result.fate("bn").detail)
    assert len(result.blobs("conv")) == 2


def re_folded(detail: str) -> bool:
    """Whether a fate says that a layer was folded into `conv`."""
    return detail.startswith("folded into ") and detail.endswith("'conv'")


AFFINES = {
    "bn": ["bn: BatchNorm conv -> t"],
    "bn_scale": ["bn: BatchNorm conv -> b", "s: Scale b -> t"],
    "scale": ["s: Scale conv -> t"],
    "scale_bias": ["s: Scale conv -> t { scale_param { bias_term: true } }"],
    "bias": ["b: Bias conv -> t"],
    "power": ["p: Power conv -> t { power_param { scale: 0.3 shift: -2 } }"],
    "power_negative": ["p: Power conv -> t { power_param { scale: -1.5 } }"],
    "eps": ["bn: BatchNorm conv -> t { batch_norm_param { eps: 0.01 } }"],
    "global_stats": ["bn: BatchNorm conv -> t { batch_norm_param { use_global_stats: true } }"],
    "axis_from_end": ["s: Scale conv -> t { scale_param { axis: -3 bias_term: true } }"],
    "bias_from_end": ["b: Bias conv -> t { bias_param { axis: -3 } }"],
    "scalar": ["s: Scale conv -> t { scale_param { num_axes: 0 bias_term: true } }"],
    "scalar_bias": ["b: Bias conv -> t { bias_param { num_axes: 0 } }"],
    "chain": [
        "p: Power conv -> p { power_param { scale: 2 shift: 1 } }",
        "bn: BatchNorm p -> p",
        "s: Scale p -> s",
        "b: Bias s -> b",
        "bn2: BatchNorm b -> b",
        "p2: Power b -> t { power_param { scale: 0.5 } }",
        "s2: Scale t -> t { scale_param { bias_term: true } }",
    ],
}  # fmt: skip


@pytest.mark.parametrize("producer", ["plain", "no_bias", "deconv_group"])
@pytest.mark.parametrize("name", AFFINES)
def test_affine_layers(merged: Merger, producer: str, name: str) -> None:
    """All that is affine per channel folds, alone and in any order."""
    result = merged(*linear(producer), *AFFINES[name], "relu: ReLU t -> out")
    assert result.names == ["conv", "relu"]


def test_the_fold_is_the_formula(merged: Merger) -> None:
    """W' = scale W, b' = scale b + shift, each rounded to float32 once."""
    weights = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3) / 7
    bias, mean, variance = np.array([1, -2.0]), np.array([30, -60.0]), np.array([40, 10.0])
    gamma, beta = np.array([-0.5, 3]), np.array([0.25, 7])
    result = merged(
        "data 1 3 4 5",
        "conv: Convolution data -> conv { convolution_param { num_output: 2 kernel_size: 3 } }",
        "bn: BatchNorm conv -> bn { batch_norm_param { eps: 0.001 } }",
        SCALE,
        weights={"conv": [weights, bias], "bn": [mean, variance, [10]], "scale": [gamma, beta]},
    )
    scale = gamma / np.sqrt(variance / 10 + float(np.float32(0.001)))
    expected = (scale * (bias - mean / 10) + beta).astype(np.float32)
    np.testing.assert_array_equal(
        result.blobs("conv")[0], (weights * scale[:, None, None, None]).astype(np.float32)
    )
    np.testing.assert_array_equal(result.blobs("conv")[1], expected)


def test_the_last_name_stays(merged: Merger) -> None:
    """The output of the run keeps its name, whoever produces it now."""
    result = merged("data 2 5 8 7", CONV, BN, SCALE)
    assert list(result.layer("conv").param.top) == ["scale"]


def test_bias_is_added_sensibly(merged: Merger) -> None:
    """bias_term is set; where the weights have a param spec, the bias gets one."""
    fields = "convolution_param { num_output: 6 kernel_size: 3 bias_term: false }"
    body = f"param {{ lr_mult: 3 decay_mult: 2 }} {fields}"
    result = merged("data 2 5 8 7", f"conv: Convolution data -> conv {{ {body} }}", BN)
    param = result.layer("conv").param
    assert param.convolution_param.bias_term
    assert [(spec.lr_mult, spec.decay_mult) for spec in param.param] == [(3, 2), (6, 0)]


@pytest.mark.parametrize("specs", [0, 1, 2])
def test_an_existing_bias_keeps_its_specs(merged: Merger, specs: int) -> None:
    """Nothing is added to the text of a layer that has its bias already."""
    arguments = "param { lr_mult: 0 } " * specs
    body = f"{arguments} convolution_param {{ num_output: 6 kernel_size: 3 }}"
    result = merged("data 2 5 8 7", f"conv: Convolution data -> conv {{ {body} }}", BN)
    assert len(result.layer("conv").param.param) == specs
    assert "bias_term" not in result.text


def test_frozen_stays_frozen(merged: Merger) -> None:
    """A layer of lr_mult 0 gets a bias of lr_mult 0."""
    body = "param { lr_mult: 0 } inner_product_param { num_output: 6 bias_term: false }"
    result = merged("data 2 5", f"conv: InnerProduct data -> conv {{ {body} }}", BN)
    assert [spec.lr_mult for spec in result.layer("conv").param.param] == [0, 0]


def test_two_branches_fold_each_into_its_own(merged: Merger) -> None:
    """A residual block: both branches fold, the sum reads the new names."""
    two = CONV.replace("conv", "c2").replace("c2olution", "convolution")
    result = merged(
        "data 2 5 8 7", CONV, BN, SCALE, two, "bn2: BatchNorm c2 -> c2",
        "sum: Eltwise scale c2 -> sum", "relu: ReLU sum -> sum", skip=["merge-branches"],
    )  # fmt: skip
    assert result.names == ["conv", "c2", "sum", "relu"]


def test_many_readers_of_the_end(merged: Merger) -> None:
    """Who reads the end of the run, and how often, does not matter."""
    result = merged(
        "data 2 5 8 7", CONV, BN, SCALE, "relu: ReLU scale -> r", "tanh: TanH scale -> t",
        "sum: Eltwise r t scale -> out",
    )  # fmt: skip
    assert result.names == ["conv", "relu", "tanh", "sum"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"only": ["fold-affine"]}, ["conv", "drop", "relu"]),
        ({"only": ["drop-identity"]}, ["conv", "bn", "scale", "relu"]),
        ({"skip": ["fold-affine"]}, ["conv", "scale", "relu"]),
        ({"skip": ["fold-affine", "one-scale"]}, ["conv", "bn", "scale", "relu"]),
        (
            {"skip": ["drop-identity"], "only": ["drop-identity"]},
            ["conv", "bn", "scale", "drop", "relu"],
        ),
        ({"keep": ["scale"]}, ["conv", "scale", "relu"]),
        ({"keep": ["drop"]}, ["conv", "drop", "relu"]),
        ({"keep": ["bn"]}, ["conv", "bn", "scale", "relu"]),
    ],
    ids=str,
)  # fmt: skip
def test_only_skip_keep(merged: Merger, options: "dict[str, list[str]]", left: "list[str]") -> None:
    """Passes are chosen by name, layers protected by name."""
    lines = [
        "data 2 5 8 7",
        CONV,
        BN,
        SCALE,
        "drop: Dropout scale -> drop",
        "relu: ReLU drop -> out",
    ]
    result = merged(*lines, **options)
    assert result.names == left
    for name in options.get("keep", ()):
        result.refused(name, "kept as asked")


def test_a_kept_producer_is_not_touched(merged: Merger) -> None:
    """--keep of a Convolution: its BatchNorm becomes a Scale and says why."""
    result = merged("data 2 5 8 7", CONV, BN, SCALE, RELU, keep=["conv"])
    assert result.names == ["conv", "scale", "relu"]
    assert "'conv', which feeds it, is kept" in result.fate("scale").detail


# What stays unfolded: the lines behind the input, the layer asked about, the reason.
NOT_FOLDED = {
    "another_reader": ([CONV, "tanh: TanH conv -> t", SCALE.replace("bn ->", "conv ->"), RELU],
                       "read by 'tanh' as well"),
    "read_twice": ([CONV, SCALE.replace("bn ->", "conv ->"), "sum: Eltwise conv scale -> out"],
                   "read by 'sum' as well"),
    "activation": ([CONV, "act: ReLU conv -> conv", SCALE.replace("bn ->", "conv ->")],
                   "fed by 'act', a ReLU"),
    "net_input": (["scale: Scale data -> out"], "'data' is a net input"),
    "concat": ([CONV, "cat: Concat conv conv -> cat", "scale: Scale cat -> out"],
               "fed by 'cat', a Concat"),
    "pooling": (["pool: Pooling data -> p { pooling_param { kernel_size: 2 } }",
                 "scale: Scale p -> out"], "fed by 'pool', a Pooling"),
    "two_bottoms": ([CONV, "w: Convolution data -> w { convolution_param { num_output: 6 "
                     "kernel_size: 3 } }",
                     "scale: Scale conv w -> out { scale_param { axis: 0 } }"],
                    "its factor is another blob, 'w'"),
    "height": ([CONV, "scale: Scale conv -> out { scale_param { axis: 2 } }"],
               "acts along axis 2, the channels .* on axis 1"),
    "width_from_end": ([CONV, "scale: Scale conv -> out { scale_param { axis: -1 } }"],
                       "acts along axis 3"),
    "two_axes": ([CONV, "scale: Scale conv -> out { scale_param { num_axes: 2 } }"],
                 r"varies along axes \[1, 2\]"),
    "every_value": ([CONV, "scale: Scale conv -> out { scale_param { num_axes: -1 } }"],
                    r"varies along axes \[1, 2, 3\]"),
    "images": ([CONV, "scale: Scale conv -> out { scale_param { axis: 0 } }"], "acts along axis 0"),
    "conv_axis": (["conv: Convolution data -> conv { convolution_param { num_output: 6 "
                   "kernel_size: 3 axis: 2 } }", "scale: Scale conv -> out"],
                  "acts along axis 1, the channels .* on axis 2"),
    "product_axis": (["ip: InnerProduct data -> ip { inner_product_param { num_output: 6 axis: 2 "
                      "} }", "scale: Scale ip -> out"], "on axis 2"),
    "two_tops": (["conv: Convolution data data -> a conv { convolution_param { num_output: 6 "
                  "kernel_size: 3 } }", "scale: Scale conv -> out"], "has 2 tops"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_refusals(merged: Merger, name: str) -> None:
    """A Scale stays, bit for bit, and the report says why."""
    lines, reason = NOT_FOLDED[name]
    result = merged("data 2 5 8 7", *lines)
    result.refused("scale", reason)


def test_scale_along_height_of_the_same_size(merged: Merger) -> None:
    """A Scale along H is not taken for one along C when H == C."""
    result = merged(
        "data 2 5 8 7",
        "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
        "scale: Scale conv -> out { scale_param { axis: 2 } }",
    )
    assert result.blobs("scale")[0].shape == (6,)
    result.refused("scale", "acts along axis 2")


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("1 5 8 7", "axis: 0 num_axes: 2"),  # (1, C)
        ("1 5 3 3", "axis: 0 num_axes: -1"),  # (1, C, 1, 1)
        ("2 5 3 3", "num_axes: -1"),  # (C, 1, 1)
        ("2 5 3 4", "num_axes: 2"),  # (C, 1)
    ],
)
def test_blobs_with_axes_of_one(merged: Merger, shape: str, body: str) -> None:
    """A blob that varies along the channels alone is per channel, whatever 1s are around it."""
    scale = f"scale: Scale conv -> out {{ scale_param {{ {body} bias_term: true }} }}"
    assert merged(f"data {shape}", CONV, scale).names == ["conv"]


@pytest.mark.parametrize(
    ("shape", "kind", "body", "axis"),
    [
        ("2 3 5 7", "Convolution", "convolution_param { num_output: 6 kernel_size: 3 axis: 2 }", 2),
        (
            "2 3 5 7",
            "Convolution",
            "convolution_param { num_output: 6 kernel_size: 3 axis: 2 }",
            -2,
        ),
        (
            "2 3 5 7",
            "Convolution",
            "convolution_param { num_output: 6 kernel_size: 3 axis: -2 }",
            2,
        ),
        ("2 3 5 7", "InnerProduct", "inner_product_param { num_output: 6 axis: 2 }", 2),
        ("2 3 5 7", "InnerProduct", "inner_product_param { num_output: 6 axis: 2 }", -1),
        ("2 3 5 7", "InnerProduct", "inner_product_param { num_output: 6 axis: -2 }", 2),
        ("2 3 5 7", "InnerProduct", "inner_product_param { num_output: 6 axis: -1 }", -1),
        ("2 5 3", "InnerProduct", "inner_product_param { num_output: 6 axis: 0 }", 0),
    ],
)
def test_channels_on_another_axis(
    merged: Merger, shape: str, kind: str, body: str, axis: int
) -> None:
    """The channels lie on the layer's own axis; a Scale along it folds, from whichever end."""
    scale = f"scale: Scale conv -> out {{ scale_param {{ axis: {axis} bias_term: true }} }}"
    result = merged(f"data {shape}", f"conv: {kind} data -> conv {{ {body} }}", scale)
    assert result.names == ["conv"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("batch_norm_param { use_global_stats: false }", "use_global_stats is false"),
        ("phase: TRAIN", "phase is TRAIN"),
    ],
)
def test_batch_statistics_stay(merged: Merger, body: str, reason: str) -> None:
    """A BatchNorm on its batch's statistics is no fixed map; the Scale behind it is, and waits."""
    lines = "data 2 5 8 7", CONV, f"bn: BatchNorm conv -> bn {{ {body} }}", SCALE, RELU
    caffe = merged.caffe
    merged.caffe = None  # this build computes the statistics of a batch wrongly
    result = merged(*lines)
    merged.caffe = caffe
    result.refused("bn", reason)
    result.refused("scale", "fed by 'bn', a BatchNorm")


def test_stored_statistics_in_phase_train(merged: Merger) -> None:
    """use_global_stats: true counts for more than the phase."""
    bn = "bn: BatchNorm conv -> bn { phase: TRAIN batch_norm_param { use_global_stats: true } }"
    assert merged("data 2 5 8 7", CONV, bn).names == ["conv"]

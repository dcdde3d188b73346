"""The mistakes of earlier tools, one test each: named by the mistake.

Each compares with numbers computed here from the layers' formulas, not with the merge's own.
"""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merged, Merger, assert_equal, random_inputs, run

Weights = Dict[str, List[np.ndarray]]

DATA = "data 2 3 6 5"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }"
NO_BIAS = CONV.replace("num_output", "bias_term: false num_output")
BN = "bn: BatchNorm conv -> bn"
SCALE = "scale: Scale bn -> scale { scale_param { bias_term: true } }"
END = "end: TanH scale -> out"

KERNEL = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32).astype(float)
BIAS = np.array([1, -2, 0.5, 4])
MEAN, VARIANCE = np.array([3, -1, 0, 20.0]), np.array([0.01, 4, 1e-6, 1e-4])
GAMMA, BETA = np.array([-1.5, 0, 2, 0.25]), np.array([0.5, -7, 0, 1])


def folded(eps: float, factor: float = 1, bias: "np.ndarray | float" = 0.0) -> List[np.ndarray]:
    """Weights and bias as they must come out, rounded to float32."""
    stored = 0 if factor == 0 else 1 / factor
    scale = GAMMA / np.sqrt(VARIANCE * stored + eps)
    new = [KERNEL * scale[:, None, None, None], scale * (bias - MEAN * stored) + BETA]
    return [array.astype(np.float32) for array in new]


def check(result: Merged, expected: List[np.ndarray], name: str = "conv") -> None:
    """The blobs of ``name``, to the last bit but one."""
    for actual, required in zip(result.blobs(name), expected):
        np.testing.assert_allclose(actual, required, rtol=2e-7)


def float32(value: float) -> float:
    """The value that the text's number is."""
    return float(np.float32(value))


# -- eps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-9, 1e-6, 1e-5, 1e-3, 0.1])
def test_eps_taken_from_somewhere_else(merged: Merger, eps: float) -> None:
    """Machine epsilon, 1e-5 whatever the layer says, none at all, outside the root."""
    bn = f"bn: BatchNorm conv -> bn {{ batch_norm_param {{ eps: {eps} }} }}"
    weights = {"conv": [KERNEL], "bn": [MEAN, VARIANCE, np.ones(1)], "scale": [GAMMA, BETA]}
    check(merged(DATA, NO_BIAS, bn, SCALE, END, weights=weights), folded(float32(eps)))


def test_default_eps_is_1e_5(merged: Merger) -> None:
    """A layer without eps has Caffe's default."""
    weights = {"conv": [KERNEL], "bn": [MEAN, VARIANCE, np.ones(1)], "scale": [GAMMA, BETA]}
    check(merged(DATA, NO_BIAS, BN, SCALE, END, weights=weights), folded(float32(1e-5)))


# -- the scale factor -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 1.0, 999.98, 0.001])
def test_factor_ignored_or_divided_by(merged: Merger, factor: float) -> None:
    """Taken as 1, left out, asserted to be 1, or a division by 0: Caffe takes 1/0 as 0."""
    factor = float32(factor)
    mean, variance = (np.float32(v * (factor or 1)).astype(float) for v in (MEAN, VARIANCE))
    weights = {"conv": [KERNEL, BIAS], "bn": [mean, variance, [factor]], "scale": [GAMMA, BETA]}
    result = merged(DATA, CONV, BN, SCALE, END, weights=weights)
    check(result, folded(float32(1e-5), 0 if factor == 0 else 1, BIAS))
    assert any(note.kind == "zero-factor" for note in result.report.notes) == (factor == 0)


# -- deconvolution --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "group"), [(3, 4, 1), (4, 6, 2), (8, 4, 4), (6, 6, 6)]
)
def test_deconvolution_folded_along_the_wrong_axis(
    merged: Merger, inputs: int, outputs: int, group: int
) -> None:
    """Weights are (Cin, Cout/group, k, k): outputs are counted by group and second axis."""
    fields = f"num_output: {outputs} group: {group} kernel_size: 4 stride: 2 pad: 1"
    weights = np.random.default_rng(group).standard_normal((inputs, outputs // group, 4, 4))
    weights = weights.astype(np.float32).astype(float)
    gamma = np.linspace(0.5, 3, outputs).astype(np.float32).astype(float)
    result = merged(
        f"data 2 {inputs} 5 4",
        f"conv: Deconvolution data -> conv {{ convolution_param {{ {fields} }} }}",
        "scale: Scale conv -> scale",
        weights={"conv": [weights, np.zeros(outputs)], "scale": [gamma]},
    )
    expected = weights.copy()
    for i in range(inputs):
        for j in range(outputs // group):
            out = (i // (inputs // group)) * (outputs // group) + j
            expected[i, j] *= gamma[out]
    check(result, [expected.astype(np.float32)])


# -- missing bias, missing Scale ------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["none", "no bias", "bias"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "InnerProduct"])
def test_missing_bias_or_scale(merged: Merger, kind: str, bias: bool, scale: str) -> None:
    """A crash, a bias added to Convolution only, or the old bias dropped."""
    fields = "inner_product_param" if kind == "InnerProduct" else "convolution_param"
    size = "" if kind == "InnerProduct" else "kernel_size: 3"
    body = f"{fields} {{ num_output: 4 {size} bias_term: {str(bias).lower()} }}"
    lines = [DATA, f"conv: {kind} data -> conv {{ {body} }}", BN]
    if scale != "none":
        lines.append(SCALE if scale == "bias" else "scale: Scale bn -> scale")
    result = merged(*lines)
    assert result.names == ["conv"]
    assert [blob.ndim for blob in result.blobs("conv")][1:] == [1]
    assert getattr(result.layer("conv").param, fields).bias_term


@pytest.mark.parametrize("specs", [0, 1])
def test_new_bias_of_the_wrong_size(merged: Merger, specs: int) -> None:
    """Sized by the inputs, or added only where there are fewer than two param specs."""
    body = (
        "param { lr_mult: 1 } " * specs
        + "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
    )
    result = merged(DATA, f"conv: Convolution data -> conv {{ {body} }}", BN)
    assert result.blobs("conv")[1].shape == (4,)


def test_a_std_too_many_in_the_bias(merged: Merger) -> None:
    """BatchNorm + Scale that stand alone: y = gamma (x - mean) / std + beta, nothing more."""
    result = merged(
        "conv 2 4 6 5", BN, SCALE,
        weights={"bn": [MEAN, VARIANCE, np.ones(1)], "scale": [GAMMA, BETA]},
    )  # fmt: skip
    scale = GAMMA / np.sqrt(VARIANCE.astype(np.float32).astype(float) + float32(1e-5))
    check(result, [scale.astype(np.float32), (BETA - MEAN * scale).astype(np.float32)], "scale")


# -- the graph ------------------------------------------------------------------------------------


def test_folded_across_an_activation(merged: Merger) -> None:
    """Any later BatchNorm on the blob's name was taken, in-place ReLU between or not."""
    for kind in ("Convolution", "InnerProduct"):
        fields = "inner_product_param" if kind == "InnerProduct" else "convolution_param"
        size = "" if kind == "InnerProduct" else "kernel_size: 3"
        result = merged(
            DATA, f"conv: {kind} data -> conv {{ {fields} {{ num_output: 4 {size} }} }}",
            "relu: ReLU conv -> conv", "bn: BatchNorm conv -> conv", "scale: Scale conv -> conv",
        )  # fmt: skip
        assert result.names == ["conv", "relu", "scale"]


def test_the_raw_output_has_another_reader(merged: Merger) -> None:
    """No check that the Convolution feeds the BatchNorm alone."""
    result = merged(DATA, CONV, BN, SCALE, "other: TanH conv -> other")
    assert result.names == ["conv", "scale", "other"]


def test_layers_deleted_though_not_folded(merged: Merger) -> None:
    """Every BatchNorm and Scale was deleted: on data, before a Convolution, with two bottoms."""
    result = merged(
        "data 2 4 6 5", "bn: BatchNorm data -> bn", SCALE, "relu: ReLU scale -> scale",
        "conv: Convolution scale -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
        "pool: Pooling conv -> pool { pooling_param { pool: AVE global_pooling: true } }",
        "flat: Flatten pool -> flat",
        "excite: Scale conv flat -> out { scale_param { axis: 0 } }",
    )  # fmt: skip
    assert result.names == ["scale", "relu", "conv", "pool", "flat", "excite"]
    assert "its factor is another blob, 'flat'" in result.fate("excite").detail


def test_a_scale_without_batch_norm_lost(merged: Merger) -> None:
    """A Scale right behind a Convolution was bypassed, its values with it."""
    scale = "scale: Scale conv -> scale { scale_param { bias_term: true } }"
    weights = {"conv": [KERNEL, BIAS], "scale": [GAMMA, BETA]}
    result = merged(DATA, CONV, scale, weights=weights)
    check(result, [(KERNEL * GAMMA[:, None, None, None]), GAMMA * BIAS + BETA])


def test_two_input_scale_taken_for_the_affine_one(merged: Merger) -> None:
    """By its type alone; it comes right behind the BatchNorm."""
    result = merged(
        DATA, CONV, BN, "gate: Sigmoid data -> gate",
        "crop: Convolution gate -> crop { convolution_param { num_output: 4 kernel_size: 3 } }",
        "scale: Scale bn crop -> scale { scale_param { axis: 0 } }",
    )  # fmt: skip
    assert result.names == ["conv", "gate", "crop", "scale"]


def test_a_batch_norm_that_comes_last(merged: Merger) -> None:
    """The last layer of the net was left, or ran beyond the list."""
    result = merged(DATA, CONV, BN)
    assert result.names == ["conv"]
    assert list(result.layer("conv").param.top) == ["bn"]


@pytest.mark.parametrize("axis", [2, 3, -1, -2])
def test_axis_not_looked_at(merged: Merger, axis: int) -> None:
    """A Scale along H or W was folded as if along C where the sizes are the same."""
    conv = CONV.replace("num_output: 4", "num_output: 5")
    scale = f"scale: Scale conv -> scale {{ scale_param {{ axis: {axis} }} }}"
    result = merged("data 2 3 7 7", conv, scale)
    assert result.blobs("scale")[0].shape == (5,)
    result.refused("scale", "acts along axis")


def test_use_global_stats_false_ignored(merged: Merger) -> None:
    """Statistics of the batch were replaced by those stored."""
    merged.caffe = None  # this build computes the statistics of a batch wrongly
    bn = "bn: BatchNorm conv -> bn { batch_norm_param { use_global_stats: false } }"
    result = merged(DATA, CONV, bn, SCALE)
    assert result.names == ["conv", "bn", "scale"]
    result.refused("bn", "use_global_stats is false")


def test_weights_changed_before_the_refusal(merged: Merger) -> None:
    """A fold that is refused must leave the weights as they are."""
    result = merged(DATA, CONV, "a: TanH conv -> a", BN, weights={"conv": [KERNEL, BIAS]})
    check(result, [KERNEL, BIAS])


def test_shared_weights_folded(merged: Merger) -> None:
    """Folding into a shared blob changes every layer that shares it."""
    share = "param { name: 'w' } param { name: 'b' }"
    lines = [DATA, "other 2 3 6 5"]
    lines += [CONV.replace("{ conv", f"{{ {share} conv", 1)]
    lines += [
        lines[-1].replace("conv: Convolution data -> conv", "twin: Convolution other -> twin")
    ]
    weights = {"conv": [KERNEL, BIAS], "twin": [KERNEL, BIAS]}
    result = merged(*lines, BN, SCALE, weights=weights)
    assert result.names == ["conv", "twin"]
    np.testing.assert_array_equal(result.blobs("twin")[0], KERNEL.astype(np.float32))


def test_the_layer_two_further_on(merged: Merger) -> None:
    """The Scale of a BatchNorm was taken to be the next layer in the file, whatever that is."""
    result = merged(
        DATA, CONV, CONV.replace("conv:", "x:").replace("-> conv", "-> x"), BN,
         "scale: Scale x -> sx", "relu: ReLU bn -> out", "end: TanH sx -> out2",
    )  # fmt: skip
    assert result.names == ["conv", "x", "relu", "end"]


def test_layers_apart_removed_without_rewiring(merged: Merger) -> None:
    """Readers of a removed layer's top must read what feeds it."""
    result = merged(DATA, CONV, BN, SCALE, "a: TanH scale -> a", "b: ELU scale -> b")
    assert result.names == ["conv", "a", "b"]


def test_blobs_of_other_layers_lost(merged: Merger) -> None:
    """Only those of Convolution, InnerProduct and Scale were copied; PReLU was left random."""
    slopes = np.array([0.1, 0.2, 0.3, 0.4])
    result = merged(DATA, CONV, BN, "p: PReLU bn -> out", weights={"p": [slopes]})
    np.testing.assert_allclose(result.blobs("p")[0], slopes, rtol=1e-6)


def test_neutral_layers_left_behind(merged: Merger) -> None:
    """Layers not in place were folded and kept as layers of 1 and 0."""
    assert merged(DATA, CONV, BN, SCALE, END).names == ["conv", "end"]


def test_bias_counted_twice(merged: Merger) -> None:
    """The Convolution's own bias is scaled with the rest, once."""
    weights = {"conv": [KERNEL, BIAS], "bn": [MEAN, VARIANCE, np.ones(1)], "scale": [GAMMA, BETA]}
    check(merged(DATA, CONV, BN, SCALE, weights=weights), folded(float32(1e-5), 1, BIAS))


def test_only_the_first_dropout(merged: Merger) -> None:
    """Removed with the layer before it in the list as producer; the others stayed."""
    result = merged(
        DATA, CONV, "d1: Dropout conv -> d1", "side: TanH data -> side", "d2: Dropout d1 -> d2",
        "d3: Dropout side -> side", "end: ELU d2 -> out",
    )  # fmt: skip
    assert result.names == ["conv", "side", "end"]


def test_names_that_mean_nothing(merged: Merger) -> None:
    """Layers named other than their blobs, or like other layers."""
    conv = CONV.replace("conv:", "scale_1:").replace("-> conv", "-> bn")
    bn, scale = "conv: BatchNorm bn -> conv1", "relu: Scale conv1 -> relu"
    result = merged(DATA, conv, bn, scale, "bn: ReLU relu -> scale")
    assert result.names == ["scale_1", "bn"]
    # Layers that stay keep their names, and so do in-place tops that end the run.
    assert [list(result.layer(name).param.top) for name in result.names] == [["relu"], ["scale"]]


def test_dropout_of_scale_train_false_dropped(merged: Merger) -> None:
    """It multiplies at test time: no identity."""
    drop = "drop: Dropout conv -> out {{ dropout_param {{ dropout_ratio: 0.4 {} }} }}"
    result = merged(DATA, CONV, drop.format("scale_train: false"), weights={"conv": [KERNEL, BIAS]})
    check(result, [KERNEL * 0.6, BIAS * 0.6])
    assert result.names == ["conv"]


def test_a_judge_that_is_wrong_itself(merged: Merger) -> None:
    """InnerProduct with transpose, and a blob that only the old net has, judged by formula here."""
    ip = "ip: InnerProduct data -> ip { inner_product_param { num_output: 4 transpose: true } }"
    result = merged("data 2 3", ip, "bn: BatchNorm ip -> out")
    inputs = random_inputs(result.before)
    weights, bias = (blob.float64() for blob in result.before.layers[1].blobs)
    mean, variance, (factor,) = (blob.float64() for blob in result.before.layers[2].blobs)
    y = inputs["data"].astype(float) @ weights + bias
    y = (y - mean / factor) / np.sqrt(variance / factor + float32(1e-5))
    assert_equal({"out": y}, run(result.after, inputs), 1e-6)

"""Forms: each for a target whose table asks for it, held against real Caffe like any rewrite."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.options import Options
from caffe_merge.passes.forms import FORMS
from tests.merger import Merged, Merger
from tests.nets import load, load_pair, prototxt, seeded, write_pair

CONV = "convolution_param { num_output: 4 kernel_size: 3 }"
# form -> the target, the net, and the types and a part of the text behind the merge
CASES: Dict[str, Any] = {
    "as-scale": (
        "opencv",
        ["data 2 3 6 5", f"c: Convolution data -> c {{ {CONV} }}", "r: ReLU c -> c",
         "b: Bias c -> b", "s: Sigmoid b -> s"],
        ["Convolution", "ReLU", "Scale", "Sigmoid"], "scale_param",
    ),
    "product-untransposed": (
        "opencv",
        ["data 2 3 6 5", "f: InnerProduct data -> f { inner_product_param { num_output: 7 "
         "transpose: true } }"],
        ["InnerProduct"], "num_output: 7 }",
    ),
    "window-sides": (
        "mnn",
        ["data 2 3 9 8", "c: Convolution data -> c { convolution_param { num_output: 4 "
         "kernel_size: 3 kernel_size: 2 pad: 1 pad: 1 stride: 2 stride: 1 dilation: 2 "
         "dilation: 2 } }"],
        ["Convolution"], "kernel_h: 3",
    ),
    "grouped-convolution": (
        "ascend",
        ["data 2 6 9 8", "c: ConvolutionDepthwise data -> c { convolution_param { num_output: 6 "
         "kernel_size: 3 } }"],
        ["Convolution"], "group: 6",
    ),
    "depthwise-convolution": (
        "sigmastar",
        ["data 2 6 9 8", "c: Convolution data -> c { convolution_param { num_output: 6 group: 6 "
         "kernel_size: 3 } }"],
        ["ConvolutionDepthwise"], "num_output: 6 kernel_size: 3",
    ),
    "drop-flatten": (
        "caffe-onnx",
        ["data 2 3 6 5", "t: Flatten data -> t", "f: InnerProduct t -> f { inner_product_param { "
         "num_output: 7 } }"],
        ["InnerProduct"], 'bottom: "data"',
    ),
    "eltwise-pairs": (
        "rknn",
        ["data 2 3 6 5", *[f"{name}: {kind} data -> {name}" for name, kind in
                           zip("abcd", ("Sigmoid", "TanH", "ReLU", "AbsVal"))],
         "e: Eltwise a b c d -> e { eltwise_param { coeff: 1 coeff: -2 coeff: 0.5 coeff: 3 } }"],
        ["Sigmoid", "TanH", "ReLU", "AbsVal", "Eltwise", "Eltwise", "Eltwise"], "coeff: -2",
    ),
    "norm-factor": (
        "tpu-mlir",
        ["data 2 3 6 5", "r: ReLU data -> r", "b: BatchNorm r -> b", "t: TanH b -> t"],
        ["ReLU", "BatchNorm", "TanH"], "BatchNorm",
    ),
    "stored-statistics": (
        "ascend",
        ["data 2 3 6 5", "r: ReLU data -> r", "b: BatchNorm r -> b", "t: TanH b -> t"],
        ["ReLU", "BatchNorm", "TanH"], "use_global_stats: true",
    ),
    "clip-as-relu6": (
        "ncnn",
        ["data 2 3 6 5", "r: Clip data -> r { clip_param { min: 0 max: 6 } }", "t: TanH r -> t"],
        ["ReLU6", "TanH"], "ReLU6",
    ),
    "written-defaults": (
        "opencv",
        ["data 2 3 6 5", "r: LRN data -> r { lrn_param { local_size: 3 } }", "s: Sigmoid r -> s",
         "c: Concat r s -> c { concat_param { concat_dim: 2 } }"],
        ["LRN", "Sigmoid", "Concat"], "local_size: 3 alpha: 1 beta: 0.75",
    ),
    "shared-slope": (
        "tpu-mlir",
        ["data 2 3 6 5", "r: PReLU data -> r { prelu_param { channel_shared: true } }"],
        ["ReLU"], "negative_slope",
    ),
}  # fmt: skip
KEEPS_NORM = {"norm-factor", "stored-statistics"}  # with the passes every BatchNorm is a Scale
WEIGHTS = {
    "norm-factor": {"b": [np.array([1.0, -2, 3]), np.array([0.5, 1, 2]), np.array([0.0])]},
    "shared-slope": {"r": [np.array(0.3)]},
}  # fmt: skip


def merge(merged: Merger, form: str, **options: Any) -> Merged:
    """The merge of the case of ``form``, for its target."""
    target, lines, _, _ = CASES[form]
    if form == "drop-flatten":
        options.setdefault("skip", ["fold-permute"])  # which leaves it nothing
    if form in KEEPS_NORM:
        options.setdefault("skip", ["one-scale"])
    return merged(*lines, target=target, weights=WEIGHTS.get(form), **options)


def test_every_form_has_a_case() -> None:
    assert [form.name for form in FORMS if form.name not in CASES] == []


@pytest.mark.parametrize("form", CASES)
def test_a_form(merged: Merger, form: str) -> None:
    result = merge(merged, form)
    _, _, types, text = CASES[form]
    assert [layer.type for layer in result.after.layers if layer.type != "Input"] == types
    assert text in result.text
    assert {change.rewrite for change in result.report.changes} == {form}
    assert [note for note in result.report.notes if note.kind == "target"] == []


@pytest.mark.parametrize("form", CASES)
def test_a_kept_layer_stays_and_is_told(merged: Merger, form: str) -> None:
    names = [line.split(":")[0] for line in CASES[form][1] if ":" in line]
    result = merge(merged, form, keep=names)
    assert result.report.changes == []
    assert [refusal.reason for refusal in result.report.refusals if refusal.rewrite == form]
    assert [note for note in result.report.notes if note.kind == "target"]


@pytest.mark.parametrize("form", CASES)
def test_without_a_target_nothing_changes(merged: Merger, form: str, tmp_path: Path) -> None:
    text = prototxt(*CASES[form][1])
    net = load_pair(write_pair(tmp_path, text, {**seeded(text), **WEIGHTS.get(form, {})}, "plain"))
    kind = next(kind for kind in FORMS if kind.name == form)
    assert kind(Options()).find(net.graph({})) == []


@pytest.mark.parametrize(
    ("form", "line", "reason"),
    [
        ("as-scale", "b: Bias data data -> b", "its summand is another blob"),
        ("drop-flatten", "b: Flatten data -> b { flatten_param { axis: 2 } }", "axes behind"),
        ("eltwise-pairs", "b: Eltwise data data -> b", "not three bottoms"),
        ("clip-as-relu6", "b: Clip data -> b { clip_param { min: -1 max: 6 } }", "it clips to -1"),
        ("depthwise-convolution", "b: Convolution data -> b { convolution_param { num_output: 6 "
         "group: 3 kernel_size: 3 } }", "not one group and one output"),
        ("window-sides", "b: Convolution data -> b { convolution_param { num_output: 2 "
         "kernel_size: 1 } }", ""),
    ],
)  # fmt: skip
def test_what_has_no_such_form(tmp_path: Path, form: str, line: str, reason: str) -> None:
    net = load(tmp_path, prototxt("data 2 3 6 5", line))
    graph = net.graph({})
    kind: Any = next(kind for kind in FORMS if kind.name == form)
    actual = kind(Options(target="opencv")).rewrite(graph, graph.layers[-1])
    if reason:
        assert reason in str(actual)
    else:  # it is in that form already
        assert actual.changed == []


def test_no_pass_makes_what_the_target_would_not_take(merged: Merger) -> None:
    lines = [
        "data 1 3 20 20",
        "a: Convolution data -> a { convolution_param { num_output: 4 kernel_size: 5 } }",
        "b: Convolution a -> b { convolution_param { num_output: 4 kernel_size: 5 } }",
    ]
    assert merged(*lines, serial="always").names == ["b"]  # of 9x9
    result = merged(*lines, serial="always", target="horizon")
    assert result.names == ["a", "b"]
    reasons: List[str] = [refusal.reason for refusal in result.report.refusals]
    assert any("target horizon: it would not take what it becomes" in reason for reason in reasons)


def test_what_is_left_is_told(tmp_path: Path) -> None:
    net = load(tmp_path, prototxt("data 1 3 6 6", "e: ELU data -> e"))
    report = caffe_merge.merge(net, target="rknn")
    (note,) = [note for note in report.notes if note.kind == "target"]
    assert note.layer == "e"
    assert note.text.startswith("target rknn: wrong: the layer is left out")


def test_an_output_is_written_by_one_layer(merged: Merger) -> None:
    lines = ["data 2 3 6 5", "r: ReLU data -> c", "s: Sigmoid c -> c", "t: TanH c -> c"]
    result = merged(*lines, target="tpu-mlir")
    tops = [list(layer.param.top) for layer in result.after.layers]
    assert tops == [["data"], ["c_before"], ["c_before"], ["c"]]
    assert [note.kind for note in result.report.notes] == ["target-form"]


def test_an_input_keeps_its_name(merged: Merger) -> None:
    result = merged("data 2 3 6 5", "r: TanH data -> data", target="tpu-mlir")
    assert [list(layer.param.top) for layer in result.after.layers] == [["data"], ["data"]]
    (note,) = [note for note in result.report.notes if note.kind == "target"]
    assert "output-apart cannot be done here" in note.text

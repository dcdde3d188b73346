"""The driver: rewrites are proved before they are kept, until nothing is left to do."""

import json
from pathlib import Path
from typing import Any, List, Tuple, Type

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import NetError, UsageError, WeightsError
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.merging import driver
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net
from caffe_merge.notes import Reason
from caffe_merge.passes import PASSES, PassEntry
from caffe_merge.passes.fold_affine import FoldAffine
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from tests.merger import Merger
from tests.nets import load, load_pair, prototxt, seeded, write_pair

LINES = [
    "data 2 5 8 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
    "scale: Scale bn -> scale { scale_param { bias_term: true } }",
    "relu: ReLU scale -> scale",
    "bn2: BatchNorm scale -> bn2",
    "drop: Dropout bn2 -> out",
]


def net_of(folder: Path, *lines: str, **blobs: Any) -> Net:
    """The net of ``lines``, loaded from disk; ``blobs`` replace those of a layer."""
    text = prototxt(*lines)
    return load(folder, text, {**seeded(text), **blobs})


def state(net: Net) -> List[Tuple[bytes, List[bytes]]]:
    """All of a net that a merge could change."""
    return [
        (layer.param.SerializeToString(), [blob.array().tobytes() for blob in layer.blobs])
        for layer in net.layers
    ]


class WrongFold(FoldAffine):
    """fold-affine, but for a bias that is off."""

    name = "wrong-fold"
    seen = 0

    def find(self, graph: Graph) -> List[Finding]:
        actual = super().find(graph)
        for item in actual:
            if isinstance(item, Rewrite):
                WrongFold.seen += 1
                for layer, (param, blobs) in item.changes.items():
                    item.changes[layer] = (param, (blobs[0], Dense(blobs[1].float64() + 0.01)))
        return actual


class GivenPass(PassEntry):
    """A pass of a test, which is in no module of its name."""

    def __init__(self, kind: Type[Pass]) -> None:
        super().__init__(kind.name)
        self._kind = kind

    @property
    def kind(self) -> Type[Pass]:
        return self._kind


def use(monkeypatch: pytest.MonkeyPatch, first: Type[Pass], *passes: PassEntry) -> None:
    """Let merge run these passes."""
    monkeypatch.setattr(driver, "PASSES", (GivenPass(first), *passes))


def test_a_disproved_rewrite_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported, for every layer that it was about, and the net is as it was."""
    use(monkeypatch, WrongFold)
    net = net_of(tmp_path, *LINES)
    before = state(net)
    report = caffe_merge.merge(net)
    assert state(net) == before
    assert not report.changes
    message = [
        (refusal.layer, refusal.rewrite)
        for refusal in report.refusals
        if "the proof failed" in refusal.reason
    ]
    assert message == [(name, "wrong-fold") for name in ("conv", "bn", "scale")]
    assert {fate.fate for fate in report.fates} == {"kept"}
    assert "the proof failed: its output is off by" in report.fates[0].detail


def test_the_next_pass_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one pass could not prove, another may do; and it is proved once, not every round."""
    proofs = []
    right = driver.prove  # type: ignore[attr-defined]

    def counted(graph: Any, layers: Any, changes: Any, *more: Any) -> Any:
        proofs.append([layer.name for layer in layers])
        return right(graph, layers, changes, *more)

    monkeypatch.setattr(driver, "prove", counted)
    monkeypatch.setattr(WrongFold, "seen", 0)
    use(monkeypatch, WrongFold, *PASSES)
    net = net_of(tmp_path, *LINES)
    report = caffe_merge.merge(net, skip=["fold-affine"])
    assert [layer.type for layer in net.layers] == [
        "Input",
        "Convolution",
        "Scale",
        "ReLU",
        "Scale",
    ]
    assert WrongFold.seen > 1
    assert proofs.count(["conv", "bn", "scale"]) == 1
    assert [change.rewrite for change in report.changes] == [
        "drop-identity",
        "one-scale",
        "one-scale",
    ]


def test_passes_run_in_order_to_a_fixed_point(tmp_path: Path) -> None:
    """A pass that makes another possible: rounds go on until none finds anything."""
    net = net_of(
        tmp_path,
        "data 2 5 8 7",
        "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
        "drop: Dropout conv -> conv",
        "bn: BatchNorm conv -> conv",
        "relu: TanH conv -> conv",
        "scale: Scale conv -> conv",
        "undo: Scale conv -> conv",
        "out: TanH conv -> out",
        scale=[np.full(6, 4.0)],
        undo=[np.full(6, 0.25)],
    )
    report = caffe_merge.merge(net)
    # The two Scales become one of 1, which only the next round finds to be nothing.
    assert [layer.name for layer in net.layers] == ["data", "conv", "relu", "out"]
    order = [change.rewrite for change in report.changes]
    assert order == ["drop-identity", "fold-affine", "one-scale", "drop-identity"]
    assert [fate.fate for fate in report.fates] == ["gone"] * 4
    assert not caffe_merge.merge(net).changes


def test_a_pass_that_breaks_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants are checked after every pass."""

    class Breaks(Pass):
        name = "breaks"

        def find(self, graph: Graph) -> List[Finding]:
            drop = [layer for layer in graph.layers if layer.type == "Dropout"]
            graph.layers[-3].param.top[0] = "elsewhere"
            return [Rewrite((layer,), {}, "") for layer in drop]

    use(monkeypatch, Breaks)
    with pytest.raises(AssertionError):
        caffe_merge.merge(net_of(tmp_path, *LINES))


def test_a_rewrite_does_not_name_blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are the graph's to give, whatever the new parameters say of bottoms and tops."""

    class Renames(FoldAffine):
        def find(self, graph: Graph) -> List[Finding]:
            actual = super().find(graph)
            for item in actual:
                for param, _ in item.changes.values() if isinstance(item, Rewrite) else ():
                    param.bottom[0], param.top[0] = "stale", "old"
            return actual

    use(monkeypatch, Renames)
    net = net_of(tmp_path, *LINES)
    caffe_merge.merge(net)
    conv = net.layers[1].param
    assert (conv.bottom[0], conv.top[0]) == ("data", "scale")


def test_refusals_are_those_of_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused early and done later is not in the report as refused."""
    rounds = []

    class Hesitant(FoldAffine):
        name = "hesitant"

        def find(self, graph: Graph) -> List[Finding]:
            rounds.append(1)
            if len(rounds) > 1:
                return super().find(graph)
            return [Refused(layer, Reason("not yet")) for layer in graph.layers if layer.blobs]

    use(monkeypatch, Hesitant, *PASSES)
    report = caffe_merge.merge(net_of(tmp_path, *LINES))
    assert "not yet" not in json.dumps(report.to_json())


def test_names_that_are_none(tmp_path: Path) -> None:
    """A pass or a layer that does not exist is an error, before anything is done."""
    net = net_of(tmp_path, *LINES)
    before = state(net)
    for options, then in (
        ({"only": ["nothing"]}, "there are drop-identity, drop-"),
        ({"skip": ["Fold-Affine"]}, "did you mean 'fold-affine'"),
    ):
        with pytest.raises(UsageError, match=f"no pass is called .*; {then}"):
            caffe_merge.merge(net, **options)
    with pytest.raises(UsageError, match="keep conv9: the net has no layer of this name"):
        caffe_merge.merge(net, keep=["conv", "conv9"])
    assert state(net) == before


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ([np.zeros(6), np.full(6, -1.0), np.ones(1)], "layer 'bn2', blob 1: .* found -1"),
        ([np.zeros(6), np.full(6, np.nan), np.ones(1)], "layer 'bn2', blob 1: .* found nan"),
        ([np.full(6, np.inf), np.ones(6), np.ones(1)], "layer 'bn2', blob 0: .* found inf"),
    ],
)
def test_bad_values(tmp_path: Path, blobs: List[np.ndarray], message: str) -> None:
    """Statistics that cannot be: an error that names layer and blob."""
    with pytest.raises(WeightsError, match=message):
        caffe_merge.merge(net_of(tmp_path, *LINES, bn2=blobs))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_weights_are_not_written(tmp_path: Path, value: float) -> None:
    """Weights that are not finite: never a merged pair with them in it."""
    weights = np.ones((6, 5, 3, 3))
    weights[3, 2, 1, 0] = value
    net = net_of(tmp_path, *LINES, conv=[weights, np.zeros(6)])
    out = tmp_path / "out.prototxt", tmp_path / "out.caffemodel"
    caffe_merge.merge(net)
    with pytest.raises(WeightsError, match="layer 'conv', blob 0: expected finite values"):
        caffe_merge.save(net, *map(str, out))
    assert not any(path.exists() for path in out)


def test_a_net_that_caffe_would_not_build(tmp_path: Path) -> None:
    """The graph's errors are the merge's."""
    with pytest.raises(NetError, match="bottom 'nothing' is the top of no layer"):
        caffe_merge.merge(net_of(tmp_path, "data 2 3", "a: ReLU nothing -> a"))


def test_factor_zero_is_told_loudly(tmp_path: Path) -> None:
    """A note, whatever becomes of the layer."""
    zero = [np.ones(6), np.ones(6), np.zeros(1)]
    report = caffe_merge.merge(net_of(tmp_path, *LINES, bn=zero), keep=["bn"])
    (note,) = [note for note in report.notes if note.kind == "zero-factor"]
    assert note.layer == "bn"
    assert "its scale factor is 0" in note.text


def test_report(tmp_path: Path) -> None:
    """Sizes, changes, fates: as data that JSON can hold."""
    net = net_of(tmp_path, *LINES)
    report = caffe_merge.merge(net)
    data = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == "caffe_merge.report/1"
    assert (data["before"]["layers"], data["after"]["layers"]) == (7, 4)
    assert data["before"]["parameters"] - data["after"]["parameters"] == 13 + 12 + 13 - 12
    # BatchNorm, Scale and BatchNorm on (2, 6, 6, 5), then one Scale.
    assert data["before"]["multiply_adds"] - data["after"]["multiply_adds"] == 2 * 360
    assert data["changes"][1] == {
        "rewrite": "fold-affine",
        "removed": ["bn", "scale"],
        "changed": ["conv"],
        "note": "folded into Convolution 'conv'",
        "removed_types": ["BatchNorm", "Scale"],
        "changed_types": ["Convolution"],
        "added": [],
        "added_types": [],
    }
    assert [(fate["layer"], fate["fate"]) for fate in data["fates"]] == [
        ("bn", "gone"), ("scale", "gone"), ("bn2", "changed"), ("drop", "gone"),
    ]  # fmt: skip
    assert data["blobs_gone"] == ["conv", "bn", "bn2"]  # "scale" and "out" hold what they held
    assert net.layers[1].sources == ("conv", "bn", "scale")


def test_a_layer_of_another_type_has_no_old_fields(tmp_path: Path) -> None:
    """A fork's Dropout that becomes a Scale is a Scale like any other, at once."""
    fork = "d: Dropout r -> d { dropout_param { scale_train: false } forward_type: FLOAT16 }"
    power = "p: Power d -> out { power_param { shift: 1 } }"
    net = net_of(tmp_path, "data 2 6 5", "r: ReLU data -> r", fork, power)
    caffe_merge.merge(net)
    (scale,) = [layer for layer in net.layers if layer.type == "Scale"]
    assert scale.extra == {"forward_type": "FLOAT16"}


def test_input_shapes_from_outside(tmp_path: Path) -> None:
    """Shapes that the text does not tell make an axis from the end known."""
    lines = prototxt(*LINES[:2], "end: Scale conv -> out { scale_param { axis: -3 } }")
    lines = lines.replace("input_param { shape { dim: 2 dim: 5 dim: 8 dim: 7 } }", "")
    blobs = {"conv": [np.ones((6, 5, 3, 3)), np.ones(6)], "end": [np.full(6, 2.0)]}
    pair = write_pair(tmp_path, lines, blobs)
    net = load_pair(pair)
    assert not caffe_merge.merge(net).changes
    assert caffe_merge.merge(net, input_shapes={"data": (1, 5, 8, 7)}).changes


def test_merging_is_done_in_place_and_saving_is_not(merged: Merger) -> None:
    """A net may be merged in steps: what is left is what one merge would leave."""
    steps = merged(*LINES, only=["drop-identity"])
    caffe_merge.merge(steps.after)
    assert state(steps.after) == state(merged(*LINES).after)


def test_parameters_edited_between_two_merges_count(tmp_path: Path) -> None:
    lines = LINES[0], LINES[1], "double: Power conv -> out { power_param { scale: 2 } }"
    net = net_of(tmp_path, *lines)
    weights = net.layers[1].blobs[0].array()
    assert not caffe_merge.merge(net, only=["fold-affine"], keep=["conv"]).changes
    net.layers[2].param.power_param.scale = 10
    assert caffe_merge.merge(net).changes
    np.testing.assert_array_equal(net.layers[1].blobs[0].array(), 10 * weights)


def test_fields_of_a_fork_that_are_gone_are_not_said_to_be_kept(tmp_path: Path) -> None:
    text = prototxt(
        "data 1 3 4 4",
        "c: Convolution data -> c { convolution_param { num_output: 5 kernel_size: 1 } spread: 2 }",
        "drop: Dropout c -> drop { dropout_param { engine: CAFFE } }",
    )
    net = load(tmp_path, text)
    report = caffe_merge.merge(net)
    assert [note.layer for note in net.notes] == ["c", "drop"]
    noted = [note.layer for note in report.notes if note.kind == "unknown-field"]
    assert noted == ["c"]


def test_what_a_layer_of_a_fork_hid_is_seen_once_it_is_folded(merged: Merger) -> None:
    """A second merge, which the fixture makes, finds nothing more."""
    result = merged(
        "x 1 3 4 4",
        "c: Convolution x -> c { convolution_param { num_output: 2 kernel_size: 3 } }",
        "bn: BatchNorm c -> bn { of_a_fork: 7 }",
        "i: InnerProduct bn -> i { inner_product_param { num_output: 5 axis: -3 } }",
        "f: Flatten i -> f",
        "r: AbsVal f -> r",
        weights={
            "bn": [np.array([0.5, -1]), np.array([0.7, 2]), np.ones(1)],
            "i": [np.linspace(-1, 1, 40).reshape(5, 8), np.ones(5)],
        },
    )
    assert result.names == ["c", "i", "r"]


def test_an_output_of_another_layer_is_noted(tmp_path: Path) -> None:
    fc = "fc: InnerProduct data -> fc { inner_product_param { num_output: 4 } }"
    net = load(tmp_path, prototxt("data 1 3", fc, "bn: BatchNorm fc -> bn", "t: TanH data -> t"))
    (note,) = caffe_merge.merge(net).notes
    assert note == (
        "output-layer",
        "fc",
        "makes the output 'bn' now, which 'bn' made: readers that call outputs by layer, as OpenCV "
        "and MNN do, find it by this name",
    )


def test_the_reason_that_matters_is_told(merged: Merger) -> None:
    """What a layer is fed by is no obstacle where a reader is one."""
    lines = ["sum: Eltwise data data -> sum", "s: Scale sum -> s"]
    result = merged("data 1 3 4 5", *lines, "relu: ReLU s -> out")
    why = "forwards: ReLU 'relu' reads it: a "
    assert result.fate("s").detail.startswith(why)
    result = merged("data 1 3 4 5", *lines)
    detail = (
        "it is fed by 'sum', an Eltwise; back through 'sum': its bottom 'data' is a net input; "
    )
    detail += "forwards: 's' is a net output"
    assert result.fate("s").detail == detail


def test_shapes_that_the_weights_do_not_fit_are_refused(tmp_path: Path) -> None:
    net = net_of(tmp_path, *LINES)
    with pytest.raises(UsageError, match=r"input_shapes: layer 'conv': expected weights of shape"):
        caffe_merge.merge(net, input_shapes={"data": (2, 7, 9, 9)})

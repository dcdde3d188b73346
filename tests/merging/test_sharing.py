"""Weights shared by ``param { name }``: kept shared where all fold alike, unshared where not."""

from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.merging.driver import merge
from caffe_merge.merging.sharing import Unshared, batches
from caffe_merge.net.graph import Graph
from caffe_merge.passes.rewriting.rewrite import Rewrite
from tests.merger import Merged, Merger, assert_equal, random_inputs
from tests.nets import load, load_pair, prototxt, seeded, write_pair

BOTH = "param { name: 'w' lr_mult: 3 decay_mult: 2 } param { name: 'b' }"
KINDS = {
    "Convolution": "convolution_param { num_output: 6 kernel_size: 3",
    "Deconvolution": "convolution_param { num_output: 6 kernel_size: 2 group: 3",
    "InnerProduct": "inner_product_param { num_output: 6",
}
KEPT = "shares its weights with {}, kept so with keep_shared"


def norm(seed: int) -> List[np.ndarray]:
    """The blobs of a BatchNorm of 6 channels."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(6), random.uniform(0.2, 2, 6), np.ones(1)]


def tower(name: str, specs: str = BOTH, kind: str = "Convolution", more: str = "") -> List[str]:
    """An input of its own, and a linear layer ``name`` of 6 channels."""
    body = f"{specs} {KINDS[kind]} {more} }}"
    return [f"d{name} 2 3 5 4", f"{name}: {kind} d{name} -> {name} {{ {body} }}"]


def normed(name: str, **how: str) -> List[str]:
    """A tower with a BatchNorm ``bn<name>`` and a ReLU behind it."""
    return [
        *tower(name, **how),
        f"bn{name}: BatchNorm {name} -> {name}",
        f"r{name}: ReLU {name} -> {name}",
    ]


def specs(result: Merged, name: str) -> List[Tuple[str, float]]:
    """Name and lr_mult of each of a layer's blobs, after the merge."""
    return [(spec.name, spec.lr_mult) for spec in result.layer(name).param.param]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", ["true", "false"])
def test_partners_with_equal_norms_stay_shared(merged: Merger, kind: str, bias: str) -> None:
    """Siamese towers: both fold, and the text goes on to share what it shared."""
    arguments = BOTH if bias == "true" else BOTH.split("} ")[0] + "}"
    how = {"specs": arguments, "kind": kind, "more": f"bias_term: {bias}"}
    result = merged(*normed("a", **how), *normed("b", **how),
                    weights={"bna": norm(1), "bnb": norm(1)})  # fmt: skip
    assert result.names == ["a", "ra", "b", "rb"]
    assert result.report.unshared == []
    first, other = result.blobs("a"), result.blobs("b")
    assert [x.tobytes() for x in first] == [x.tobytes() for x in other]
    # A bias that is new has a name of nobody's: equal, and its own.
    expected = [("w", 3), ("b", 1)] if bias == "true" else [("w", 3), ("", 6)]
    assert specs(result, "a") == specs(result, "b") == expected
    assert "shares" not in str(result.report.to_json())


def test_norms_that_are_shared_too(merged: Merger) -> None:
    """BatchNorm and Scale of the same names in every tower, not in place, on one input."""
    lines = ["data 2 3 5 4"]
    frozen = " ".join(f"param {{ name: '{name}' lr_mult: 0 }}" for name in ("m", "v", "f"))
    scale = "param { name: 'g' } param { name: 'h' } scale_param { bias_term: true }"
    for name in "abc":
        lines += [
            tower(name)[1].replace(f"d{name}", "data"),
            f"bn{name}: BatchNorm {name} -> n{name} {{ {frozen} }}",
            f"s{name}: Scale n{name} -> s{name} {{ {scale} }}",
        ]
    same = {f"bn{name}": norm(3) for name in "abc"}
    result = merged(*lines, "sum: Eltwise sa sb sc -> sum", weights=same, skip=["merge-branches"])
    assert result.names == ["a", "b", "c", "sum"]
    assert {tuple(specs(result, name)) for name in "abc"} == {(("w", 3), ("b", 1))}
    assert result.report.unshared == []


@pytest.mark.parametrize("kind", KINDS)
def test_partners_with_other_norms_are_unshared(merged: Merger, kind: str) -> None:
    """Each gets its own copy, and the report counts the bytes of the second."""
    result = merged(*normed("a", kind=kind), *normed("b", kind=kind))
    assert result.names == ["a", "ra", "b", "rb"]
    assert specs(result, "a") == specs(result, "b") == [("", 3), ("", 1)]
    assert "name: 'w'" not in result.text
    weights, bias = (blob.nbytes // 2 for blob in result.blobs("a"))  # they are float32
    assert result.report.unshared == [
        Unshared("w", ("a", "b"), weights),
        Unshared("b", ("a", "b"), bias),
    ]
    note = "folded into {} 'a'; 'a' no longer shares weights with 'b'"
    assert result.fate("bna").detail == note.format(kind)
    assert result.report.to_json()["unshared"][1] == {"name": "b", "layers": ("a", "b"),
                                                      "bytes": bias}  # fmt: skip


def test_a_partner_without_a_norm(merged: Merger) -> None:
    """It keeps names and values; so does one that the user wants kept."""
    for lines, keep in (
        ([*normed("a"), *tower("b"), "rb: ReLU b -> b"], []),
        ([*normed("a"), *normed("b")], ["b"]),
    ):
        result = merged(*lines, keep=keep)
        assert result.names[:2] == ["a", "ra"]
        assert specs(result, "a") == [("", 3), ("", 1)]
        assert specs(result, "b") == [("w", 3), ("b", 1)]
        assert "b" not in {name for change in result.report.changes for name in change.changed}
        assert [sharing.name for sharing in result.report.unshared] == ["w", "b"]


def test_nothing_is_unshared_for_nothing(merged: Merger) -> None:
    """A BatchNorm that cannot be folded is no reason to unshare."""
    lines = [*normed("a"), "t: TanH a -> t"]
    lines[2] = "bna: BatchNorm a -> n"
    lines[3] = "ra: ReLU n -> n"
    result = merged(*lines, *tower("b"), "rb: ReLU b -> b")
    assert specs(result, "a") == specs(result, "b") == [("w", 3), ("b", 1)]
    assert result.report.unshared == []
    assert "read by 't' as well" in result.fate("bna").detail


def test_a_group_within_the_group(merged: Merger) -> None:
    """Those of several partners that fold alike go on to share, under a name of their own."""
    lines = ["o 2 3 5 4", "other: PReLU o -> other { param { name: 'w_2' } }"]
    result = merged(*lines, *normed("a"), *normed("b"), *normed("c"), *tower("d"),
                    weights={"bna": norm(1), "bnb": norm(2), "bnc": norm(1)})  # fmt: skip
    assert specs(result, "a") == specs(result, "c") == [("w_3", 3), ("b_2", 1)]
    assert specs(result, "b") == [("", 3), ("", 1)]
    assert specs(result, "d") == [("w", 3), ("b", 1)]
    size = 6 * 3 * 3 * 3 * 4
    assert result.report.unshared[0] == Unshared("w", ("a", "b", "c", "d"), 2 * size)
    assert "'a' no longer shares weights with 'b', 'd'" in result.fate("bna").detail


def test_two_groups_within_the_group(merged: Merger) -> None:
    """Each has a name of its own; only the copy that is more than before is counted."""
    values = {f"bn{name}": norm(number // 2) for number, name in enumerate("abcd")}
    result = merged(*[line for name in "abcd" for line in normed(name)], weights=values)
    assert specs(result, "a") == specs(result, "b") == [("w_2", 3), ("b_2", 1)]
    assert specs(result, "c") == specs(result, "d") == [("w_3", 3), ("b_3", 1)]
    assert result.report.unshared[0].bytes == 6 * 3 * 3 * 3 * 4


def test_rewrites_are_not_changed_before_they_are_made(tmp_path: Path) -> None:
    """A pass may hand on a layer's own parameters: they must be as they were if it is refused."""
    text = prototxt(*tower("a"), *tower("b"))
    net = load(tmp_path, text)
    layer = net.layers[1]
    blobs = (Dense(np.ones(layer.blobs[0].shape)), layer.blobs[1])
    rewrite = Rewrite((layer,), {layer: (layer.param, blobs)}, "note")
    (batch,) = batches(Graph(net.layers, {}), [rewrite])
    assert batch.unshares == "layer 'a' shares its weights with 'b'"
    assert [spec.name for spec in layer.param.param] == ["w", "b"]
    assert [spec.name for spec in batch.rewrites[0].changes[layer][0].param] == ["", "b"]


def test_weights_shared_and_biases_not(merged: Merger) -> None:
    """Each blob by itself: the same factors keep the weights shared, whatever the biases."""
    alone = "param { name: 'w' }"
    result = merged(*normed("a", specs=alone), *normed("b", specs=alone),
                    weights={"bna": norm(1), "bnb": [norm(2)[0], *norm(1)[1:]]})  # fmt: skip
    assert specs(result, "a") == specs(result, "b") == [("w", 1)]
    assert result.blobs("a")[0].tobytes() == result.blobs("b")[0].tobytes()
    assert result.report.unshared == []


def test_what_does_not_change_stays_shared(merged: Merger) -> None:
    """A Bias changes no weights: they stay shared with a layer that has none behind it."""
    lines = [*tower("a"), "biasa: Bias a -> a", "ra: ReLU a -> a", *tower("b"), "rb: ReLU b -> b"]
    result = merged(*lines)
    assert result.names == ["a", "ra", "b", "rb"]
    assert specs(result, "a") == [("w", 3), ("", 1)]
    assert specs(result, "b") == [("w", 3), ("b", 1)]
    assert result.report.unshared == [Unshared("b", ("a", "b"), 24)]


def head(levels: int = 3, fields: str = "") -> List[str]:
    """A detector's head: a Convolution and a Scale shared over levels, a BatchNorm for each."""
    names = "param { name: 'g' } param { name: 'h' }"
    scale = f"{{ {names} {fields} scale_param {{ bias_term: true }} }}"
    lines = []
    for n in range(levels):
        lines += [
            f"p{n} 1 3 {7 - n} {6 - n}",
            f"c{n}: Convolution p{n} -> c{n} {{ {BOTH} {KINDS['Convolution']} pad: 1 }} }}",
            f"bn{n}: BatchNorm c{n} -> c{n}",
            f"s{n}: Scale c{n} -> c{n} {scale}",
            f"r{n}: ReLU c{n} -> c{n}",
        ]
    return lines


def test_a_detector_that_shares_over_its_anchors(merged: Merger) -> None:
    """Convolution and Scale are shared, the BatchNorms between are not: everything folds."""
    result = merged(*head())
    assert result.names == ["c0", "r0", "c1", "r1", "c2", "r2"]
    assert [(sharing.name, sharing.layers) for sharing in result.report.unshared] == [
        ("w", ("c0", "c1", "c2")), ("b", ("c0", "c1", "c2")),
    ]  # fmt: skip
    assert result.report.unshared[0].bytes == 2 * 6 * 3 * 9 * 4
    same = merged(*head(), weights={f"bn{n}": norm(5) for n in range(3)})
    assert same.names == result.names
    assert same.report.unshared == []


def test_keep_shared(merged: Merger) -> None:
    """Nothing is unshared: what is left becomes a Scale of each level, and says why."""
    result = merged(*head(), keep_shared=True)
    assert result.names == ["c0", "bn0", "r0", "c1", "bn1", "r1", "c2", "bn2", "r2"]
    assert result.report.unshared == []
    for n, others in enumerate(["'c1', 'c2'", "'c0', 'c2'", "'c0', 'c1'"]):
        assert specs(result, f"c{n}") == [("w", 3), ("b", 1)]
        reason = f"layer 'c{n}' " + KEPT.format(others)
        assert reason in result.fate(f"bn{n}").detail
        assert reason in result.fate(f"s{n}").detail
        result.refused(f"c{n}", KEPT.format(others))
    same = merged(*head(), weights={f"bn{n}": norm(5) for n in range(3)}, keep_shared=True)
    assert same.names == ["c0", "r0", "c1", "r1", "c2", "r2"]


def test_keep_shared_of_one_scale(merged: Merger) -> None:
    """Scales: two in a row that share with a third stay; of two that only share, one is left."""
    share = "{ param { name: 'w' } }"
    pair = ["x 2 6 5 4", f"a: Scale x -> a {share}", f"b: Scale a -> b {share}"]
    third = ["y 2 6 5 4", f"c: Scale y -> c {share}", "t: TanH c -> t"]
    alone = merged(*pair, keep_shared=True)
    assert alone.names == ["b"]
    result = merged(*pair, *third, keep_shared=True)
    result.refused("a", "layer 'b' " + KEPT.format("'c'"))
    result.refused("b", "layer 'b' " + KEPT.format("'c'"))
    result = merged(*pair, *third)
    assert result.names == ["b", "c", "t"]
    assert (specs(result, "b"), specs(result, "c")) == ([("", 1)], [("w", 1)])
    assert result.report.unshared == [Unshared("w", ("b", "c"), 24)]


@pytest.mark.parametrize("gone", ["a", "b"], ids=["the owner", "the sharer"])
@pytest.mark.parametrize("last", ["a", "b"])
def test_a_scale_goes_and_its_partner_stays(merged: Merger, gone: str, last: str) -> None:
    """Whoever is left has the values, though the file had them under the other's name last."""
    share = "{ param { name: 'g' } param { name: 'h' } scale_param { bias_term: true } }"
    lines = []
    for name in "ab":
        lines += tower(name, specs="")
        if name != gone:
            lines.append(f"t{name}: TanH {name} -> t{name}")
        lines += [f"s{name}: Scale {name} -> s{name} {share}", f"r{name}: ReLU s{name} -> s{name}"]
    values = {f"s{name}": [np.full(6, 2.0 + (name == last)), np.ones(6)] for name in "ab"}
    order = sorted(values, key=lambda name: name[1] == last)
    text = prototxt(*lines)
    blobs = seeded(text)
    blobs = {**{name: held for name, held in blobs.items() if name not in values},
             **{name: values[name] for name in order}}  # fmt: skip
    pair = write_pair(merged.folder, text, blobs)
    net = load_pair(pair)
    merge(net)
    out = merged.folder / "out.prototxt", merged.folder / "out.caffemodel"
    caffe_merge.save(net, *map(str, out))
    (left,) = [name for name in ("sa", "sb") if name[1] != gone]
    assert [layer.name for layer in net.layers if layer.type == "Scale"] == [left]
    record = open_index(str(out[1])).by_name()[left]
    assert record.blobs[0].array().tolist() == [3.0] * 6
    if merged.caffe is not None:
        inputs = random_inputs(net)
        old, new = (merged.caffe.forward_pair(*files, inputs) for files in (pair, out))
        assert_equal(old, new, 1e-5)


def test_names_across_types(merged: Merger) -> None:
    """A Convolution and a Deconvolution of one kernel, a bias that is a Scale's shift as well."""
    lines = [
        "x 2 6 4 3",
        "a: Convolution x -> a { param { name: 'k' } param { name: 'v' } convolution_param { "
        "num_output: 6 kernel_size: 2 } }",
        "sa: Scale a -> a { scale_param { bias_term: true } }",
        "ra: ReLU a -> a",
        "b: Deconvolution a -> b { param { name: 'k' } convolution_param { num_output: 6 "
        "kernel_size: 2 } }",
        "sb: Scale b -> b { param { } param { name: 'v' } scale_param { bias_term: true } }",
        "rb: PReLU b -> b { param { name: 'v' } }",
    ]
    result = merged(*lines)
    assert result.names == ["a", "ra", "b", "rb"]
    assert specs(result, "a") == [("", 1), ("", 1)]
    assert specs(result, "rb") == [("v", 1)]
    assert [sharing.name for sharing in result.report.unshared] == ["k", "v"]
    assert merged(*lines, keep_shared=True).names == ["a", "sa", "ra", "b", "sb", "rb"]


def test_a_name_that_one_layer_has_twice(merged: Merger) -> None:
    """Weights and bias in one piece of memory: it is theirs no longer once they are folded."""
    twice = "param { name: 'w' share_mode: PERMISSIVE } " * 2
    body = f"{{ {twice} inner_product_param {{ num_output: 6 }} }}"
    lines = ["x 2 1", f"a: InnerProduct x -> a {body}", "bn: BatchNorm a -> n"]
    result = merged(*lines)
    assert result.names == ["a"]
    assert "share_mode" not in result.text
    assert result.report.unshared == [Unshared("w", ("a",), 24)]
    kept = merged(*lines, keep_shared=True)
    assert kept.names == ["a", "bn"]
    kept.refused("a", KEPT.format("'a'"))


def test_permissive_sharing_of_other_shapes(merged: Merger) -> None:
    """One kernel as a Convolution's and as an InnerProduct's weights, folded alike or not."""
    spec = "param { name: 'w' share_mode: PERMISSIVE }"
    lines = ["x 2 3 1 1", f"a: Convolution x -> a {{ {spec} convolution_param {{ num_output: 6 "
             "kernel_size: 1 } }", "bna: BatchNorm a -> na", "y 2 3",
             f"b: InnerProduct y -> b {{ {spec} inner_product_param {{ num_output: 6 }} }}",
             "bnb: BatchNorm b -> nb"]  # fmt: skip
    for values in ({}, {"bna": norm(1), "bnb": norm(1)}):
        result = merged(*lines, weights=values)
        assert result.names == ["a", "b"]
        assert "share_mode" not in result.text
        assert result.report.unshared == [Unshared("w", ("a", "b"), 72)]

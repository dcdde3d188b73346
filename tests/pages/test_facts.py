"""What a page tells of each layer."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

import caffe_merge
from caffe_merge.pages.facts import Facts, Makers, gather, rising
from caffe_merge.pages.snapshot import Node, Snapshots
from tests.nets import load, prototxt

NET = prototxt(
    "data 2 3 8 7",
    "conv: Convolution data -> c { convolution_param { num_output: 5 kernel_size: 3 } }",
    "bn: BatchNorm c -> c",
    "relu: ReLU c -> c",
    "late: BatchNorm c -> late",
)


@pytest.fixture
def merged(tmp_path: Path) -> Tuple[List[Node], List[Node], Dict[str, Any]]:
    net = load(tmp_path, NET)
    snapshots = Snapshots()
    before = snapshots.take(net.graph())
    report = caffe_merge.merge(net, keep=["late"])
    return before, snapshots.take(net.graph()), report.to_json()


def by_name(facts: List[Facts]) -> Dict[str, Facts]:
    return {fact.node.name: fact for fact in facts}


def test_what_became_of_each_layer(merged: Any) -> None:
    facts = by_name(gather(*merged))
    fates = {name: fact.fate for name, fact in facts.items()}
    assert fates == {
        "data": "kept", "conv": "changed", "bn": "gone", "relu": "kept", "late": "kept",
    }  # fmt: skip
    assert facts["bn"].rewrites == (("fold-affine", "folded into Convolution 'conv'"),)
    assert facts["conv"].rewrites == (("fold-affine", "takes in 'bn'"),)
    assert facts["bn"].after is None
    assert "keep" in facts["late"].stayed
    assert facts["late"].refusals[0][0] == "fold-affine"


def blob(name: str, error: Any, reader: str = "", problem: str = "") -> Dict[str, Any]:
    return {
        "name": name,
        "reader": reader,
        "max_error": error,
        "limit": 1e-5,
        "problem": problem,
    }


def test_errors_are_of_the_layers_that_make_the_blobs(merged: Any) -> None:
    before, after, report = merged
    blobs = [blob("c", 3e-7, reader="relu"), blob("c", 2e-7), blob("late", None, "", "not finite")]
    facts = by_name(gather(before, after, {**report, "validation": {"blobs": blobs}}))
    assert facts["bn"].error == 3e-7, "it makes what relu reads"
    assert facts["conv"].error == 3e-7, "and now the convolution does"
    assert facts["relu"].error == 2e-7
    assert facts["data"].error is None
    assert [name for name, fact in facts.items() if fact.beyond] == ["late"]


def test_makers_of_a_blob_that_is_written_twice(merged: Any) -> None:
    makers = Makers(merged[0])
    conv, bn, relu = (merged[0][at].number for at in (1, 2, 3))
    assert [makers.of("c", "bn"), makers.of("c", "relu"), makers.of("c")] == [conv, bn, relu]
    assert makers.of("nothing") is None
    assert makers.of("c", "nobody") is None


def test_layers_that_changed_places() -> None:
    def node(number: int) -> Node:
        return Node(number, f"n{number}", "ReLU", (), (), (), (), (), 0, 0, ())

    report: Dict[str, Any] = {"refusals": [], "changes": [], "fates": []}
    nodes = [node(number) for number in range(4)]
    after = [nodes[0], nodes[2], nodes[1], node(9)]
    facts = gather(nodes, after, report)
    fates = {fact.node.name: fact.fate for fact in facts}
    assert (fates["n0"], fates["n3"], fates["n9"]) == ("kept", "gone", "added")
    assert sorted((fates["n1"], fates["n2"])) == ["kept", "moved"], "one explains it"


def test_a_longest_rising_sequence() -> None:
    assert rising([]) == []
    assert rising([1, 2, 3]) == [True] * 3
    assert rising([5, 1, 2, 9, 3]) == [False, True, True, False, True]
    assert sum(rising([3, 2, 1])) == 1

"""Rounds of passes: again and again, until nothing changes, and no pass for nothing."""

from pathlib import Path
from typing import Any, List

import pytest

import caffe_merge
from caffe_merge.net.graph import Graph
from caffe_merge.options import Options
from caffe_merge.passes import PASSES
from caffe_merge.passes.rewriting.rewrite import Pass
from tests.nets import load, prototxt


def test_a_pass_is_not_run_again_where_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are its refusals lost: those of a pass that ran last in the first round."""
    begun: List[str] = []
    for listed in PASSES:
        kind = listed.kind

        def find(pass_: Pass, graph: Graph, finds: Any = kind.find) -> Any:
            begun.append(pass_.name)
            return finds(pass_, graph)

        monkeypatch.setattr(kind, "find", find)
    lines = (
        "data 2 5 8 7",
        "conv: Convolution data -> conv { convolution_param { num_output: 6 kernel_size: 3 } }",
        "double: Power conv -> p { power_param { scale: 2 } }",
    )
    report = caffe_merge.merge(load(tmp_path, prototxt(*lines, "n: BatchNorm data -> n")))
    types = ["Input", "Convolution", "Power", "BatchNorm"]
    tried = [p for p in PASSES if p.is_asked_for(Options()) and p.may_find(types)]
    names = [listed.name for listed in tried]
    assert "merge-serial" in names
    assert not {"equalize", "merge-concat"} & {*names}
    assert {change.rewrite for change in report.changes} == {"fold-affine", "one-scale"}
    last = names.index("one-scale")
    assert begun == [*names, *names[: last + 1]]
    assert "fold-forward" in {refusal.rewrite for refusal in report.refusals}

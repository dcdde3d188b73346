"""Refusals in groups, and what to do about them."""

import pytest

from caffe_merge import notes
from caffe_merge.command.flags import flag_of
from caffe_merge.errors import spelled
from caffe_merge.notes import NET, SHAPE
from caffe_merge.pages.advice import grouped


def refusal(layer: str, reason: str, kind: str = NET, rewrite: str = "fold-affine") -> dict:
    return {"rewrite": rewrite, "layer": layer, "type": "Scale", "kind": kind, "reason": reason}


def test_refusals_of_one_pass_and_kind_are_one_group() -> None:
    groups = grouped(
        [
            refusal("d", "it acts along axis 2", rewrite="one-scale"),
            refusal("a", "its stride is 2"),
            refusal("b", "it acts along axis 2"),
            refusal("c", "its stride is 2"),
            refusal("e", "its stride is 2", SHAPE),
        ]
    )
    assert [(group.rewrite, group.total, group.reasons) for group in groups] == [
        ("fold-affine", 3, [("its stride is 2", ["a", "c"]), ("it acts along axis 2", ["b"])]),
        ("one-scale", 1, [("it acts along axis 2", ["d"])]),
        ("fold-affine", 1, [("its stride is 2", ["e"])]),
    ]


@pytest.mark.parametrize("kind", notes.KINDS)
def test_every_kind_says_what_to_do(kind: str) -> None:
    (group,) = grouped([refusal("a", "why", kind)])
    assert group.kind.advice.endswith(".")
    assert not group.kind.about.endswith(".")


def test_options_are_named() -> None:
    (group,) = grouped([refusal("a", "the shape of its bottom is not known", SHAPE)])
    assert "--input-shape" in spelled(group.kind.advice, flag_of)

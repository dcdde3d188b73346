"""Refusals in groups, and what to do about them."""

import pytest

from caffe_merge.command.flags import flag_of
from caffe_merge.errors import spelled
from caffe_merge.notes import ASKED, NET, PROOF, SHARED, UNKNOWN
from caffe_merge.pages.advice import grouped


def refusal(layer: str, reason: str, kind: str = NET, rewrite: str = "fold-affine") -> dict:
    return {"rewrite": rewrite, "layer": layer, "type": "Scale", "kind": kind, "reason": reason}


def test_reasons_that_differ_in_names_alone_are_one_group() -> None:
    groups = grouped(
        [
            refusal("a", "it is fed by 'x', a Pooling"),
            refusal("b", "it acts along axis 2"),
            refusal("c", 'it is fed by "it\'s", a Pooling'),
            refusal("d", "it is fed by 'x', a Pooling", rewrite="one-scale"),
        ]
    )
    message = [(group.rewrite, group.reason, len(group.refusals)) for group in groups]
    assert message == [
        ("fold-affine", "it is fed by \N{HORIZONTAL ELLIPSIS}, a Pooling", 2),
        ("fold-affine", "it acts along axis 2", 1),
        ("one-scale", "it is fed by 'x', a Pooling", 1),
    ]


@pytest.mark.parametrize("kind", [NET, ASKED, SHARED, UNKNOWN, PROOF])
def test_every_kind_says_what_to_do(kind: str) -> None:
    (group,) = grouped([refusal("a", "why", kind)])
    assert group.advice.endswith(".")


def test_some_reasons_have_advice_of_their_own() -> None:
    (group,) = grouped([refusal("a", "the shape of its bottom is not known")])
    assert "--input-shape" in spelled(group.advice, flag_of)

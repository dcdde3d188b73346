"""The lists of passes and forms: each is found by its name."""

from caffe_merge.passes import PASSES
from caffe_merge.passes.forms import FORMS


def test_every_pass_has_a_name_and_a_reason() -> None:
    """Pass names are the command line's: kebab-case, no two alike."""
    names = [listed.name for listed in PASSES]
    assert names == [
        "drop-identity",
        "drop-crop",
        "drop-rectifier",
        "merge-permutes",
        "fold-permute",
        "absorb-bias",
        "fold-swap",
        "fold-affine",
        "merge-branches",
        "merge-product",
        "merge-concat",
        "merge-groups",
        "merge-serial",
        "pool-first",
        "raise-stride",
        "fold-through",
        "fold-forward",
        "fold-image",
        "one-scale",
        "drop-dead-channels",
        "affine-as",
        "equalize",
        "in-place",
    ]
    assert [listed.kind.name for listed in (*PASSES, *FORMS)] == [*names, *(f.name for f in FORMS)]


def test_each_has_a_summary() -> None:
    assert [listed.name for listed in (*PASSES, *FORMS) if not listed.summary.endswith(".")] == []

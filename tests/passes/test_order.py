"""The rewrites, and the order in which they are tried."""

from caffe_merge.passes import PASSES


def test_every_pass_has_a_name_and_a_reason() -> None:
    """Pass names are the command line's: kebab-case, no two alike."""
    names = [one.name for one in PASSES]
    assert names == [
        "absorb-bias",
        "drop-identity",
        "drop-crop",
        "drop-rectifier",
        "merge-permutes",
        "fold-permute",
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

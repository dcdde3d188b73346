"""What there is to choose from: the passes and the styles of BatchNorm, by name; long lists cut."""

from __future__ import annotations

from typing import Iterator, Sequence

SHOWN = 12  # lines of one kind that are printed without -v


def passes() -> Iterator[str]:
    """The passes, in the order in which they are tried, then the forms, and what each does."""
    from caffe_merge.passes import PASSES
    from caffe_merge.passes.forms import FORMS

    of_targets = [(form.name, "With --target: " + form.summary) for form in FORMS]
    yield from aligned([(a_pass.name, a_pass.summary) for a_pass in PASSES] + of_targets)


def styles() -> Iterator[str]:
    """The styles of BatchNorm-like layers: the types that each is for, whose it is, the formula."""
    from caffe_merge.command.flags import flag_of
    from caffe_merge.errors import spelled
    from caffe_merge.layers.norms.styles import STYLES

    for style in STYLES:
        yield f"{style.name}: {', '.join(style.types)}, of {style.forks}"
        yield f"    {style.formula}"
        yield f"    blobs: {', '.join(style.order)}; recognised by: {spelled(style.when, flag_of)}"


def targets() -> Iterator[str]:
    """The programs that read Caffe pairs, for --target."""
    from caffe_merge.passes.targets.table import table

    yield from aligned([(target.name, target.title) for target in table().targets.values()])


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """``rows`` of two texts, the second ones below each other."""
    width = max(len(row[0]) for row in rows)
    yield from (f"{name:{width}}  {text}" for name, text in rows)


def limited(lines: Sequence[str], verbose: bool) -> Iterator[str]:
    """``lines``, or the first of them and how many more there are."""
    shown = lines if verbose else lines[:SHOWN]
    yield from shown
    if len(shown) < len(lines):
        yield f"  ... and {len(lines) - len(shown)} more (-v shows all)"

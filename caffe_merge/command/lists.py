"""What there is to choose from: the passes and the styles of BatchNorm, by name."""

from typing import Iterator, Sequence


def passes() -> Iterator[str]:
    """The passes, in the order in which they are tried, and what each does."""
    from caffe_merge.passes import PASSES

    yield from _aligned([(a_pass.name, _first_line(a_pass)) for a_pass in PASSES])


def styles() -> Iterator[str]:
    """The styles of BatchNorm-like layers: the types that each is for, whose it is, the formula."""
    from caffe_merge.command.flags import flag_of
    from caffe_merge.errors import spelled
    from caffe_merge.layers.norms.styles import STYLES

    for style in STYLES:
        yield f"{style.name}: {', '.join(style.types)}, of {style.forks}"
        yield f"    {style.formula}"
        yield f"    blobs: {', '.join(style.order)}; told by: {spelled(style.when, flag_of)}"


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    width = max(len(row[0]) for row in rows)
    yield from (f"{name:{width}}  {text}" for name, text in rows)

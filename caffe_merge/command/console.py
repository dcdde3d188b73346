"""What the commands print: summaries, tables and sentences. Data in, lines of text out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

from caffe_merge.command.flags import flag_of
from caffe_merge.command.lists import limited
from caffe_merge.errors import spelled
from caffe_merge.layers import ranges
from caffe_merge.merging.report import Change, Fate, Report
from caffe_merge.net.loading import Net
from caffe_merge.notes import Note
from caffe_merge.wording import counted, named, quoted

if TYPE_CHECKING:
    from caffe_merge.merging.approximation import Approximation

EQUALIZE = "equalize"


def summary(report: Report, comparison: Optional[Any], verbose: bool) -> Iterator[str]:
    """A short summary of a merge: sizes before and after, what stayed and why, the proof."""
    yield from _sizes(report)
    yield from _fates(report, verbose)
    yield from _merges(report, verbose)
    if verbose:
        yield from _refusals(report)
    yield from _unshared(report, verbose)
    yield from _target(report)
    yield from _notes(report.notes, verbose)
    yield from _wide(report)
    yield from inexact(report.approximation, verbose)
    if comparison is not None:
        yield from comparison.summary(flag_of).splitlines()
    elif report.unchanged:
        yield "nothing to do: no layer was changed, so there is nothing to validate"
    elif "validation" in report.extra:
        yield "validation: none, as asked"
    seconds = report.extra["seconds"]
    parts = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    yield f"time: {sum(seconds.values()):.2f} s ({parts})"


def merged(result: Any, conversion: Any, verbose: bool) -> Iterator[str]:
    """The summary of a ``convert``, and where its pair is now."""
    yield from summary(result.report, result.comparison, verbose)
    if result.ok:
        yield f"written: {conversion.output_model}, {conversion.output_weights}"


def compared(comparison: Any, verbose: bool) -> Iterator[str]:
    """A comparison in short; with -v blob by blob."""
    yield from comparison.summary(flag_of).splitlines()
    if verbose:
        for blob in comparison.blobs:
            remarks = "; ".join(
                str(text) for text in (blob.problem, blob.remark) if text is not None
            )
            yield f"{blob.max_error:9.2e}  {blob.label}  {remarks}".rstrip()


def inexact(approximation: Optional[Approximation], verbose: bool) -> Iterator[str]:
    """What is not exact, and how far the outputs have moved for it, the furthest first."""
    if approximation is not None:
        yield _with_flags(approximation.summary())
        yield from limited(approximation.lines(), verbose)


def _sizes(report: Report) -> Iterator[str]:
    before, after = report.before, report.after
    rows = [
        ("layers", before.layers, after.layers, ""),
        ("parameters", before.parameters, after.parameters, ""),
    ]
    if before.multiply_adds is not None and after.multiply_adds is not None:
        note = (
            f"at least: {counted(after.uncounted, 'layer')} not counted" if after.uncounted else ""
        )
        rows.append(("multiply-adds", before.multiply_adds, after.multiply_adds, note))
    if before.activation_bytes is not None and after.activation_bytes is not None:
        held = before.activation_bytes, after.activation_bytes
        rows.append(("activations", *held, "bytes of all blobs in Caffe"))
    sizes = report.extra.get("files", {})
    if "output_weights_bytes" in sizes:
        old = sizes["model_bytes"] + sizes["weights_bytes"]
        new = sizes["output_model_bytes"] + sizes["output_weights_bytes"]
        rows.append(("bytes", old, new, ""))
    yield f"{'':13}  {'before':>15}  {'after':>15}"
    for name, old, new, note in rows:
        change = f"{100 * (new - old) / old:+8.1f} %" if old else ""
        yield f"{name:13}  {old:15,}  {new:15,}{change}  {note}".rstrip()


def _fates(report: Report, verbose: bool) -> Iterator[str]:
    """BatchNorm, Scale, Dropout and their like: how many went, and each that did not, with why."""
    counts: dict[tuple[str, str], int] = {}
    for fate in report.fates:
        counts[fate.type, fate.fate] = counts.get((fate.type, fate.fate), 0) + 1
    for kind in dict.fromkeys(fate.type for fate in report.fates):
        parts = [
            f"{counts[kind, what]} {what}"
            for what in ("gone", "changed", "kept")
            if (kind, what) in counts
        ]
        yield f"{kind}: {', '.join(parts)}"
    shown = [fate for fate in report.fates if verbose or fate.fate != "gone"]
    yield from limited([_fate_line(fate) for fate in shown], verbose)


def _with_flags(text: str) -> str:
    """``text`` of the library, with options as flags."""
    return spelled(text, flag_of)


def _fate_line(fate: Fate) -> str:
    return f"  {fate.type} {fate.layer!r} {fate.fate}: {_with_flags(fate.detail)}"


def _merges(report: Report, verbose: bool) -> Iterator[str]:
    """How many layers, of whatever type, went into how many; one by one with -v."""
    merges = [change for change in report.changes if change.rewrite.startswith("merge-")]
    for name in dict.fromkeys(change.rewrite for change in merges):
        merged = [change for change in merges if change.rewrite == name]
        removed = sum(len(change.removed) for change in merged)
        yield f"{name}: {removed} gone, into {len({change.changed for change in merged})}"
        if verbose:
            yield from (f"  {_change_line(change)}" for change in merged)


def _refusals(report: Report) -> Iterator[str]:
    """What stayed, and why, of layers whose fate is not printed already."""
    layers = {fate.layer for fate in report.fates}
    for refusal in report.refusals:
        if refusal.layer not in layers:
            reason = _with_flags(refusal.reason)
            yield f"  {refusal.type} {refusal.layer!r} kept by {refusal.rewrite}: {reason}"


def _change_line(change: Change) -> str:
    removes = f"removes {', '.join(map(repr, change.removed))}" if change.removed else ""
    changes = f"changes {', '.join(map(repr, change.changed))}" if change.changed else ""
    adds = f"adds {', '.join(map(repr, change.added))}" if change.added else ""
    return "; ".join(filter(None, (removes, changes, adds)))


def _types_line(change: Change) -> str:
    """``Convolution <- BatchNorm, Scale``: what takes in what, by type, and what is new."""
    taken = " <- ".join(filter(None, map(_types, (change.changed_types, change.removed_types))))
    added = f"adds {_types(change.added_types)}" if change.added_types else ""
    return "; ".join(filter(None, (taken, added)))


def _types(types: Sequence[str]) -> str:
    """``Convolution (2), ReLU``."""
    return ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in Counter(types).items())


def _unshared(report: Report, verbose: bool) -> Iterator[str]:
    """What unsharing costs, in one line; name by name with -v."""
    if not report.unshared:
        return
    names = [repr(blob.name) for blob in report.unshared]
    blobs = names[0] if len(names) == 1 else counted(len(names), "blob")
    total = sum(blob.bytes for blob in report.unshared)
    yield f"unshared: {blobs}, {total:,} bytes more in memory; --keep-shared leaves them shared"
    if verbose:
        for blob in report.unshared:
            yield f"  {blob.name!r} of {', '.join(map(repr, blob.layers))}: {blob.bytes:,} bytes"


def _notes(all_notes: Sequence[Note], verbose: bool) -> Iterator[str]:
    """The notes, one line for all of a kind that many layers have; with -v one by one."""
    groups: Dict[Tuple[str, int], List[Note]] = {}
    for number, note in enumerate(all_notes):
        is_summed = note.kind in _SUMS and not verbose
        groups.setdefault((note.kind, 0 if is_summed else number), []).append(note)
    yield from limited([_notes_line(notes) for notes in groups.values()], verbose)


def _target(report: Report) -> Iterator[str]:
    """What came of ``--target``: how much it did not take before, and does not take now."""
    if report.target is not None:
        from caffe_merge.pages import targets

        yield targets.line(report.target)


def _wide(report: Report) -> Iterator[str]:
    """Where 8 bits with one scale per tensor would lose most: one line, if that is much."""
    rescaled = {
        name for change in report.changes if change.rewrite == EQUALIZE for name in change.changed
    }
    worst = ranges.worst(report.weighted)
    if rescaled and worst is not None:
        before = ranges.worst(report.weighted_before)
        ratios = f"{before.to_median if before else 1:.1f} -> {worst.to_median:.1f}"
        layers = counted(len(rescaled), "layer")
        worst_of = "largest / median channel of the worst, in the original and now"
        yield f"{EQUALIZE}: {layers} rescaled; {worst_of}: {ratios}"
    if worst is not None and worst.to_median > ranges.TOO_WIDE:
        or_equalize = "" if rescaled else ", or merge with --equalize"
        yield (
            f"8 bits: in the merged pair, the largest channel of layer {quoted(worst.layer)} is "
            f"{worst.to_median:.0f} times its median one: quantise per channel{or_equalize} "
            "(caffe-merge ranges shows all layers of the pair that it is given)"
        )


# Kinds of notes that come one a layer: what is said of so many of them, of layers so named.
_SUMS = {
    "filler-weights": "the file has no weights for {} layers ({}); they run on their fillers, "
    "as in Caffe: is this the right pair?",
    "missing-weights": "the file has no weights for {} layers ({}); Caffe would run them on "
    "random or unknown fillers: is this the right pair?",
    "unknown-field": "{} fields that BVLC Caffe does not know: kept",
}


def _notes_line(notes: Sequence[Note]) -> str:
    first = notes[0]
    if len(notes) > 1:
        shown = named([note.layer for note in notes], 2)
        return "note: " + _SUMS[first.kind].format(f"{len(notes):,}", shown)
    return f"note: {f'layer {first.layer!r}: ' if first.layer else ''}{_with_flags(first.text)}"


def plan(report: Report, verbose: bool) -> Iterator[str]:
    """The rewrites, those that are alike as one line or, with -v, one by one; what stays, why."""
    if not report.changes:
        yield "nothing to do"
    alike: Dict[Tuple[str, str], List[Change]] = {}
    for change in report.changes:
        alike.setdefault((change.rewrite, _types_line(change)), []).append(change)
    for (rewrite, types), changes in alike.items():
        if len(changes) > 1 and not verbose:
            yield f"{rewrite}: {len(changes)} x {types}"
        else:
            yield from (f"{rewrite}: {_change_line(change)}" for change in changes)
    yield from _sizes(report)
    yield from _fates(report, verbose)
    if verbose:
        yield from _refusals(report)
    yield from _unshared(report, verbose)
    yield from _target(report)
    yield from _notes(report.notes, verbose)
    yield from _wide(report)
    yield from inexact(report.approximation, verbose)


def advice(net: Net, verbose: bool) -> Iterator[str]:
    """What ``inspect`` says below its tables: shapes that are missing, notes on the net."""
    for name, option in net.missing_shapes().items():
        yield f"the shape of {quoted(name)} is not known: add {spelled(option, flag_of)}"
    yield from _notes(net.notes, verbose)

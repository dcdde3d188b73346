"""What the commands print: summaries, tables and sentences. Data in, lines of text out."""

from typing import Any, Iterator, List, Optional, Sequence, Tuple

from caffe_merge.merging.report import Change, Fate, Report, multiply_adds
from caffe_merge.net.graph import Graph
from caffe_merge.wording import counted, visible

SHOWN = 12  # lines of one kind that are printed without -v


def summary(report: Report, comparison: Optional[Any], verbose: bool) -> Iterator[str]:
    """A short summary of a merge: sizes before and after, what stayed and why, the proof."""
    yield from _sizes(report)
    yield from _fates(report, verbose)
    yield from _merges(report, verbose)
    if verbose:
        yield from _refusals(report)
    yield from _unshared(report, verbose)
    yield from _notes(report, verbose)
    if comparison is not None:
        yield from comparison.summary().splitlines()
    elif "validation" in report.extra:
        yield "validation: none, as asked"
    seconds = report.extra["seconds"]
    parts = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    yield f"time: {sum(seconds.values()):.2f} s ({parts})"


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
    yield from _limited([_fate_line(fate) for fate in shown], verbose)


def _fate_line(fate: Fate) -> str:
    return f"  {fate.type} {fate.layer!r} {fate.fate}: {fate.detail}"


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
    """What stayed, and why, of layers whose fate is not told already."""
    layers = {fate.layer for fate in report.fates}
    for refusal in report.refusals:
        if refusal.layer not in layers:
            yield f"  {refusal.type} {refusal.layer!r} kept by {refusal.rewrite}: {refusal.reason}"


def _change_line(change: Change) -> str:
    removes = f"removes {', '.join(map(repr, change.removed))}" if change.removed else ""
    changes = f"changes {', '.join(map(repr, change.changed))}" if change.changed else ""
    return "; ".join(filter(None, (removes, changes)))


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


def _notes(report: Report, verbose: bool) -> Iterator[str]:
    """Loud notes one by one, the others by kind and number."""
    loud = [note for note in report.notes if note.kind != "unknown-field"]
    lines = [f"note: {f'layer {n.layer!r}: ' if n.layer else ''}{n.text}" for n in loud]
    yield from _limited(lines, verbose)
    unknown = [note for note in report.notes if note.kind == "unknown-field"]
    if unknown and verbose:
        yield from (f"note: {note.layer!r}: {note.text}" for note in unknown)
    elif unknown:
        fields = counted(len(unknown), "field")
        yield f"note: {fields} that BVLC Caffe does not know: kept"


def _limited(lines: Sequence[str], verbose: bool) -> Iterator[str]:
    shown = lines if verbose else lines[:SHOWN]
    yield from shown
    if len(shown) < len(lines):
        yield f"  ... and {len(lines) - len(shown)} more (-v shows all)"


def plan(report: Report, verbose: bool) -> Iterator[str]:
    """Every rewrite in order, then what stays and why."""
    for change in report.changes:
        yield f"{change.rewrite}: {_change_line(change)}"
    if not report.changes:
        yield "nothing to do"
    yield from _sizes(report)
    yield from _fates(report, verbose)
    if verbose:
        yield from _refusals(report)
    yield from _unshared(report, verbose)
    yield from _notes(report, verbose)


def inspect(graph: Graph, parameters: Sequence[Optional[int]]) -> Iterator[str]:
    """The net as a table: layer, type, output shape, parameters, multiply-adds; and the totals."""
    rows: List[Tuple[str, str, str, str, str]] = []
    total_parameters = total_cost = unknown = 0
    for layer, count in zip(graph.layers, parameters):
        cost = multiply_adds(graph, layer)
        unknown += cost is None
        total_cost += cost or 0
        total_parameters += count or 0
        shapes = [version.shape for version in graph.tops[layer]]
        shown = ", ".join("?" if s is None else "x".join(map(str, s)) or "scalar" for s in shapes)
        rows.append(
            (
                visible(layer.name),
                visible(layer.type),
                shown,
                "?" if count is None else f"{count:,}",
                "?" if cost is None else f"{cost:,}",
            )
        )
    rows.append(("", "", "", f"{total_parameters:,}", f"{total_cost:,}"))
    heads = ("layer", "type", "output", "parameters", "multiply-adds")
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(5)]
    for number, row in enumerate([heads, *rows]):
        if number in (1, len(rows)):
            yield "-" * (sum(widths) + 8)
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:])]
        yield "  ".join([*left, *right]).rstrip()
    tail = f"; the multiply-adds of {unknown} are not known" if unknown else ""
    yield f"{counted(len(graph.layers), 'layer')}{tail}"

"""The command batch: its plan, its progress, its table, its exit status."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from caffe_merge.batching import report
from caffe_merge.batching.batch import Placed, Plan, plan, results
from caffe_merge.batching.outcome import UNCHANGED, Result
from caffe_merge.command.flags import STDOUT, flag_of
from caffe_merge.command.library import batch_request
from caffe_merge.command.lists import limited
from caffe_merge.errors import spelled
from caffe_merge.wording import counted, visible

NAME, RUNNING = 30, 3  # characters of a name in the bar, and names
Print = Callable[[Iterable[str]], None]
HEADS = ("pair", "verdict", "layers", "multiply-adds", "bytes", "worst error", "seconds")


def run(values: Mapping[str, Any], print_: Print, print_error: Print) -> bool:
    """Do as the flags ask; whether all pairs are in place."""
    progress = _Progress(values["quiet"], print_error)
    requested = batch_request(values, progress.started)
    planned = plan(requested)
    if values["plan"]:
        if not values["quiet"]:
            print_(plan_lines(planned, values["verbose"]))
        return True
    if values["report"] not in (None, STDOUT):
        report.check(values["report"], planned, requested.output_dir)
    total = len(planned.jobs) + len(planned.unpaired)
    done: List[Result] = []
    placed = Placed(planned)
    try:
        with progress.over(total), contextlib.closing(results(requested, planned)) as ended:
            for result in ended:
                done.append(result)
                progress.ended(result)
    except KeyboardInterrupt:  # the workers are stopped by now
        printed = {result.name for result in done}
        untold = sum(name not in printed for name in placed.names())
        _finish(done, total, values, print_, print_error, untold)
        print_error([f"interrupted: {_in_place(done, total, untold)}; --resume goes on from there"])
        raise
    _finish(done, total, values, print_, print_error)
    return len(done) == total and all(result.ok for result in done)


def _finish(
    done: Sequence[Result],
    total: int,
    values: Mapping[str, Any],
    print_: Print,
    print_error: Print,
    untold: int = 0,
) -> None:
    done = sorted(done, key=lambda result: result.name)
    if values["report"] not in (None, STDOUT):
        report.write(values["report"], done, flag_of)
    if values["report"] == STDOUT:
        print_(report.to_json(done, flag_of).splitlines())
    if values["quiet"] or values["report"] == STDOUT:
        print_error(failures(done))
    else:
        print_([*table(done), *totals(done, total, untold), *targets(done), *failures(done)])


class _Progress:
    """One bar over all pairs on a terminal, else a line a pair; nothing if it is to be quiet."""

    def __init__(self, quiet: bool, print_error: Print) -> None:
        self._quiet = quiet
        self._print = print_error
        self._running: Dict[str, None] = {}
        self._bar: Optional[Any] = None
        self._total = self._ended = 0

    def over(self, total: int) -> _Progress:
        """The same, for so many pairs."""
        self._total = total
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc="merging", unit="pair", leave=False)
        return self

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def started(self, name: str) -> None:
        """A worker takes the pair ``name``."""
        self._running[name] = None
        self._show(refresh=True)

    def ended(self, result: Result) -> None:
        """The pair of ``result`` is done."""
        self._running.pop(result.name, None)
        self._ended += 1
        if self._bar is not None:
            self._show(refresh=False)
            self._bar.update()
        elif not self._quiet:
            self._print([f"[{self._ended}/{self._total}] {_line(result)}"])

    def _show(self, refresh: bool) -> None:
        """Have the bar tell the pairs that are being merged, each by the end of its path."""
        if self._bar is not None:
            running = [visible(name)[-NAME:] for name in list(self._running)]
            self._bar.set_postfix_str(" ".join(running[:RUNNING]), refresh)


def _line(result: Result) -> str:
    if not result.ok:
        return failure(result)
    seconds = f", {result.outcome.seconds:.2f} s" if result.outcome.status != UNCHANGED else ""
    return f"{result.name}: {_verdict(result)}{seconds}"


def _verdict(result: Result) -> str:
    """What the engine found, or that nothing was done; of a failure its kind."""
    outcome = result.outcome
    if outcome.status == UNCHANGED:
        return UNCHANGED
    if not outcome.ok:
        return f"failed ({outcome.kind})"
    validation = outcome.validation or {}
    status, accuracy = validation.get("status"), validation.get("accuracy")
    if accuracy is not None:
        return f"{status}, accuracy {accuracy[0]:.2%} -> {accuracy[1]:.2%}"
    return "not validated" if status == "none" else str(status)


def table(done: Sequence[Result]) -> Iterator[str]:
    """A row for each pair: before and after."""
    rows = [HEADS, *map(_row, done)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    for number, row in enumerate(rows):
        if number == 1:
            yield "-" * (sum(widths) + 2 * len(widths) - 2)
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        yield "  ".join([*left, *right]).rstrip()


def _row(result: Result) -> tuple[str, ...]:
    outcome = result.outcome
    figures = outcome.figures or {}
    worst = (outcome.validation or {}).get("worst")
    return (
        visible(result.name),
        _verdict(result),
        *(_change(figures.get(name)) for name in ("layers", "multiply_adds", "bytes")),
        "" if worst is None else f"{worst:.1e}",
        f"{outcome.seconds:.2f}",
    )


def _change(figure: Optional[Sequence[Optional[int]]]) -> str:
    if figure is None or None in figure:
        return ""
    before, after = figure
    return f"{before:,} -> {after:,}"


def totals(done: Sequence[Result], total: int, untold: int = 0) -> Iterator[str]:
    """What all pairs come to; ``untold`` ones are in place, and have no result."""
    sums = report.totals(done)
    parts = [_in_place(done, total, untold)]
    parts += [f"{sums[UNCHANGED]} of them unchanged"] if sums[UNCHANGED] else []
    parts += [f"{sums['failed']} failed"] if sums["failed"] else []
    for name in ("layers", "multiply_adds", "bytes"):
        if name in sums:
            parts.append(f"{name.replace('_', '-')} {_change(sums[name])}")
    parts.append(f"{sums['seconds']:.2f} s of work")
    yield "; ".join(parts)


def _in_place(done: Sequence[Result], total: int, untold: int) -> str:
    count = sum(result.ok for result in done) + untold
    more = f" ({untold} of them put there as it was stopped, and not in the table)"
    return f"{count} of {counted(total, 'pair')} in place{more if untold else ''}"


def targets(done: Sequence[Result]) -> Iterator[str]:
    """What the program that the pairs are for does not take, a line for each pair."""
    pairs = ((result.name, result.outcome.target) for result in done if result.ok)
    return (f"{name}: {line}" for name, line in pairs if line is not None)


def failures(done: Sequence[Result]) -> Iterator[str]:
    """One line for each pair that is not in place, with what to do."""
    return (f"failed: {failure(result)}" for result in done if not result.ok)


def failure(result: Result) -> str:
    """Which pair, why, and what to do."""
    texts = [spelled(text, flag_of) for text in (result.outcome.reason, result.outcome.advice)]
    return f"{result.name}: {'; '.join(filter(None, texts))}"


def plan_lines(planned: Plan, verbose: bool) -> Iterator[str]:
    """Every pair and why it is one, then what is in none."""
    for job in planned.jobs:
        model, weights = job.inputs
        yield f"{weights} + {model}: {job.why}"
        yield f"  -> {', '.join(job.outputs)}"
    for unpaired in planned.pairing.unpaired:
        kind = "ambiguous" if unpaired.candidates else "no pair"
        yield f"{kind}: {unpaired.weights}: {spelled(unpaired.why, flag_of)}"
        yield from (f"  {path}" for path in unpaired.candidates)
    left_out = planned.pairing.left_out
    yield from limited(
        [f"left out: {entry.path}: {spelled(entry.why, flag_of)}" for entry in left_out], verbose
    )
    ambiguous = sum(bool(unpaired.candidates) for unpaired in planned.pairing.unpaired)
    alone = len(planned.pairing.unpaired) - ambiguous
    parts = [counted(len(planned.jobs), "pair")]
    parts += [f"{ambiguous} ambiguous"] if ambiguous else []
    parts += [f"{alone} without a partner"] if alone else []
    yield ", ".join(parts)

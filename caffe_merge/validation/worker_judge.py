"""The comparison by an engine that runs whole nets: each in a worker, blobs compared by name."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import Callable, Dict, Iterator, List, Sequence, Set, Tuple

import numpy as np

from caffe_merge.errors import ValidationError
from caffe_merge.validation import registry
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.judging import (
    Judging,
    Sample,
    check_fed,
    compared,
    is_smaller,
    least_limit,
    raw_inputs,
    samples,
)
from caffe_merge.validation.loaded import Net, check_inputs, cost_of_both, declared
from caffe_merge.validation.pairing import Pairing, Point, pair
from caffe_merge.validation.run import Plan
from caffe_merge.validation.sessions import Paths, Sessions, input_files
from caffe_merge.validation.verdict import FAILED, Comparison
from caffe_merge.validation.workers import Frame
from caffe_merge.validation.wrong_runs import Fed, is_undone, see_rewrites
from caffe_merge.wording import counted

Progress = Callable[[int, str], None]


def judged(
    engine: str,
    row: registry.Engine,
    sessions: Sessions,
    pairs: Sequence[Paths],
    judging: Judging,
) -> Comparison:
    """Compare two pairs that workers have opened."""
    nets = Net(pairs[0], judging), Net(pairs[1], judging)
    check_inputs(sessions[0].inputs, sessions[1].inputs, judging)
    nets[0].inputs = sessions[0].inputs
    comparison = _attempt(engine, row, sessions, nets, judging)
    if comparison.status == FAILED:  # names may hold something else now
        without_names = _attempt(engine, row, sessions, nets, judging, by_name=False)
        comparison = without_names if without_names.ok else comparison
    return comparison


def _attempt(
    engine: str,
    row: registry.Engine,
    sessions: Sessions,
    nets: Tuple[Net, Net],
    judging: Judging,
    by_name: bool = True,
) -> Comparison:
    """Compare the nets; ``by_name``: see pairing.pair."""
    old, new = nets
    plans = old.program.plan, new.program.plan
    pairing = pair(old.layers, new.layers, plans, (set(), set()), by_name)
    pairing = visible(pairing, plans, sessions)
    least, follows = least_limit(judging, row.limit)
    findings = Findings(pairing, least, follows)
    cost = cost_of_both(old, new, pairing)
    at = declared(old, judging, cost)
    fed = samples(at, judging, cost, row.most)
    check_fed(pairing, fed)
    feed = partial(_feed, nets, sessions)
    seconds = 0.0, 0.0
    for turn, sample in enumerate(fed):
        progress = _turn(judging, turn, len(fed), len(pairing.points))
        with feed(sample) as both:
            values = _run(findings, both, progress)
            seconds = seconds[0] + sessions[0].seconds, seconds[1] + sessions[1].seconds
            see_rewrites(findings, both[1], values)

    if is_smaller(fed):
        findings.compare_shapes(*cost.tops(at))

    def undone(point: Point, sample: Sample) -> bool:
        with feed(sample) as both:
            return is_undone(findings, *both, point)

    findings.compensate(lambda point: any(undone(point, sample) for sample in fed))
    evidence = findings.evidence(old.layers, new.layers, raw_inputs(fed))
    names = sessions[0].blobs, sessions[1].blobs
    comparison = compared(engine, least, judging, evidence, fed, names)
    return replace(comparison, seconds=seconds)


@contextlib.contextmanager
def _feed(nets: Tuple[Net, Net], sessions: Sessions, sample: Sample) -> Iterator[Tuple[Fed, Fed]]:
    """Both nets, with the values of ``sample`` in files until the block ends."""
    with input_files(sample.before) as was, input_files(sample.after) as now:
        old, new = map(Fed, nets, sessions, (was, now))
        yield old, new


def _turn(judging: Judging, turn: int, turns: int, points: int) -> Progress:
    """Progress within one of several turns, each with other inputs."""

    def progress(done: int, name: str) -> None:
        if judging.progress:
            judging.progress(turn * points + done, turns * points, name)

    return progress


def visible(pairing: Pairing, plans: Tuple[Plan, Plan], sessions: Sessions) -> Pairing:
    """The points that an engine shows: what names hold in the end."""
    blobs = [set(session.blobs) for session in sessions]
    points = [
        point
        for point in pairing.points
        if plans[0].final[point.before[0]] == point.before
        and plans[1].final[point.after[0]] == point.after
        and point.before[0] in blobs[0]
        and point.after[0] in blobs[1]
    ]
    return pairing._replace(points=tuple(points))


def _run(findings: Findings, both: Tuple[Fed, Fed], progress: Progress) -> Dict[str, np.ndarray]:
    """Both forward passes at once, compared as they stream; the new net's values at points."""
    by_name: Dict[str, List[Point]] = {}
    for point in findings.pairing.points:
        by_name.setdefault(point.before[0], []).append(point)
    requested = {point.after[0] for point in findings.pairing.points}
    before, after = (fed.session.forward(fed.files) for fed in both)
    kept: Dict[str, np.ndarray] = {}
    waiting: Dict[str, Frame] = {}
    total, done = len(findings.pairing.points), 0
    for frame in before:
        for point in by_name.get(frame.header.get("name", ""), ()):
            other = _partner(after, waiting, requested, point.after[0])
            if frame.array is None or other.array is None:
                findings.reasons.setdefault(point, frame.unjudged or other.unjudged)
            else:
                result = findings.add(point, frame.array, other.array)
                if result.agrees and result.remark is None:
                    kept[point.after[0]] = other.array
            done += 1
            progress(done, point.name)
    for _ in after:  # to its end: its last frame has the time that it took
        pass
    if done < total:
        raise ValidationError(f"only {done} of {counted(total, 'blob')} came from the workers")
    return kept


def _partner(
    frames: Iterator[Frame], waiting: Dict[str, Frame], requested: Set[str], name: str
) -> Frame:
    """The new net's frame ``name``; its stream is read up to that frame and no further."""
    while name not in waiting:
        frame = next(frames, None)
        if frame is None:
            raise ValidationError(f"blob {name!r} never came from the worker")
        if frame.header.get("name") in requested:
            waiting[frame.header["name"]] = frame
    return waiting[name]

"""The comparison by an engine that runs whole nets: each pair in a worker, blobs compared by name.

A rewrite is seen by running the new net again with wrong weights for one layer at a time.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Set, Tuple

import numpy as np

from caffe_merge.errors import ValidationError
from caffe_merge.files.temporary import temporary_folder
from caffe_merge.validation import registry
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.judging import Judging, compared, least_limit, samples
from caffe_merge.validation.loaded import Net, check_inputs, declared
from caffe_merge.validation.pairing import Pairing, Point, pair
from caffe_merge.validation.run import Plan, plan
from caffe_merge.validation.seen import farthest, wrong_by
from caffe_merge.validation.sessions import Paths, Session, Sessions, input_files
from caffe_merge.validation.verdict import FAILED, Comparison
from caffe_merge.validation.workers import Frame
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
    check_inputs(sessions[0].inputs, sessions[1].inputs)
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
    plans = plan(old.layers), plan(new.layers)
    pairing = visible(pair(old.layers, new.layers, plans, set(), by_name), plans, sessions)
    least, follows = least_limit(judging, row.limit)
    findings = Findings(pairing, least, follows)
    cost = old.cost()
    fed = samples(declared(old, judging, cost), judging, cost, row.most)
    seconds = 0.0, 0.0
    for turn, sample in enumerate(fed):
        progress = _turn(judging, turn, len(fed), len(pairing.points))
        with input_files(sample.before) as was, input_files(sample.after) as now:
            values = _run(findings, sessions, (was, now), progress)
            seconds = seconds[0] + sessions[0].seconds, seconds[1] + sessions[1].seconds
            _see_rewrites(findings, new, plans[1], (sessions[1], now), values)
    evidence = findings.evidence(old.layers, new.layers, ())
    names = sessions[0].blobs, sessions[1].blobs
    comparison = compared(engine, least, judging, evidence, fed, names)
    return replace(comparison, seconds=seconds)


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


def _run(
    findings: Findings,
    sessions: Sessions,
    files: Tuple[Mapping[str, str], Mapping[str, str]],
    progress: Progress,
) -> Dict[str, np.ndarray]:
    """Both forward passes at once, compared as they stream; the new net's values at points."""
    by_name: Dict[str, List[Point]] = {}
    for point in findings.pairing.points:
        by_name.setdefault(point.before[0], []).append(point)
    requested = {point.after[0] for point in findings.pairing.points}
    before, after = (s.forward(fed) for s, fed in zip(sessions, files))
    kept: Dict[str, np.ndarray] = {}
    waiting: Dict[str, Frame] = {}
    total, done = len(findings.pairing.points), 0
    for frame in before:
        for point in by_name.get(frame.header.get("name", ""), ()):
            other = _partner(after, waiting, requested, point.after[0])
            reason = frame.header.get("unjudged") or other.header.get("unjudged")
            if frame.array is None or other.array is None:
                findings.reasons.setdefault(point, str(reason))
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


def _see_rewrites(
    findings: Findings,
    new: Net,
    plan_of: Plan,
    fed: Tuple[Session, Mapping[str, str]],
    values: Mapping[str, np.ndarray],
) -> None:
    """Make each rewritten layer's weights wrong, and see which blobs behind it move."""
    session, files = fed
    for index in findings.open:
        layer = new.layers[index]
        names = first_agreeing(new.layers, plan_of, index, values)
        if not names:
            continue
        if not layer.blobs:  # what it does shows in its tops alone
            findings.see({index: (repr(names[0]), 1.0)})
            continue
        with _wrong_weights(layer, wrong_by(findings.least)) as paths:
            frames = session.forward(files, only=names, weights={layer.name: paths})
            for frame in frames:
                name = frame.header["name"]
                if frame.array is None:
                    continue
                largest = float(np.abs(values[name]).max())
                moved = farthest(frame.array.astype(np.float64), values[name]) / largest
                findings.see({index: (repr(name), moved)})


def first_agreeing(
    layers: Sequence[Any], order: Plan, index: int, values: Mapping[str, Any]
) -> List[str]:
    """The first blobs behind a layer that agree: an error of the layer shows there or nowhere."""
    reached = {(top, index) for top in layers[index].param.top}
    agreeing: Dict[str, None] = {}
    for reader in range(index, len(layers)):
        if reader > index and not reached.isdisjoint(order.reads[reader]):
            reached.update((top, reader) for top in layers[reader].param.top)
        for name in layers[reader].param.top:
            version = name, reader
            if version in reached and name in values and order.final[name] == version:
                agreeing[name] = None
                reached.discard(version)
    return list(agreeing)


@contextlib.contextmanager
def _wrong_weights(layer: Any, wrong: float) -> Iterator[List[str]]:
    """The layer's blobs as .npy files, each value wrong by a part ``wrong`` of itself."""
    random = np.random.default_rng(0)
    with temporary_folder() as folder:
        paths = []
        for number, blob in enumerate(layer.blobs):
            values = blob.float64()
            signs = random.choice([-wrong, wrong], values.shape)
            paths.append(os.path.join(folder, f"{number}.npy"))
            np.save(paths[-1], np.asarray(values * (1 + signs), np.float32))
        yield paths

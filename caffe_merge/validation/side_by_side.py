"""Two nets, run at once by caffe_merge's own layers: one in a thread of its own, one here.

At each point the new run waits for the old one, compares, and where they differ goes on with the
old net's values: so an error is told at the layer that makes it, and does not drown, or show
again, in what follows. Numpy lets the other thread run while it computes.
"""

from __future__ import annotations

import threading
import time
from typing import Dict, Generator, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np

from caffe_merge.validation.compare import compare
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.impulses import ImpulseResponses
from caffe_merge.validation.limits import CLEARLY
from caffe_merge.validation.pairing import Point
from caffe_merge.validation.run import Run, Version
from caffe_merge.validation.seen import Mutants, farthest, wrong_by
from caffe_merge.validation.threads import Task

_MOST_WAITING = 2
Progress = Tuple[int, int, str]
Value = Tuple[Optional[np.ndarray], str]  # or the reason why there is none


class _Meeting:
    """Where values of the old run wait for the new one.

    The old run waits too where there are enough of them, unless the new one waits for another.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._values: Dict[Point, Value] = {}
        self._asked: Optional[Point] = None
        self._closed = False

    def put(self, point: Point, value: Value) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._values) < _MOST_WAITING or self._asked or self._closed
            )
            self._values[point] = value
            self._changed.notify_all()

    def take(self, point: Point) -> Optional[Value]:
        """The old run's value at ``point``; None where that run came to an end without it."""
        with self._changed:
            if point not in self._values:
                self._asked = point
                self._changed.notify_all()
                self._changed.wait_for(lambda: point in self._values or self._closed)
                self._asked = None
            value = self._values.pop(point, None)
            self._changed.notify_all()
            return value

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Leader:
    """The old net's run, in a thread of its own."""

    def __init__(
        self,
        run: Run,
        points: Sequence[Point],
        impulse_responses: Optional[ImpulseResponses] = None,
    ) -> None:
        self.meeting = _Meeting()
        self.seconds = 0.0
        self._run = run
        self._impulse_responses = impulse_responses or ImpulseResponses(frozenset())
        self._due = _by_layer((point.before, point) for point in points)
        self._task = Task(self._work)

    def __enter__(self) -> _Leader:
        self._task.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.meeting.close()
        self._task.finish()  # what is wrong with the old net counts first

    def value(self, point: Point) -> Value:
        """What the old net holds at ``point``, as soon as it does."""
        value = self.meeting.take(point)
        if value is None:
            self._task.finish()
        assert value is not None, point
        return value

    def _work(self) -> None:
        try:
            for index in range(len(self._run.layers)):
                start = time.perf_counter()
                step = self._run.step(index)
                self.seconds += time.perf_counter() - start
                self._impulse_responses.step(index, step)
                del step  # its blobs go before the next layer makes others
                for point in self._due.get(index, ()):
                    self.meeting.put(point, _value(self._run, point.before[0]))
                self._run.drop(index)
        finally:
            self.meeting.close()


def follow(
    findings: Findings, runs: Tuple[Run, Run], turn: int = 0, turns: int = 1
) -> Generator[Progress, None, Tuple[float, float]]:
    """Run both nets and compare them at every point; return the seconds that each took.

    Yields after each point how many are done, of how many, and its name; it is the ``turn`` of so
    many ``turns``, each with other inputs.
    """
    points = findings.pairing.points
    due = _by_layer((point.after, point) for point in points)
    new = runs[1]
    mutants = Mutants(new, findings.open, wrong_by(findings.least))
    seconds, done = 0.0, turn * len(points)
    with _Leader(runs[0], points, findings.impulse_responses[0]) as leader:
        for index in range(len(new.layers)):
            start = time.perf_counter()
            step = new.step(index)
            seconds += time.perf_counter() - start
            mutants.step(index, step)
            findings.impulse_responses[1].step(index, step)
            del step
            for point in due.get(index, ()):
                _meet(findings, mutants, point, leader.value(point))
                done += 1
                yield done, turns * len(points), point.name
            new.drop(index)
            mutants.drop(new.plan, index)
    findings.see(mutants.best)
    return leader.seconds, seconds


def _meet(findings: Findings, mutants: Mutants, point: Point, value: Value) -> None:
    run, name = mutants.run, point.after[0]
    was, reason = value
    now = run.arrays.get(name)
    if was is None or now is None:
        findings.reasons.setdefault(point, reason or run.reasons.get(name, ""))
        return
    result = findings.add(point, was, now)
    if result.agrees and result.remark is None:
        mutants.look(name, result.label, findings.least, result.largest)
    elif not result.agrees and point.firm and was.size == now.size:
        run.arrays[name] = was.reshape(now.shape)


def measure_noise(findings: Findings, runs: Tuple[Run, Run], exceeding: Set[Point]) -> None:
    """Find what rounding is worth at the points that do not agree: see limits.

    ``runs`` are of the old net, the second with its weights moved; it goes on with the first one's
    values wherever the new net had those, its own or the old net's.
    """
    due: Dict[int, Dict[Version, List[Point]]] = {}
    exact = findings.exact()
    for point in exceeding | exact:
        due.setdefault(point.before[1], {}).setdefault(point.before, []).append(point)
    due_points = [points[0] for versions in due.values() for points in versions.values()]
    right, moved = runs
    with _Leader(right, due_points) as leader:
        for index in range(len(moved.layers)):
            moved.step(index)
            for points in due.get(index, {}).values():
                was, now = leader.value(points[0])[0], moved.arrays.get(points[0].before[0])
                if was is None or now is None:
                    continue
                for point in exceeding.intersection(points):
                    largest = float(np.abs(was).max()) if was.size else 0.0
                    noise = farthest(was, now) / largest if largest else 0.0
                    findings.noise[point] = max(noise, findings.noise.get(point, 0.0))
                if any(point.firm or point in exact for point in points):
                    moved.arrays[points[0].before[0]] = was
            moved.drop(index)


def is_compensated(findings: Findings, runs: Tuple[Run, Run], point: Point) -> bool:
    """Whether the new net differs behind ``point`` if it goes on with the old net's values there.

    If it does, and does not with its own, layers behind it undo what is different at ``point``.
    """
    behind = [
        other
        for other in findings.pairing.points
        if other.firm and other in findings.results and other.after[1] > point.after[1]
    ]
    due = _by_layer((other.after, other) for other in behind)
    new, name = runs[1], point.after[0]
    with _Leader(runs[0], [point, *behind]) as leader:
        for index in range(len(new.layers)):
            new.step(index)
            if index == point.after[1]:
                was, now = leader.value(point)[0], new.arrays.get(name)
                if was is None or now is None or was.shape != now.shape:
                    return False
                new.arrays[name] = was
            for other in due.get(index, ()):
                was, now = leader.value(other)[0], new.arrays.get(other.after[0])
                if was is None or now is None or was.size != now.size:
                    continue
                error = compare(other.name, was, now.reshape(was.shape)).max_error
                if error > CLEARLY * findings.limit(other):
                    return True
            new.drop(index)
    return False


def _by_layer(places: Iterable[Tuple[Version, Point]]) -> Dict[int, List[Point]]:
    """Points by the layer that writes their version."""
    points: Dict[int, List[Point]] = {}
    for (_, index), point in places:
        points.setdefault(index, []).append(point)
    return points


def _value(run: Run, name: str) -> Value:
    return run.arrays.get(name), run.reasons.get(name, "")

"""What the runs of two nets show, point by point, gathered into Evidence for the verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import AbstractSet, Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.notes import Reason
from caffe_merge.validation import compare, dropped, limits, run
from caffe_merge.validation.beyond import Beyond
from caffe_merge.validation.compare import BlobResult
from caffe_merge.validation.held import Held, held
from caffe_merge.validation.impulses import ImpulseResponses
from caffe_merge.validation.pairing import Pairing, Point
from caffe_merge.validation.run import Version
from caffe_merge.validation.seen import Seen
from caffe_merge.validation.verdict import Evidence

# A blob that differs by more than this has kept its name and holds something else.
SOMETHING_ELSE = 0.1


class Findings:
    """The results of all points of ``pairing``, from one run on some inputs or from several.

    ``least`` is the smallest limit; ``follows`` says whether the noise of the net may raise it.
    ``impulse_responses`` are of the changed linear layers: those of the old net, of the new one.

    By point: ``results`` or ``reasons`` why there are none; ``noise``; ``thinned``, where the
    shapes differ: whether the new net holds every second (third ...) of the old net's values, as
    where a stride has moved; ``narrowed``, the channels that are left, where some are gone;
    ``of_channels``, where names are not trusted: the largest error of a
    channel relative to that channel; ``beyond``, where responses to impulses differ. ``reshaped``
    are the points where the shapes differ, ``compensated`` those where the values differ and layers
    behind undo that. ``seen`` has for each rewritten layer, by its index, the blob that moves most
    if its weights are wrong, and how far that moves.
    """

    def __init__(self, pairing: Pairing, least: float, follows: bool = True) -> None:
        self.pairing = pairing
        self.least = least
        self.follows = follows
        self.results: Dict[Point, BlobResult] = {}
        self.reasons: Dict[Point, str] = {}
        self.noise: Dict[Point, float] = {}
        self.thinned: Dict[Point, bool] = {}
        self.narrowed: Dict[Point, Optional[np.ndarray]] = {}
        self.of_channels: Dict[Point, float] = {}
        self.beyond: Dict[Point, Beyond] = {}
        self.compensated: Set[Point] = set()
        self.reshaped: Set[Point] = set()
        self.impulse_responses = [
            ImpulseResponses(changed if follows else frozenset()) for changed in pairing.changed
        ]
        self.seen: Dict[int, Tuple[str, float]] = dict.fromkeys(pairing.rewritten, ("", 0.0))

    def add(self, point: Point, was: np.ndarray, now: np.ndarray) -> BlobResult:
        """Compare what both nets hold at ``point``; return what these arrays show."""
        if was.shape != now.shape:
            self.reshaped.add(point)
        may_reshape = not point.exact and was.size == now.size
        if may_reshape and (point.reader or point.before[0] != point.after[0]):
            now = now.reshape(was.shape)  # a layer in between may only have changed the shape
        result = compare.compare(point.name, was, now, point.output)
        if was.shape != now.shape:
            thinned = compare.is_thinned(was, now, self.least)
            self.thinned[point] = self.thinned.get(point, True) and thinned
            self._narrow(point, dropped.kept_channels(was, now, self.least))
        if not (self.pairing.by_name or point.firm):
            error = compare.of_channels(was, now)
            self.of_channels[point] = max(error, self.of_channels.get(point, 0.0))
        result = replace(result, limit=self.least, reader=point.reader)
        earlier = self.results.get(point)
        if earlier is None:
            self.results[point] = result
        else:
            worse = max(earlier, result, key=_gravity)
            remark = None if earlier.remark is None else result.remark
            self.results[point] = replace(worse, remark=remark)
        return result

    def _narrow(self, point: Point, channels: Optional[np.ndarray]) -> None:
        earlier = self.narrowed.get(point, channels)
        if channels is None or earlier is None or not np.array_equal(channels, earlier):
            channels = None
        self.narrowed[point] = channels

    def compare_shapes(
        self, before: Mapping[Version, Shape], after: Mapping[Version, Shape]
    ) -> None:
        """Take in what the shapes are at another size than that at which the nets were run.

        Where they were the same when the nets were run they must be the same now.
        """
        for point, result in self.results.items():
            was, now = before.get(point.before), after.get(point.after)
            if was and now and was != now and point not in self.reshaped:
                self.reshaped.add(point)
                problem = f"at the declared size its shape was {was} and is {now}"
                self.results[point] = replace(
                    result,
                    max_error=math.inf,
                    rms_error=math.inf,
                    problem=Reason(problem, compare.SHAPE),
                )

    def see(self, best: Mapping[int, Tuple[str, float]]) -> None:
        """Add which blob moves, and how far, if the weights of a layer (the key) are wrong."""
        for index, (label, moved) in best.items():
            if moved > self.seen[index][1]:
                self.seen[index] = label, moved

    @property
    def open(self) -> List[int]:
        """The rewritten layers that nothing has seen."""
        return [index for index, (_, moved) in self.seen.items() if not moved > self.least]

    def exceeding(self) -> Set[Point]:
        """The points that must agree and do not; none if noise cannot explain their errors.

        What was not finite in the old net already is left out. So are points that may turn out to
        be compensated and differ by more than noise can explain: others are explained or not
        whatever these are.
        """
        beyond = set(filter(self._may_be_rounding, self._differing()))
        errors = [self.results[point].max_error for point in beyond]
        explained = self.follows and beyond and max(errors) <= limits.LARGEST
        return beyond if explained else set()

    def exact(self) -> Set[Point]:
        """The points where both nets hold the very same values."""
        return {
            point
            for point, result in self.results.items()
            if result.problem is None and not result.max_error
        }

    def compensable(self) -> List[Point]:
        """The points that may hold something else which layers behind them compensate.

        There are none where names are trusted, or where a point differs that must agree.
        """
        beyond = self._differing()
        return [] if self.pairing.by_name or any(point.firm for point in beyond) else beyond

    def compensate(self, is_compensated: Callable[[Point], bool]) -> None:
        """Find the points where the new net's values are right though they are not the old ones.

        Each is tried alone, since errors of two could hide each other.
        """
        for point in self.compensable():
            if not is_compensated(point):
                return  # the nets differ, whatever the others are
            self.compensated.add(point)

    def limit(self, point: Point) -> float:
        """The limit at a point that was compared."""
        return self._result(point).limit

    def _may_be_rounding(self, point: Point) -> bool:
        result = self.results[point]
        if result.problem is not None and result.problem.kind == compare.NOT_FINITE_BEFORE:
            return False
        may_be_compensated = not (self.pairing.by_name or point.firm)
        return not may_be_compensated or result.max_error <= limits.LARGEST

    def _differing(self) -> List[Point]:
        """The points that must agree and do not."""
        return [
            point
            for point in self.pairing.points
            if point in self.results
            and not self._result(point).agrees
            and not self._is_something_else(point)
        ]

    def near_noise(self, points: Set[Point]) -> bool:
        """Whether some of ``points`` differ, all by so little that other seeds may explain it."""
        beyond = [point for point in points if not self._result(point).agrees]
        return bool(beyond) and all(
            limits.may_explain(self.noise.get(point, 0.0), self.results[point].max_error)
            for point in beyond
        )

    def agree(self) -> bool:
        """Whether all points agree that must agree."""
        return not self._differing()

    def same(self) -> List[Point]:
        """The points where both nets hold the same: all that must, and others that do."""
        return [
            point
            for point in self.pairing.points
            if self.thinned.get(point)
            or (
                point in self.results
                and not self.is_witness(point)
                and not self._is_something_else(point)
                and self._result(point).agrees
            )
        ]

    def _result(self, point: Point) -> BlobResult:
        """The result of a point, with the limit that its noise allows."""
        result, noise = self.results[point], self.noise.get(point)
        if noise is None:
            return result
        limit = limits.limit(self.least, noise) if self.follows else self.least
        return replace(result, limit=limit, noise=noise)

    def evidence(
        self, before: Sequence[Any], after: Sequence[Any], raw: AbstractSet[str] = frozenset()
    ) -> Evidence:
        """All findings for the verdict; ``raw`` are inputs of which the new net reads pixels."""
        blobs, renamed = [], []
        for point in self.pairing.points:
            if point not in self.results:
                continue
            result = self._result(point)
            if point in self.beyond:
                beyond = self.beyond[point]
                problem = Reason(beyond.text, compare.RESPONSE)
                blobs.append(replace(result, problem=problem, max_error=beyond.error))
            elif result.agrees or not self._is_something_else(point):
                blobs.append(result)
            elif not point.reader and point.before[0] == point.after[0]:
                renamed.append(result)
        seen = tuple(
            Seen(after[index].name, label if moved > self.least else "", moved)
            for index, (label, moved) in self.seen.items()
        )
        same, astray = self._held(before, after, raw)
        unjudged = {
            point.name: reason
            for point, reason in self.reasons.items()
            if point not in self.results
        }
        return Evidence(
            blobs=tuple(blobs),
            outputs=tuple(name for name, _ in self.pairing.outputs),
            seen=seen,
            renamed=tuple(renamed),
            unjudged=tuple(unjudged.items()),
            black_boxes=tuple((after[n].name, after[n].type) for n in self.pairing.boxes),
            astray=tuple((after[n].name, after[n].type) for n in astray),
            held=tuple(name for name, both in self.pairing.outputs if both in same),
            missing=self.pairing.missing,
            added=tuple(name for name, both in self.pairing.added if both not in same),
            new_outputs=tuple(run.outputs([layer.param for layer in after])),
        )

    def _is_something_else(self, point: Point) -> bool:
        """Whether a point that does not agree need not: it is another blob of the same name."""
        if point.firm:
            return False
        if self.is_witness(point) or point in self.compensated:
            return True
        result = self.results[point]
        farthest = max(result.max_error, self.of_channels.get(point, 0.0))
        is_far = result.problem is not None or not farthest <= SOMETHING_ELSE
        return is_far or (not self._result(point).agrees and self._moved(point))

    def _moved(self, point: Point) -> bool:
        """Whether what the new net holds there is another blob of the old one."""
        return not self.pairing.by_name and any(
            other.after == point.after
            and other.before != point.before
            and result.agrees
            and result.remark is None
            for other, result in self.results.items()
        )

    def is_witness(self, point: Point) -> bool:
        """Whether nothing but equal values would show that both nets hold the same at ``point``."""
        return not point.firm and bool(point.reader or point.before[0] != point.after[0])

    def _held(self, before: Sequence[Any], after: Sequence[Any], raw: AbstractSet[str]) -> Held:
        alike = {both for both in self.pairing.sources if both[0][0] not in raw}
        of_one_shape = [point for point in self.results if point not in self.reshaped]
        equal = {(p.before, p.after) for p in of_one_shape if self._agrees(p)}
        equal_shapes = {(p.before, p.after) for p in of_one_shape}
        return held(self.pairing, before, after, alike | equal, equal_shapes)

    def _agrees(self, point: Point) -> bool:
        return point not in self.beyond and self._result(point).agrees


def _gravity(result: BlobResult) -> Tuple[bool, float]:
    """A key by which results of one point on several inputs are in order, the worst one last.

    What shows a fault of the new net, such as an error that no rounding explains, comes before what
    was not finite in the old one already.
    """
    problem = result.problem
    if problem is None:
        is_fault = result.max_error > max(result.limit, limits.LARGEST)
    else:
        is_fault = problem.kind != compare.NOT_FINITE_BEFORE
    return is_fault, math.inf if math.isnan(result.max_error) else result.max_error

"""Where the responses of two nets to impulses differ, and by more than rounding explains."""

from functools import partial
from typing import (
    AbstractSet,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from caffe_merge.validation import limits
from caffe_merge.validation.dropped import constants
from caffe_merge.validation.pairing import Point
from caffe_merge.validation.response import Response, difference
from caffe_merge.validation.responses import Responses, Side, never_negative
from caffe_merge.validation.run import Version

_NUDGES = 8  # seeds: in one channel the noise of one of them can cancel out

Cut = Tuple[Version, Version]
_Right = Tuple[Response, Optional[np.ndarray]]  # and its channels that were compared, if not all


class Beyond(NamedTuple):
    """How far responses differ, and the limit that is exceeded; ``channel`` is where."""

    channel: int
    error: float
    limit: float

    @property
    def text(self) -> str:
        """What is wrong, for a person."""
        return (
            f"its channel {self.channel} differs by {self.error:.2g} of its largest value "
            f"where few inputs at a time are not 0, limit {self.limit:.2g}"
        )


def differing(
    both: Tuple[Side, Side],
    cuts: AbstractSet[Cut],
    points: Sequence[Point],
    narrowed: Mapping[Cut, np.ndarray],
    least: float,
) -> Dict[Point, Beyond]:
    """The points where the responses of two nets differ beyond their limit.

    ``cuts`` are versions of the old and of the new net that hold the same values; ``narrowed`` are
    such that do but for channels which the new net has no more, and say which it has. ``least`` is
    the limit where rounding explains nothing.
    """
    # A channel may be gone since no value of a ReLU, say, makes it positive.
    positive = never_negative(both[0])
    of_new = {now for was, now in cuts | narrowed.keys() if was in positive}
    old = Responses(both[0], {was for was, _ in cuts}, positive=positive)
    new = Responses(both[1], {now for _, now in cuts}, positive=of_new)
    right: Dict[Version, _Right] = {}
    errors: Dict[Point, np.ndarray] = {}
    by_cut: Dict[Cut, List[Point]] = {}
    for point in points:
        by_cut.setdefault((point.before, point.after), []).append(point)
    for cut, was, error in _errors(old, new, set(cuts), by_cut.keys(), narrowed):
        if error.max() > least:
            errors.update(dict.fromkeys(by_cut[cut], error))
            right[cut[0]] = was, narrowed.get(cut)
    noise = {point.before: np.zeros_like(error) for point, error in errors.items()}
    beyond = _beyond(errors, least, noise)
    for seed in range(_NUDGES):
        if not beyond:
            break
        wrong = {point.before: right[point.before] for point in beyond}
        _add_noise(noise, old, wrong, seed)
        beyond = _beyond(errors, least, noise)
    return beyond


def _errors(
    old: Responses,
    new: Responses,
    cuts: Set[Cut],
    compared: AbstractSet[Cut],
    narrowed: Mapping[Cut, np.ndarray],
) -> Iterator[Tuple[Cut, Response, np.ndarray]]:
    """The old net's responses where they are ``compared``, and how far those of the new one differ.

    Errors are as `difference` has them, by the channels of the old net. ``cuts`` grow by those of
    ``narrowed`` from which the nets can be followed on.
    """
    places = sorted(compared | narrowed.keys(), key=lambda cut: (cut[1][1], cut[0][1], cut))
    for was_at, now_at in places:
        new.advance(now_at[1])
        new.forget(now_at[1])
        old.advance(was_at[1])
        was, now = old.get(was_at), new.get(now_at)
        if was is None or now is None or was.taps != now.taps:
            continue
        if (was.source, now.source) not in cuts:
            continue
        channels = narrowed.get((was_at, now_at))
        if (was_at, now_at) in compared:
            error = difference(_narrow(was, channels), now)
            if error is not None:
                yield (was_at, now_at), was, _spread_out(error, was.values.shape[1], channels)
        kept = None if channels is None else constants(was, channels)
        if kept is None:
            continue
        behind, new_behind = old.impulses_behind(was_at, kept), new.impulses_behind(now_at)
        if behind is not None and new_behind is not None:
            old.cut(was_at, behind, kept)
            new.cut(now_at, new_behind)
            cuts.add((was_at, now_at))
        else:  # what reads it is the same in both nets, and is followed to the next place
            old.follow_one_size(was_at)
            new.follow_one_size(now_at)


def _narrow(response: Response, channels: Optional[np.ndarray]) -> Response:
    return response if channels is None else response.of(channels)


def _spread_out(error: np.ndarray, count: int, channels: Optional[np.ndarray]) -> np.ndarray:
    """An error (kinds, channels) with 0 for those of ``count`` that are not among ``channels``."""
    if channels is None:
        return error
    spread = np.zeros((len(error), count))
    spread[:, channels] = error
    return spread


def _add_noise(
    noise: Dict[Version, np.ndarray], old: Responses, right: Mapping[Version, _Right], seed: int
) -> None:
    """Add to ``noise`` what rounding the old net's weights is worth in the responses ``right``.

    It is as the errors of `difference`: (kinds, channels), of the channels that were compared.
    """
    nudged = partial(limits.nudged, seed=seed)
    moved = Responses(old.side, old.cuts, old.kept, nudged, old.positive)
    for index in _making(old.side, old.cuts, right.keys()):
        moved.step(index)
        for version in [version for version in right if version[1] == index]:
            now = moved.get(version)
            if now is None:
                continue
            was, channels = right[version]
            error = difference(_narrow(was, channels), _narrow(now, channels), scaled=True)
            if error is not None:
                error = _spread_out(error, was.values.shape[1], channels)
                noise[version] = np.maximum(noise[version], error)


def _making(
    side: Side, cuts: AbstractSet[Version], versions: AbstractSet[Version]
) -> Sequence[int]:
    """The layers between the cuts and ``versions``, in order."""
    needed, layers = set(versions), []
    for index in reversed(range(len(side.program.layers))):
        if any((top, index) in needed for top in side.program.layers[index].param.top):
            layers.append(index)
            needed.update(
                version for version in side.program.plan.reads[index] if version not in cuts
            )
    return layers[::-1]


def _beyond(
    errors: Mapping[Point, np.ndarray], least: float, noise: Mapping[Version, np.ndarray]
) -> Dict[Point, Beyond]:
    """The points with an error that the noise does not explain."""
    beyond: Dict[Point, Beyond] = {}
    for point, error in errors.items():
        is_known = np.isfinite(noise[point.before])  # else the channel is 0 but for rounding
        allowed = np.where(is_known, noise[point.before], 0.0) * limits.TIMES_NOISE
        allowed = np.maximum(least, allowed)
        times = np.where(is_known, error / allowed, 0.0)
        kind, channel = np.unravel_index(int(np.argmax(times)), times.shape)
        if times[kind, channel] > 1:
            largest, limit = float(error[kind, channel]), float(allowed[kind, channel])
            beyond[point] = Beyond(int(channel), largest, limit)
    return beyond

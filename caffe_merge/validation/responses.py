"""What layers that are not as they were make of impulses, in the old net and in the new one.

On an image one weight is one of hundreds that make a value: what is wrong with it can be below the
limit there, though on other images it is not. So wherever both nets hold the same values (a cut),
both are given the same impulses, and what they make of them must be the same at the next cut, in
each channel by itself:

    y(impulse) - y(0)    relative to the largest one of the channel
    y(0)                 relative to itself, or to what impulses of 1/64 make where that is more

The limit is that of blobs and follows the noise likewise, as far as it goes: in a channel that is
what is left of large values nothing can be told. Only layers that one net has and the
other has not are computed with, their weights being at hand anyway: it takes little time.
"""

from functools import partial
from typing import AbstractSet, Any, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import reference
from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers import standard
from caffe_merge.layers.shapes.geometry import convolution_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.notes import Reason
from caffe_merge.validation import impulses, limits
from caffe_merge.validation.impulses import Answers
from caffe_merge.validation.pairing import Point
from caffe_merge.validation.run import Plan, Version, Weights

_LEAST = 1e-4  # a channel whose values are less than this part of all is held against that
_PART = 64  # of 1, which impulses have beside which a bias must be seen
_MOST_FOLLOWED = 8  # impulses whose responses go through one more linear layer
_NUDGES = 8  # seeds: in one channel the noise of one of them can cancel out

Cut = Tuple[Version, Version]


class Side(NamedTuple):
    """A net, and what those of its layers that the other net has not make of impulses."""

    layers: Sequence[Any]
    plan: Plan
    heads: Mapping[int, Optional[Answers]]


class Response(NamedTuple):
    """What a blob holds for each impulse and, last, for none: (impulses + 1, channels, ...).

    The impulses are values of the version ``source``, and ``taps`` says which.
    """

    source: Version
    taps: Tuple[int, int]
    values: np.ndarray


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
    both: Tuple[Side, Side], cuts: AbstractSet[Cut], points: Sequence[Point], least: float
) -> Dict[Point, Beyond]:
    """The points where the responses of two nets differ beyond their limit.

    ``cuts`` are versions of the old and of the new net that hold the same values; ``least`` is the
    limit where rounding explains nothing.
    """
    starts = [frozenset(cut[side] for cut in cuts) for side in (0, 1)]
    old = dict(responses(both[0], starts[0]))
    errors: Dict[Point, np.ndarray] = {}
    for version, now in responses(both[1], starts[1]):
        for point in (point for point in points if point.after == version):
            was = old.get(point.before)
            if was is not None and was.taps == now.taps and (was.source, now.source) in cuts:
                differs = difference(was.values, now.values)
                if differs is not None and differs.max() > least:
                    errors[point] = differs
    noise = _noise(both[0], starts[0], old, {point.before for point in errors})
    judged = {
        point: _beyond(differs, least, noise.get(point.before, np.zeros_like(differs)))
        for point, differs in errors.items()
    }
    return {point: beyond for point, beyond in judged.items() if beyond is not None}


def responses(
    side: Side, cuts: AbstractSet[Version], weights: Optional[Weights] = None
) -> Iterator[Tuple[Version, Response]]:
    """The responses of a net at its ``cuts``, as far as they can be had.

    ``weights(layer, blobs)`` may replace float64 weights.
    """
    held: Dict[Version, Response] = {}
    for index, layer in enumerate(side.layers):
        reads = side.plan.reads[index]
        bottoms = [held.get(version) for version in reads]
        for top, made in zip(layer.param.top, _tops(side, index, bottoms, cuts, weights)):
            if (top, index) in cuts:
                yield (top, index), made
            else:
                held[top, index] = made
        for name, written in [v for v in held if side.plan.needed[v[0]] <= index]:
            del held[name, written]


def _tops(
    side: Side,
    index: int,
    bottoms: Sequence[Optional[Response]],
    cuts: AbstractSet[Version],
    weights: Optional[Weights],
) -> Iterator[Response]:
    """What a layer makes of responses, or else of impulses at a cut; nothing of anything else."""
    reads = side.plan.reads[index]
    if len(reads) == 1 and reads[0] in cuts:
        made = _head(side, index, weights)
        if made is not None:
            yield Response(reads[0], *made)
        return
    there = [bottom for bottom in bottoms if bottom is not None]
    if not reads or len(there) < len(reads) or len({bottom[:2] for bottom in there}) > 1:
        return
    layer = side.layers[index]
    for values in _followed(layer, [bottom.values for bottom in there], weights):
        yield Response(*there[0][:2], values)


def difference(was: np.ndarray, now: np.ndarray) -> Optional[np.ndarray]:
    """Errors (2, channels) of two responses, as the head says; None where they cannot be told."""
    if was.shape != now.shape or was.ndim < 2 or not np.isfinite(was).all():
        return None
    lit = was[:-1] - was[-1:]
    size = _floored(_largest(lit))
    dark = np.maximum(_floored(_largest(was[-1:])), size / (impulses.SIZE * _PART))
    errors = np.stack([_largest(now[:-1] - now[-1:] - lit), _largest(now[-1:] - was[-1:])])
    errors[~np.isfinite(errors)] = np.inf
    sizes = np.stack([size, dark])
    relative = np.where(errors > 0, np.inf, 0.0)  # where everything is 0
    np.divide(errors, sizes, out=relative, where=sizes > 0)
    return relative


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest absolute value of each channel."""
    made: np.ndarray = np.abs(values).max(axis=(0, *range(2, values.ndim)), initial=0.0)
    return made


def _floored(sizes: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.maximum(sizes, _LEAST * sizes.max(initial=0.0))
    return made


def _head(side: Side, index: int, weights: Optional[Weights]) -> Optional[Answers]:
    """What a layer makes of impulses, if it is linear and the other net has it not."""
    made = side.heads.get(index)
    if made is None or weights is None:
        return made
    form = standard.standard(side.layers[index])
    assert not isinstance(form, Reason)
    return impulses.answers(form[0].param, _weights(side.layers[index], form[1], weights))


def _followed(
    layer: Any, bottoms: Sequence[np.ndarray], weights: Optional[Weights]
) -> Sequence[np.ndarray]:
    """What a layer makes of responses; nothing where it cannot be told."""
    form = standard.standard(layer)
    if isinstance(form, Reason):
        return ()
    spec, stored = form
    try:
        if spec.type in impulses.LINEAR:
            bottoms = [_spread(spec, _fewer(bottom)) for bottom in bottoms]
        with np.errstate(all="ignore"):
            return reference.forward(spec, _weights(layer, stored, weights), bottoms)
    except (CaffeMergeError, ArithmeticError, LookupError, ValueError):
        return ()  # it has no such sizes: what it does is seen where it runs


def _fewer(values: np.ndarray) -> np.ndarray:
    """Some of the responses to impulses, and that to none: products with all would take long."""
    step = -(-(len(values) - 1) // _MOST_FOLLOWED)
    return np.concatenate([values[:-1:step], values[-1:]])


def _spread(spec: LayerSpec, values: np.ndarray) -> np.ndarray:
    """Responses as a convolution without padding can read them: the same all over its window."""
    if spec.type == "InnerProduct" or any(n != 1 for n in values.shape[2:]):
        return values
    window = convolution_window(spec, values.ndim - 2)
    if any(window.pad) or any(window.pad_end):
        return values
    return np.broadcast_to(values, (*values.shape[:2], *window.extent))


def _weights(layer: Any, stored: Sequence[Any], weights: Optional[Weights]) -> Sequence[np.ndarray]:
    blobs = [np.asarray(blob.array(), np.float64) for blob in stored]
    return blobs if weights is None else weights(layer, blobs)


def _noise(
    side: Side,
    cuts: AbstractSet[Version],
    right: Dict[Version, Response],
    versions: AbstractSet[Version],
) -> Dict[Version, np.ndarray]:
    """What rounding the old net's weights is worth in each response, (2, channels)."""
    noise: Dict[Version, np.ndarray] = {}
    for seed in range(_NUDGES if versions else 0):
        for version, moved in responses(side, cuts, partial(limits.nudged, seed=seed)):
            if version in versions:
                differs = difference(right[version].values, moved.values)
                if differs is not None:
                    noise[version] = np.maximum(noise.get(version, 0.0), differs)
    return noise


def _beyond(errors: np.ndarray, least: float, noise: np.ndarray) -> Optional[Beyond]:
    tells = np.isfinite(noise)  # else the channel is 0 but for rounding
    allowed = np.maximum(least, limits.TIMES_NOISE * np.where(tells, noise, 0.0))
    times = np.where(tells, errors / allowed, 0.0)
    kind, channel = np.unravel_index(int(np.argmax(times)), times.shape)
    if times[kind, channel] <= 1:
        return None
    return Beyond(int(channel), float(errors[kind, channel]), float(allowed[kind, channel]))

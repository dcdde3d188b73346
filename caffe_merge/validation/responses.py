"""What layers that are not as they were make of impulses, in the old net and in the new one.

On an image one weight is one of hundreds that make a value: what is wrong with it can be below the
limit there, though on other images it is not. So wherever both nets hold the same values (a cut),
both are given the same impulses, and what they make of them must be the same at the next cut, in
each channel by itself:

    y(impulse) - y(0)    relative to the largest one of the channel
    y(0)                 relative to itself, or to what impulses of 1/64 make where that is more

The limit is that of blobs, and is raised by rounding noise likewise. A channel that is 0 but for
rounding, as where large values cancel out, is not judged. Only layers that one net has and the
other has not are computed, and their weights are at hand anyway: it takes little time.
"""

from functools import partial
from typing import (
    AbstractSet,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from caffe_merge import reference
from caffe_merge.errors import CaffeMergeError
from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers import standard
from caffe_merge.layers.catalogue import (
    AFFINE,
    CONVOLUTION,
    DEPTHWISE,
    DROPOUT,
    MOVING,
    NORM,
    WINDOWED,
    of_family,
)
from caffe_merge.layers.layer import shares_memory
from caffe_merge.layers.shapes.geometry import convolution_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.notes import Reason
from caffe_merge.validation import impulses, limits
from caffe_merge.validation.impulses import ImpulseResponse
from caffe_merge.validation.pairing import Point
from caffe_merge.validation.response import Response, difference
from caffe_merge.validation.run import Plan, Version, Weights, float64_weights

_AFFINE = frozenset(of_family(NORM, AFFINE, DROPOUT, MOVING)) | impulses.LINEAR
_CONVOLUTIONS = frozenset(of_family(CONVOLUTION, DEPTHWISE))
_WINDOWED = frozenset(WINDOWED)
_MOST_WORK = 1 << 28  # multiply-adds of a layer for responses to other sizes
_NUDGES = 8  # seeds: in one channel the noise of one of them can cancel out

Cut = Tuple[Version, Version]


class Side(NamedTuple):
    """A net, and what those of its layers that the other net has not make of impulses."""

    layers: Sequence[Any]
    plan: Plan
    impulse_responses: Mapping[int, Optional[ImpulseResponse]]


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
                error = difference(was, now)
                if error is not None and error.max() > least:
                    errors[point] = error
    noise = {point.before: np.zeros_like(error) for point, error in errors.items()}
    beyond = _beyond(errors, least, noise)
    for seed in range(_NUDGES):
        if not beyond:
            break
        _add_noise(noise, both[0], starts[0], old, {point.before for point in beyond}, seed)
        beyond = _beyond(errors, least, noise)
    return beyond


def responses(
    side: Side,
    cuts: AbstractSet[Version],
    weights: Optional[Weights] = None,
    chosen: Optional[Sequence[int]] = None,
) -> Iterator[Tuple[Version, Response]]:
    """The responses of a net at its ``cuts``, as far as they can be had.

    ``weights(layer, blobs)`` may replace float64 weights; ``chosen`` are all layers or some.
    """
    held: Dict[Version, Response] = {}
    roots = {version: version for version in cuts}  # and what has their values in another shape
    for index in range(len(side.layers)) if chosen is None else chosen:
        layer = side.layers[index]
        reads = side.plan.reads[index]
        if shares_memory(layer) and reads[0] in roots:
            for top in layer.param.top:
                roots.setdefault((top, index), roots[reads[0]])
            continue
        bottoms = [held.get(version) for version in reads]
        for top, response in zip(layer.param.top, _tops(side, index, bottoms, roots, weights)):
            if (top, index) in cuts:
                yield (top, index), response
            else:
                held[top, index] = response
        for name, written in [v for v in held if side.plan.needed[v[0]] <= index]:
            del held[name, written]


def _tops(
    side: Side,
    index: int,
    bottoms: Sequence[Optional[Response]],
    roots: Mapping[Version, Version],
    weights: Optional[Weights],
) -> Iterator[Response]:
    """What a layer makes of responses, or of impulses at one of ``roots``; else nothing."""
    reads = side.plan.reads[index]
    if len(reads) == 1 and reads[0] in roots:
        response = _impulse_response(side, index, weights)
        if response is not None:
            yield Response(roots[reads[0]], response.taps, response.values)
        return
    followed = [bottom for bottom in bottoms if bottom is not None]
    if not reads or len(followed) < len(reads) or len({bottom[:2] for bottom in followed}) > 1:
        return
    yield from _followed(side.layers[index], followed, weights)


def _impulse_response(
    side: Side, index: int, weights: Optional[Weights]
) -> Optional[ImpulseResponse]:
    """What a layer makes of impulses, if it is linear and the other net has it not."""
    response = side.impulse_responses.get(index)
    if response is None or weights is None:
        return response
    form = standard.standard(side.layers[index])
    assert not isinstance(form, Reason)
    blobs = float64_weights(side.layers[index], form[1], weights)
    return impulses.impulse_response(form[0].param, blobs, response.rank)


def _followed(
    layer: Any, bottoms: Sequence[Response], weights: Optional[Weights]
) -> Iterator[Response]:
    """What a layer makes of responses; nothing where it cannot be told."""
    form = standard.standard(layer)
    if isinstance(form, Reason):
        return
    spec, stored = form
    is_linear = spec.type in impulses.LINEAR
    if is_linear:
        bottoms = [bottom.fewer() for bottom in bottoms]
    if any(bottom.scaled is not None for bottom in bottoms) or not _is_affine(spec, len(bottoms)):
        bottoms = [bottom.with_scaled() for bottom in bottoms]
    try:
        blobs = float64_weights(layer, stored, weights)
        scaled = [len(bottom.scaled) for bottom in bottoms if bottom.scaled is not None]
        work = sum(scaled) * sum(blob.size for blob in blobs) if is_linear else 0
        if work > _MOST_WORK or not all(scaled):
            bottoms = [bottom._replace(scaled=bottom.values[:0]) for bottom in bottoms]
        tops = _forward(spec, blobs, [bottom.rows() for bottom in bottoms])
    except (CaffeMergeError, ArithmeticError, LookupError, ValueError):
        return  # it has no such sizes: what it does is seen where it runs
    for top in tops:
        yield bottoms[0].with_rows(top)


def _is_affine(spec: LayerSpec, bottoms: int) -> bool:
    """Whether each value that a layer makes is a sum of what it reads; of some it is not told."""
    param = spec.param
    if spec.type == "Power":
        return bool(param.power_param.power == 1)
    if spec.type == "Eltwise":
        return bool(param.eltwise_param.operation == param.eltwise_param.SUM)
    return spec.type == "Concat" or (spec.type in _AFFINE and bottoms == 1)


def _forward(
    spec: LayerSpec, blobs: Sequence[np.ndarray], bottoms: Sequence[np.ndarray]
) -> List[np.ndarray]:
    if spec.type in _WINDOWED:
        spec = _without_padding(spec)
        bottoms = [_spread(spec, bottom) for bottom in bottoms]
    return reference.forward(spec, blobs, bottoms)


def _without_padding(spec: LayerSpec) -> LayerSpec:
    """The same layer on what reaches over its borders: all of its taps read a value."""
    param = copied(spec.param)
    for field in ("pad", "pad_h", "pad_w"):
        param.convolution_param.ClearField(field)
    sides = {f"convolution_param.pad_{side}" for side in "lrtb"}
    fork = {name: text for name, text in spec.fork.texts.items() if name not in sides}
    return LayerSpec(param, fork)


def _spread(spec: LayerSpec, values: np.ndarray) -> np.ndarray:
    """Responses as a convolution can read them: the same all over its window."""
    if spec.type not in _CONVOLUTIONS or any(n != 1 for n in values.shape[2:]):
        return values
    window = convolution_window(spec, values.ndim - 2)
    return np.broadcast_to(values, (*values.shape[:2], *window.extent))


def _add_noise(
    noise: Dict[Version, np.ndarray],
    side: Side,
    cuts: AbstractSet[Version],
    right: Mapping[Version, Response],
    versions: AbstractSet[Version],
    seed: int,
) -> None:
    """Add to ``noise`` what rounding the old net's weights is worth in responses.

    It is as the errors of `difference`: (kinds, channels).
    """
    nudged = partial(limits.nudged, seed=seed)
    for version, moved in responses(side, cuts, nudged, _making(side, cuts, versions)):
        if version in versions:
            error = difference(right[version], moved, scaled=True)
            if error is not None:
                noise[version] = np.maximum(noise[version], error)


def _making(
    side: Side, cuts: AbstractSet[Version], versions: AbstractSet[Version]
) -> Sequence[int]:
    """The layers between the cuts and ``versions``, in order."""
    needed, layers = set(versions), []
    for index in reversed(range(len(side.layers))):
        if any((top, index) in needed for top in side.layers[index].param.top):
            layers.append(index)
            needed.update(version for version in side.plan.reads[index] if version not in cuts)
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

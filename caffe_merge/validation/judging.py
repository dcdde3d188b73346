"""How two pairs are compared, and what every engine makes of that: inputs, limits, a Comparison."""

import math
from dataclasses import replace
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from caffe_merge.errors import OptionName, UsageError, meant
from caffe_merge.layers.state import State
from caffe_merge.net.pixels import PixelOptions
from caffe_merge.validation import inputs, limits, verdict
from caffe_merge.validation.inputs import NetInput
from caffe_merge.validation.pairing import Pairing
from caffe_merge.validation.verdict import Comparison, Evidence, InputUsed

if TYPE_CHECKING:
    from caffe_merge.validation.images import ImageOptions

Shapes = Dict[str, Tuple[int, ...]]


class Judging(NamedTuple):
    """How two pairs are compared.

    ``limit`` is the largest error that passes, relative to a blob's largest value; when None it is
    the engine's own, and the reference's follows the net (see limits). ``shapes`` and ``files``
    replace declared input shapes and seeded noise of standard deviation ``scale``; ``bn_style`` is
    that of caffe_merge.merge; ``time_limit`` is in seconds for each net; ``state`` is the NetState
    that both are built for (phase TEST); ``progress(done, total, name)`` is called after each blob.
    ``raw`` (of net.pixels) says what the new net does to an input itself: it is fed pixels, the old
    net what was made of them, and the input is not compared. ``allow_unseen`` passes where nothing
    differs, though not every rewrite was seen or not every output judged. On ``images`` both nets
    run after that, and their outputs are compared. ``chosen_by`` is the option by which the caller
    names the engine: reasons that advise another engine call it so.
    """

    limit: Optional[float] = None
    seed: int = 0
    scale: Optional[float] = None
    shapes: Optional[Mapping[str, Tuple[int, ...]]] = None
    files: Optional[Mapping[str, np.ndarray]] = None
    bn_style: Optional[str] = None
    caffe_python: Optional[str] = None
    time_limit: Optional[float] = None
    state: Optional[State] = None
    progress: Optional[Callable[[int, int, str], None]] = None
    raw: Optional[PixelOptions] = None
    allow_unseen: bool = False
    images: "Optional[ImageOptions]" = None
    chosen_by: str = "engine"

    @classmethod
    def of(cls, how: Dict[str, Any]) -> "Judging":
        """The Judging of keyword arguments; UsageError for an unknown one, or a wrong number."""
        unknown = how.keys() - set(cls._fields)
        if unknown:
            name = min(unknown)
            raise UsageError(f"validate has no argument {name!r}{meant(name, cls._fields)}")
        for name in ("limit", "time_limit"):
            value = how.get(name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} is {value}: expected a finite number above 0")
        scale = how.get("scale")
        if scale is not None and not 0 <= scale < math.inf:
            raise UsageError(f"scale is {scale}: expected a finite number, 0 or more")
        return cls(**how)


# Values in order: their deviation (None: as inputs.noise has it), and whether all are positive.
_SETS = ((None, False), (1.0, False), (1.0, True), (None, True), (None, False), (0.1, False))
_SETS_OF_MANY = 3  # for nets that are cheap, not small
_CHEAP, _SMALL = 1 / 80, 1 / 800  # of what an engine does in a minute


class Sample(NamedTuple):
    """One set of values that both nets run on: ``before`` is what the old net is fed.

    ``before`` and ``after`` differ where the new net takes raw pixels.
    """

    used: Tuple[NetInput, ...]
    before: Dict[str, np.ndarray]
    after: Dict[str, np.ndarray]


def samples(declared: Shapes, judging: Judging, cost: Optional[Any], most: float) -> List[Sample]:
    """The values that both nets run on: inputs of ``declared`` shapes, or as the user says.

    A net that is cheap beside ``most`` runs again on values of deviation 1, and on such that are
    all positive: on those of pixels biases can be too small to be seen, and what real images are
    like excites other channels than noise around 0. A small one runs on more sets of them.
    """
    pixels = (
        None if judging.raw is None else judging.raw.resolve({**declared, **(judging.shapes or {})})
    )
    samples: List[Sample] = []
    for scale, positive in _SETS:
        used = inputs.make(
            declared,
            seed=judging.seed + len(samples),
            scale=scale if judging.scale is None else judging.scale,
            shapes=judging.shapes,
            files=judging.files,
            cost=cost,
            most=most,
            raw=pixels,
        )
        if positive:
            used = tuple(map(_positive, used))
        after = {entry.name: entry.array for entry in used}
        before = dict(after)
        if pixels is not None:
            before[pixels.name] = pixels.of(after[pixels.name])
        samples.append(Sample(used, before, after))
        is_given = all(entry.seed is None for entry in used)
        if is_given and used and judging.scale is not None:
            scale_of = OptionName("input_scale"), " has no effect: ", OptionName("input")
            raise UsageError(*scale_of, " gives the values of all inputs")
        shapes = {entry.name: tuple(entry.array.shape) for entry in used}
        if cost is not None:
            inputs.check_size(cost.largest(shapes))
        if judging.scale is not None or is_given:
            break
        price = cost(shapes) if cost is not None else None
        affordable = most * (_CHEAP if len(samples) < _SETS_OF_MANY else _SMALL)
        if price is None or price > affordable:
            break
    return samples


def _positive(entry: NetInput) -> NetInput:
    """The same with absolute values, if it is noise; what the user gives is used as it is."""
    return entry if entry.seed is None else replace(entry, array=np.abs(entry.array))


def is_smaller(samples: Sequence[Sample]) -> bool:
    """Whether the nets run at another size than is declared, to save time."""
    return any(inputs.SMALLER in entry.note for entry in samples[0].used)


def raw_inputs(samples: Sequence[Sample]) -> Set[str]:
    """The inputs of which the new net is fed raw pixels."""
    return {
        name
        for sample in samples
        for name, array in sample.before.items()
        if array is not sample.after[name]
    }


def check_fed(pairing: Pairing, samples: Sequence[Sample]) -> None:
    """Raise UsageError where both nets would be fed what they make by layers that differ."""
    for name in samples[0].before:
        if name in pairing.unlike:
            raise UsageError(
                f"blob {name!r} cannot be given: the nets do not have the same layer that makes it"
            )


def compared(
    engine: str,
    least: float,
    judging: Judging,
    evidence: Evidence,
    samples: Sequence[Sample],
    names: Tuple[Sequence[str], Sequence[str]],
) -> Comparison:
    """The Comparison of what was found; ``names`` are the blobs of both nets."""
    is_noise = any(entry.seed is not None for entry in samples[0].used)
    ways = judging.chosen_by, "input_scale" if is_noise else "input"
    status, reason = verdict.judge(evidence, judging.allow_unseen, engine, *ways)
    failed = next((blob for blob in evidence.blobs if not blob.agrees), None)
    worst = max(evidence.blobs, key=lambda blob: _rank(blob.max_error), default=None)
    old, new = (set(side) for side in names)
    return Comparison(
        status=status,
        reason=reason,
        engine=engine,
        limit=least,
        worst=(worst.name, worst.max_error) if worst else None,
        first_beyond=(failed.name, failed.max_error) if failed else None,
        blobs=evidence.blobs,
        unjudged=evidence.unjudged,
        inputs=tuple(
            InputUsed(used.name, used.array.shape, used.seed, used.note) for used in samples[0].used
        ),
        only_before=len(old - new),
        only_after=len(new - old),
        seconds=(0.0, 0.0),
        seen=evidence.seen,
        renamed=tuple(blob.name for blob in evidence.renamed),
        black_boxes=evidence.black_boxes,
    )


def least_limit(judging: Judging, engine_limit: float) -> Tuple[float, bool]:
    """The smallest limit of a blob, and whether the noise of the net may raise it."""
    if judging.limit is not None:
        return judging.limit, False
    return engine_limit, engine_limit <= limits.SMALLEST


def _rank(error: float) -> float:
    return math.inf if math.isnan(error) else error

"""What both proofs need: noise as input, samples of blobs, and the comparison of two results."""

from functools import lru_cache
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.arrays import Float64 as Values
from caffe_merge.arrays import Indices as Index
from caffe_merge.arrays import count
from caffe_merge.errors import NetError
from caffe_merge.formats.weights.blobs import BLOCK, HALF, Blob
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.shapes.forks import NORMALISED
from caffe_merge.layers.spec import LayerSpec, apart
from caffe_merge.layers.standard import Standard, standard
from caffe_merge.notes import Reason

LIMIT = 1e-6  # of the largest output
ROUNDING = 2e-7  # of the magnitudes added up; rounding a weight to float32 costs 6e-8
TINY = 1e-37  # below the smallest normal float32, weights round coarsely
PATH_CHANNELS = 8  # output channels of a path that are run where there are more
MOST_VALUES = 1 << 24  # of a blob that is run
MAX_CACHED = 1 << 16  # the most values of noise that are kept for the next proof
GROUPS = 4  # groups of a grouped layer that are run where there are more
_SUBTRACTING = ("BatchNorm", NORMALISED)  # their first blob, the mean, is subtracted

Reading = Callable[..., Values]  # of a blob, or of some of its rows


Changes = Mapping[Layer, New]  # layer -> its new param and blobs


class Step(NamedTuple):
    """A layer to run: its parameters and its blobs, thinned out to the sample."""

    spec: LayerSpec
    blobs: List[Values]


def changed(layer: Layer, changes: Changes) -> Union[Standard, Reason, None]:
    """``layer`` after ``changes``, in a form that the reference runs; None if it is removed.

    As in the form of the old one, its window may be a fork's that is not known.
    """
    if layer not in changes:
        return None
    param, blobs = changes[layer]
    param, extra = apart(param, layer.extra)
    new = Layer(param)
    new.blobs = blobs
    if new.type == layer.type:
        new.extra, new.style = dict(extra), layer.style
    return standard(new, any_window=True)


def difference(before: Values, after: Values, terms: Values) -> Optional[str]:
    """How ``after`` differs from ``before``; None where that is rounding.

    ``terms`` has, for each value, the sum of the magnitudes that were added up for it.
    """
    if before.shape != after.shape:
        return f"its output has shape {after.shape}, not {before.shape}"
    if not np.isfinite(before).all() or not np.isfinite(after).all():
        return "its output is not finite"
    error = np.abs(after - before)
    worst = float(np.max(error, initial=0.0))
    largest = float(np.max(np.abs(before), initial=0.0))
    if worst > LIMIT * largest + TINY:
        return f"its output is off by {worst:.1e} where the largest value is {largest:.1e}"
    # Behind a Log, say, terms may be less than the value, or negative: then it is the value.
    if (error > ROUNDING * np.maximum(np.abs(terms), np.abs(before)) + TINY).any():
        return "a channel's output is off by more than rounding can explain"
    return None


def first_difference(
    before: Sequence[Values], after: Sequence[Values], terms: Sequence[Values]
) -> Optional[str]:
    """What is wrong with the first output that differs; None if none does."""
    failures = (difference(*results) for results in zip(before, after, terms))
    return next((failure for failure in failures if failure is not None), None)


def compared(
    before: Callable[[Reading], Sequence[Values]], after: Sequence[Values], terms: Sequence[Values]
) -> Optional[str]:
    """What is wrong with ``after``, the outputs of the new layers; None if nothing is.

    They must equal the outputs of the old layers with exact weights, or else with the old weights
    as they would be written: a curve such as Sigmoid may enlarge the rounding of an earlier
    rewrite, and only what this rewrite adds counts.
    """
    failure = first_difference(before(exact), after, terms)
    if failure is None or first_difference(before(rounded), after, terms) is None:
        return None
    return failure


def check_size(values: int) -> None:
    """Raise NetError where a blob of so many values is too large to be run."""
    if values > MOST_VALUES:
        raise NetError(f"a blob of {values:,} values would be run, more than {MOST_VALUES:,}")


def noise(shape: Tuple[int, ...]) -> Values:
    """Pseudo-random values in (-1, 1), read-only; to import numpy.random would take longer."""
    return _noise(shape) if count(shape) <= MAX_CACHED else _noise.__wrapped__(shape)


@lru_cache(maxsize=16)  # a net has few kinds of layers
def _noise(shape: Tuple[int, ...]) -> Values:
    numbers = np.arange(count(shape), dtype=np.float64)
    fraction: Values = np.modf(np.sin(12.9898 * numbers + 78.233) * 43758.5453)[0]
    fraction.setflags(write=False)
    return fraction.reshape(shape)


def absolute(step: Step) -> Step:
    """The step with absolute weights: on absolute inputs it adds up the magnitudes of all terms."""
    spec = step.spec
    if spec.type == "Eltwise" and spec.param.eltwise_param.coeff:
        spec = step.spec.copy()
        coeff = spec.param.eltwise_param.coeff
        coeff[:] = [abs(factor) for factor in coeff]
    blobs = [np.abs(blob) for blob in step.blobs]
    if blobs and spec.type in _SUBTRACTING:
        blobs[0] = -blobs[0]
    return Step(spec, blobs)


def spread(number: int, most: int) -> Index:
    """At most ``most`` indices below ``number``, evenly spaced, with the first and the last."""
    if number <= most:
        return np.arange(number)
    return np.array([index * (number - 1) // (most - 1) for index in range(most)])


def exact(blob: Blob, rows: Optional[Index] = None) -> Values:
    """A blob, or some of its rows, not yet rounded as the file will have it."""
    return np.asarray(blob.float64() if rows is None else blob.rows(rows), np.float64)


def rounded(blob: Blob, rows: Optional[Index] = None) -> Values:
    """A blob, or some of its rows, as it will be read back from the file."""
    if blob.dtype == HALF:  # that loses far more than LIMIT; what is proved is the algebra
        return exact(blob, rows)
    return np.asarray(blob.array() if rows is None else blob.rounded(rows), np.float64)


def columns(blob: Blob, rows: Index, column_index: Index, reading: Reading) -> Values:
    """Some columns of some rows, a block of rows at a time: the blob may be most of the model."""
    step = max(BLOCK // max(count(blob.shape[1:]), 1), 1)
    starts = range(0, len(rows), step)
    return np.concatenate([reading(blob, rows[at : at + step])[:, column_index] for at in starts])


def thin_channels(values: Values, channels: int, sample: Index) -> Values:
    """The sample of a blob with ``channels`` values along one axis; other blobs are unchanged."""
    for axis, dim in enumerate(values.shape):
        if dim == channels and values.size == channels:
            return np.take(values, sample, axis)
    return values

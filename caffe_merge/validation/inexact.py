"""Judges a merge with rewrites that are not exact, and measures these separately.

The verdict is on the exact rewrites: the merged pair is compared with ``stand_in``, which is the
original pair with only the inexact rewrites. How far these move the outputs is measured between the
merged pair and the original itself: each is run from its inputs to its outputs.
"""

from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.validation import engines, registry
from caffe_merge.validation.compare import BlobResult, compare
from caffe_merge.validation.judging import Judging, Sample, samples
from caffe_merge.validation.loaded import Net, declared
from caffe_merge.validation.opening import both, prepared
from caffe_merge.validation.sessions import Pair, Sessions, input_files, paths
from caffe_merge.validation.verdict import Comparison


class Judged(NamedTuple):
    """The verdict on ``after`` and ``stand_in``; the outputs of ``after`` against ``before``.

    ``moved`` has for each output the result on the inputs on which it differs most. The images of
    the comparison are of ``before`` and ``after``; they do not change its verdict.
    """

    comparison: Comparison
    moved: Tuple[BlobResult, ...]


def validate(
    before: Pair, stand_in: Pair, after: Pair, engine: str = registry.DEFAULT, **how: Any
) -> Judged:
    """Judge ``after`` by ``stand_in`` as engines.validate does, and measure it by ``before``."""
    comparison = engines.validate(stand_in, after, engine, **{**how, "images": None})
    row, command, judging = prepared(engine, how)
    pairs = paths(before), paths(after)
    if judging.images is not None:
        images = engines.on_images(command, pairs, judging, judging.images)
        comparison = replace(comparison, images=images)
    return Judged(comparison, tuple(_moved(command, pairs, judging, row.most)))


def _moved(
    command: List[str], pairs: Sequence[Tuple[str, str]], judging: Judging, most: float
) -> List[BlobResult]:
    furthest: Dict[str, BlobResult] = {}
    with both(pairs, command, judging) as sessions:
        old = Net(pairs[0], judging)
        old.inputs = sessions[0].inputs
        cost = old.cost()
        for sample in samples(declared(old, judging, cost), judging, cost, most):
            was, now = _outputs(sessions, sample)
            for name, array in was.items():
                other = now.get(name)
                if array is not None and other is not None:
                    result = compare(name, array, other, output=True)
                    if name not in furthest or result.max_error > furthest[name].max_error:
                        furthest[name] = result
    return list(furthest.values())


def _outputs(sessions: Sessions, sample: Sample) -> Tuple[Dict[str, Optional[np.ndarray]], ...]:
    with input_files(sample.before) as was, input_files(sample.after) as now:
        streams = [s.forward(files, True) for s, files in zip(sessions, (was, now))]
        return tuple({f.header["name"]: f.array for f in frames} for frames in streams)

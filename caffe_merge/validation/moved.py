"""Judges a pair whose merge was asked for something that is not exact, and measures that apart.

The verdict is on the exact rewrites, as always: the merged pair is held against ``stand_in``, the
original with only what is not exact done to it. How far the outputs have moved is told of the
merged pair and the original itself, each run by itself from the inputs to the outputs.
"""

import contextlib
import os
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.validation import engines, registry
from caffe_merge.validation.compare import BlobResult, compare
from caffe_merge.validation.judging import Judging, Sample, samples
from caffe_merge.validation.loaded import Net, declared
from caffe_merge.validation.sessions import Pair, Session, input_files
from caffe_merge.validation.verdict import Comparison


class Judged(NamedTuple):
    """The verdict on ``after`` and ``stand_in``; the outputs of ``after`` against ``before``.

    Of each output the result on those inputs on which it is furthest off. The images of the
    comparison are of ``before`` and ``after``, and judge nothing.
    """

    comparison: Comparison
    moved: Tuple[BlobResult, ...]


def validate(
    before: Pair, stand_in: Pair, after: Pair, engine: str = registry.DEFAULT, **how: Any
) -> Judged:
    """Judge ``after`` by ``stand_in`` as engines.validate does, and measure it by ``before``."""
    comparison = engines.validate(stand_in, after, engine, **{**how, "images": None})
    row = registry.engine(engine)
    judging = Judging.of(how)
    judging = judging._replace(time_limit=judging.time_limit or row.time_limit)
    command = row.command(judging.caffe_python)
    pairs = [(os.fspath(text), os.fspath(weights)) for text, weights in (before, after)]
    if judging.images is not None:
        images = engines.on_images(command, pairs, judging, judging.images)
        comparison = replace(comparison, images=images)
    return Judged(comparison, tuple(_moved(command, pairs, judging, row.most)))


def _moved(
    command: List[str], pairs: Sequence[Tuple[str, str]], judging: Judging, most: float
) -> List[BlobResult]:
    furthest: Dict[str, BlobResult] = {}
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(
                Session(pair, command, judging.time_limit, judging.state, judging.bn_style)
            )
            for pair in pairs
        ]
        for session in sessions:
            session.opened()
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


def _outputs(
    sessions: Sequence[Session], sample: Sample
) -> Tuple[Dict[str, Optional[np.ndarray]], ...]:
    with input_files(sample.before) as was, input_files(sample.after) as now:
        streams = [s.forward(files, True) for s, files in zip(sessions, (was, now))]
        return tuple({f.header["name"]: f.array for f in frames} for frames in streams)

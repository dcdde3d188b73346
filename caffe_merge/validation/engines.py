"""What callers ask of engines: run one pair, or compare two."""

from __future__ import annotations

import base64
import contextlib
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.validation import registry
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.opening import both, prepared
from caffe_merge.validation.sessions import Pair, Session, input_files, naming, paths
from caffe_merge.validation.verdict import FAILED, INCONCLUSIVE, Comparison
from caffe_merge.validation.workers import Worker

if TYPE_CHECKING:
    from caffe_merge.validation.images import ImageOptions, OnImages


def forward(
    pair: Pair,
    arrays: Mapping[str, np.ndarray],
    engine: str = "reference",
    *,
    outputs_only: bool = True,
    caffe_python: Optional[str] = None,
    time_limit: Optional[float] = None,
) -> Dict[str, np.ndarray]:
    """Run a pair on disk; return its outputs, or all its blobs, by name.

    Blobs that the engine cannot judge are left out. Raises ValidationError and UsageError.
    """
    command = registry.engine(engine).command(caffe_python)
    with input_files(arrays) as files, Session(pair, command, time_limit) as session:
        session.opened()
        if set(arrays) - set(session.feedable) != set(session.inputs):
            raise UsageError(
                f"the inputs given are {_names(arrays)}, the net's are {_names(session.inputs)}"
            )
        frames = session.forward(files, outputs_only)
        return {f.header["name"]: f.array for f in frames if f.array is not None}


def validate(before: Pair, after: Pair, engine: str = registry.DEFAULT, **how: Any) -> Comparison:
    """Run both pairs, as they are on disk, on the same inputs and compare what they compute.

    ``how`` are the fields of judging.Judging: limit, seed, scale, shapes, files, bn_style,
    caffe_python, time_limit, state, progress, raw, allow_unseen, images, chosen_by.
    Reasons name options as caffe_merge.convert has them: input_shape is ``shapes`` here, input
    ``files``, and input_scale ``scale``.

    Raises ValidationError where a net cannot be run at all, UsageError for bad arguments; a net
    that differs is no exception but a Comparison that is not ``ok``.
    """
    row, command, judging = prepared(engine, how)
    pairs = paths(before), paths(after)
    with _naming_arrays(judging.files or {}):
        if row.together:
            comparison = _together(command, pairs, judging, row)
        else:
            from caffe_merge.validation import worker_judge  # with layers that others do without

            with both(pairs, command, judging) as sessions:
                comparison = worker_judge.judged(engine, row, sessions, pairs, judging)
    if judging.images is None:
        return comparison
    seen = on_images(command, pairs, judging, judging.images)
    if seen.problem is not None and comparison.status != FAILED:
        comparison = replace(comparison, status=FAILED, reason=seen.problem)
    if seen.doubt is not None and comparison.ok and not judging.allow_unseen:
        comparison = replace(comparison, status=INCONCLUSIVE, reason=seen.doubt)
    return replace(comparison, images=seen)


def on_images(
    command: List[str], pairs: Sequence[Tuple[str, str]], judging: Judging, options: ImageOptions
) -> OnImages:
    """Run both pairs on the user's images, in a worker each."""
    from caffe_merge.validation import images, inputs

    files, shapes = judging.files or {}, judging.shapes or {}
    with both(pairs, command, judging) as (old, new):
        declared = {**old.inputs, **{n: shape for n, shape in shapes.items() if n in old.inputs}}
        name = images.image_input({n: s for n, s in declared.items() if n not in files})
        others = {n: shape for n, shape in declared.items() if n != name}
        other_inputs = (
            inputs.make(others, seed=judging.seed, shapes=None, files=files) if others else ()
        )
        raw = None if judging.raw is None else judging.raw.resolve(declared)
        fed = {entry.name: entry.array for entry in other_inputs}
        return images.compare((old, new), options, fed, (name, declared[name]), raw)


def _together(
    command: List[str], pairs: Sequence[Tuple[str, str]], judging: Judging, row: registry.Engine
) -> Comparison:
    """Have one worker load both pairs, run them, and compare what it has."""
    requested = judging._replace(progress=None, time_limit=None, images=None)
    call = pickle.dumps((*pairs, requested, row.limit, row.most))
    job = {"do": "judge", "call": base64.b64encode(call).decode("ascii")}
    last: Dict[str, Any] = {}
    with Worker(command, judging.time_limit) as worker, naming(pairs[0][0]):
        for frame in worker.ask(job):
            last = frame.header
            if judging.progress and "progress" in last:
                judging.progress(*last["progress"])
    comparison: Comparison = pickle.loads(base64.b64decode(last["comparison"]))
    return comparison


@contextlib.contextmanager
def _naming_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Have an error of this block name the user's ``arrays``: their shapes may be its cause."""
    try:
        yield
    except ValidationError as error:
        for name, array in arrays.items():
            error.add(f"; the array given for {name!r} has shape {array.shape}")
        raise


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"

"""The engines that judge a pair: who runs it, how exact that is, and the run itself."""

import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from caffe_merge.errors import CaffeMergeError, UsageError, ValidationError
from caffe_merge.fields import described
from caffe_merge.pixels import Pixels, Wanted
from caffe_merge.state import State
from caffe_merge.validation import compare, inputs, sizes
from caffe_merge.validation.workers import (
    Frame,
    Worker,
    caffe_command,
    find_caffe_python,
    reference_command,
)
from caffe_merge.wording import counted

Pair = Tuple[Union[str, "os.PathLike[str]"], Union[str, "os.PathLike[str]"]]
Progress = Callable[[int, int, str], None]


class Engine(NamedTuple):
    """``limit``: the largest error that passes; ``most``: multiply-adds it does in a minute."""

    limit: float
    most: float


# The reference computes in float64, so its limit has room for the rounding of the merged weights
# alone; Caffe sums in float32, in an order that a merge changes.
ENGINES = {"reference": Engine(1e-5, 40e9), "pycaffe": Engine(1e-4, 400e9)}


class Session:
    """One pair in a worker process of its own; use it in a ``with``.

    The process starts at once, so that two of them start side by side; `opened` waits for it.
    """

    def __init__(
        self,
        pair: Pair,
        command: List[str],
        time_limit: Optional[float] = None,
        state: Optional[State] = None,
        bn_style: Optional[str] = None,
    ) -> None:
        self._paths = os.fspath(pair[0]), os.fspath(pair[1])
        self._worker = Worker(command, time_limit)
        self.inputs: Dict[str, Tuple[int, ...]] = {}
        self.feedable: List[str] = []
        self.told: Dict[str, Tuple[int, ...]] = {}
        self.outputs: List[str] = []
        self.blobs: List[str] = []
        self.seconds = 0.0
        job = {
            "do": "open",
            "prototxt": self._paths[0],
            "weights": self._paths[1],
            "state": (state or State()).to_json(),
            "bn_style": bn_style,
        }
        self._opening = self._worker.ask(job)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def opened(self) -> None:
        """Wait until the pair is loaded: until then nothing is known of the net.

        ``feedable`` are blobs of data layers: they take an input where the user gives one or its
        shape, or where text and weights tell the shape (``told``).
        """
        with self._named():
            (header, _), *_ = self._opening
        self.inputs = {name: tuple(shape) for name, shape in header["inputs"]}
        self.feedable = header.get("feedable", [])
        self.told = {name: tuple(shape) for name, shape in header.get("told", [])}
        self.outputs = header["outputs"]
        self.blobs = [name for name, _ in header["blobs"]]

    def forward(self, files: Mapping[str, str], outputs_only: bool = False) -> Iterator[Frame]:
        """Start a forward pass on .npy ``files``; return its blobs as they come."""
        with self._named():
            job = {"do": "forward", "inputs": dict(files), "outputs_only": outputs_only}
            return self._frames(self._worker.ask(job))

    def _frames(self, answer: Iterator[Frame]) -> Iterator[Frame]:
        with self._named():
            for frame in answer:
                if "done" in frame.header:
                    self.seconds = frame.header["seconds"]
                else:
                    yield frame

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            if str(error).startswith(self._paths):
                raise
            raise ValidationError(f"{self._paths[0]}: {error}") from error


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
    command = _command(engine, caffe_python)
    with _input_files(arrays) as files, Session(pair, command, time_limit) as session:
        session.opened()
        if set(arrays) - set(session.feedable) != set(session.inputs):
            raise UsageError(
                f"the inputs given are {_names(arrays)}, the net's are {_names(session.inputs)}"
            )
        frames = session.forward(files, outputs_only)
        return {f.header["name"]: f.array for f in frames if f.array is not None}


def validate(
    before: Pair,
    after: Pair,
    engine: str = "reference",
    *,
    limit: Optional[float] = None,
    seed: int = 0,
    scale: Optional[float] = None,
    shapes: Optional[Mapping[str, Tuple[int, ...]]] = None,
    files: Optional[Mapping[str, np.ndarray]] = None,
    bn_style: Optional[str] = None,
    caffe_python: Optional[str] = None,
    time_limit: Optional[float] = None,
    state: Optional[State] = None,
    progress: Optional[Progress] = None,
    raw: Optional[Wanted] = None,
) -> compare.Comparison:
    """Run both pairs, as they are on disk, on the same inputs and compare every blob they share.

    ``limit`` is the largest error that passes, relative to a blob's largest value (the engine's own
    when None); ``shapes`` and ``files`` replace declared input shapes and seeded noise of standard
    deviation ``scale``; ``bn_style`` is that of caffe_merge.merge; ``time_limit`` is in seconds for
    each net; ``state`` is the NetState that both are built for (phase TEST); ``progress(done,
    total, name)`` is called after each blob. ``raw`` (of caffe_merge.pixels) says what the new net
    does to an input itself: it is fed pixels, the old net what was made of them, and the input is
    not compared.

    Raises ValidationError where a net cannot be run at all, UsageError for bad arguments; a net
    that differs is no exception but a Comparison that is not ``ok``.
    """
    command = _command(engine, caffe_python)
    limit = ENGINES[engine].limit if limit is None else limit
    with contextlib.ExitStack() as stack:
        old, new = (
            stack.enter_context(Session(pair, command, time_limit, state, bn_style))
            for pair in (before, after)
        )
        old.opened()
        new.opened()
        if set(old.inputs) != set(new.inputs):
            raise ValidationError(
                f"the inputs differ: {_names(old.inputs)} before, {_names(new.inputs)} after"
            )
        extra = {n: () for n in old.feedable if n in (shapes or {}) or n in (files or {})}
        pixels = None if raw is None else raw.on({**old.inputs, **(shapes or {})})
        cost = _cost(os.fspath(before[0]), {**old.inputs, **old.told}, state)
        made = inputs.make(
            {**old.inputs, **extra, **_singly(old, cost)},
            seed=seed,
            scale=scale,
            shapes=shapes,
            files=files,
            cost=cost,
            most=ENGINES[engine].most,
            raw=pixels,
        )
        if cost is not None:
            inputs.check_size(cost.largest({i.name: i.array.shape for i in made}))
        used = [compare.InputUsed(i.name, i.array.shape, i.seed, i.note) for i in made]
        results, unjudged = _run(old, new, {i.name: i.array for i in made}, pixels, progress)
        status, reason = compare.judge(results, limit, old.outputs, set(new.blobs), unjudged)
        failed = next((r for r in results if compare.beyond(r, limit)), None)
        worst = max(results, key=lambda r: r.max_error, default=None)
        return compare.Comparison(
            status=status,
            reason=reason,
            engine=engine,
            limit=limit,
            worst=(worst.name, worst.max_error) if worst else None,
            first_beyond=(failed.name, failed.max_error) if failed else None,
            blobs=tuple(results),
            unjudged=tuple(unjudged),
            inputs=tuple(used),
            only_before=len(set(old.blobs) - set(new.blobs)),
            only_after=len(set(new.blobs) - set(old.blobs)),
            seconds=(old.seconds, new.seconds),
        )


def _run(
    old: Session,
    new: Session,
    fed: Mapping[str, np.ndarray],
    pixels: Optional[Pixels],
    progress: Optional[Progress],
) -> Tuple[List[compare.BlobResult], List[Tuple[str, str]]]:
    """Both forward passes at once, compared as they stream; results and what is unjudged."""
    common = set(old.blobs) & set(new.blobs)
    was_fed = dict(fed)
    if pixels is not None:
        common.discard(pixels.name)
        was_fed[pixels.name] = pixels.of(fed[pixels.name])
    results: List[compare.BlobResult] = []
    unjudged: List[Tuple[str, str]] = []
    done = 0
    with _input_files(was_fed) as was_files, _input_files(fed) as files:
        streams = old.forward(was_files), new.forward(files)
        for name, was, now in compare.paired(*streams, common):
            done += 1
            if was.array is None or now.array is None:
                reason = was.header.get("unjudged") or now.header["unjudged"]
                unjudged.append((name, str(reason)))
            elif not _untouched(fed.get(name), was.array, now.array):
                results.append(compare.compare(name, was.array, now.array, name in old.outputs))
            if progress:
                progress(done, len(common), name)
        for _ in streams[1]:  # to its end: the time it took is told there
            pass
    if done < len(common):
        raise ValidationError(
            f"only {done} of {counted(len(common), 'blob')} came from the workers"
        )
    return results, unjudged


def _untouched(fed: Optional[np.ndarray], *arrays: np.ndarray) -> bool:
    """Whether a blob is just the input it was fed in both nets: that would prove nothing."""
    return fed is not None and all(np.array_equal(fed, array) for array in arrays)


def _command(engine: str, caffe_python: Optional[str]) -> List[str]:
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}: choose from {', '.join(ENGINES)}")
    if engine == "reference":
        return reference_command()
    python = caffe_python or find_caffe_python()
    if not python:
        raise UsageError(
            "no interpreter with Caffe: name one with --caffe-python or CAFFE_MERGE_CAFFE_PYTHON"
        )
    return caffe_command(python)


@contextlib.contextmanager
def _input_files(arrays: Mapping[str, np.ndarray]) -> Iterator[Dict[str, str]]:
    """Arrays as .npy files for the workers: names may be anything, so files are numbered."""
    with tempfile.TemporaryDirectory(prefix="caffe_merge_") as folder:
        paths = {}
        for index, (name, array) in enumerate(arrays.items()):
            paths[name] = os.path.join(folder, f"{index}.npy")
            np.save(paths[name], np.asarray(array, np.float32))
        yield paths


def _cost(
    prototxt: str, declared: Dict[str, Tuple[int, ...]], state: Optional[State]
) -> Optional[sizes.Cost]:
    """The net's cost by input shape; None where only the engine can read it."""
    from caffe_merge import net  # not for those who need the workers alone

    try:
        layers = net.load(prototxt, None, state).layers
    except CaffeMergeError:
        return None
    return sizes.Cost([described(layer) for layer in layers], declared)


def _singly(session: Session, cost: Optional[inputs.Cost]) -> Dict[str, Tuple[int, ...]]:
    """The shapes that are told of data layers: one sample of each batch, if the layers allow it."""
    single = {name: (1, *shape[1:]) for name, shape in session.told.items()}
    allowed = cost is not None and cost({**session.inputs, **single}) is not None
    return single if allowed else session.told


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"

"""The engines that judge a pair: who runs it, how exact that is, and the run itself."""

import contextlib
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from caffe_merge.errors import CaffeMergeError, UsageError, ValidationError
from caffe_merge.files import temporary_folder
from caffe_merge.layers.fork_fields import described
from caffe_merge.layers.state import State
from caffe_merge.net.pixels import PixelOptions, Pixels
from caffe_merge.validation import compare, inputs, registry, sizes
from caffe_merge.validation.workers import Frame, Worker
from caffe_merge.wording import counted

Pair = Tuple[Union[str, "os.PathLike[str]"], Union[str, "os.PathLike[str]"]]
Progress = Callable[[int, int, str], None]


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
        self.known_shapes: Dict[str, Tuple[int, ...]] = {}
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
        shape, or where text and weights tell the shape (``known_shapes``).
        """
        with self._named():
            (header, _), *_ = self._opening
        self.inputs = {name: tuple(shape) for name, shape in header["inputs"]}
        self.feedable = header.get("feedable", [])
        self.known_shapes = {name: tuple(shape) for name, shape in header.get("told", [])}
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
    command = registry.engine(engine).command(caffe_python)
    with _input_files(arrays) as files, Session(pair, command, time_limit) as session:
        session.opened()
        if set(arrays) - set(session.feedable) != set(session.inputs):
            raise UsageError(
                f"the inputs given are {_names(arrays)}, the net's are {_names(session.inputs)}"
            )
        frames = session.forward(files, outputs_only)
        return {f.header["name"]: f.array for f in frames if f.array is not None}


class Judging(NamedTuple):
    """How two pairs are compared.

    ``limit`` is the largest error that passes, relative to a blob's largest value (the engine's own
    when None); ``shapes`` and ``files`` replace declared input shapes and seeded noise of standard
    deviation ``scale``; ``bn_style`` is that of caffe_merge.merge; ``time_limit`` is in seconds for
    each net; ``state`` is the NetState that both are built for (phase TEST); ``progress(done,
    total, name)`` is called after each blob. ``raw`` (of net.pixels) says what the new net does to
    an input itself: it is fed pixels, the old net what was made of them, and the input is not
    compared.
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
    progress: Optional[Progress] = None
    raw: Optional[PixelOptions] = None


def validate(
    before: Pair, after: Pair, engine: str = registry.DEFAULT, **how: Any
) -> compare.Comparison:
    """Run both pairs, as they are on disk, on the same inputs and compare every blob they share.

    ``how`` are the fields of Judging: limit, seed, scale, shapes, files, bn_style, caffe_python,
    time_limit, state, progress, raw.

    Raises ValidationError where a net cannot be run at all, UsageError for bad arguments; a net
    that differs is no exception but a Comparison that is not ``ok``.
    """
    judging = _judging(how)
    row = registry.engine(engine)
    command = row.command(judging.caffe_python)
    with contextlib.ExitStack() as stack:
        old, new = (
            stack.enter_context(
                Session(pair, command, judging.time_limit, judging.state, judging.bn_style)
            )
            for pair in (before, after)
        )
        old.opened()
        new.opened()
        if set(old.inputs) != set(new.inputs):
            raise ValidationError(
                f"the inputs differ: {_names(old.inputs)} before, {_names(new.inputs)} after"
            )
        made, pixels = _inputs(os.fspath(before[0]), old, judging, row.most)
        fed = {i.name: i.array for i in made}
        results, unjudged = _run(old, new, fed, pixels, judging.progress)
    limit = row.limit if judging.limit is None else judging.limit
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
        inputs=tuple(compare.InputUsed(i.name, i.array.shape, i.seed, i.note) for i in made),
        only_before=len(set(old.blobs) - set(new.blobs)),
        only_after=len(set(new.blobs) - set(old.blobs)),
        seconds=(old.seconds, new.seconds),
    )


def _judging(how: Dict[str, Any]) -> Judging:
    unknown = how.keys() - set(Judging._fields)
    if unknown:
        fields = ", ".join(Judging._fields)
        raise UsageError(f"validate has no argument {min(unknown)!r}; there are {fields}")
    return Judging(**how)


def _inputs(
    prototxt: str, old: Session, judging: Judging, most: float
) -> Tuple[Tuple[inputs.NetInput, ...], Optional[Pixels]]:
    """What both nets are fed, and what the new one does to it itself; ``prototxt`` is the old's."""
    shapes, files = judging.shapes or {}, judging.files or {}
    extra = {name: () for name in old.feedable if name in shapes or name in files}
    pixels = None if judging.raw is None else judging.raw.resolve({**old.inputs, **shapes})
    cost = _cost(prototxt, {**old.inputs, **old.known_shapes}, judging.state)
    made = inputs.make(
        {**old.inputs, **extra, **_singly(old, cost)},
        seed=judging.seed,
        scale=judging.scale,
        shapes=judging.shapes,
        files=judging.files,
        cost=cost,
        most=most,
        raw=pixels,
    )
    if cost is not None:
        inputs.check_size(cost.largest({i.name: i.array.shape for i in made}))
    return made, pixels


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


@contextlib.contextmanager
def _input_files(arrays: Mapping[str, np.ndarray]) -> Iterator[Dict[str, str]]:
    """Arrays as .npy files for the workers: names may be anything, so files are numbered."""
    with temporary_folder() as folder:
        paths = {}
        for index, (name, array) in enumerate(arrays.items()):
            paths[name] = os.path.join(folder, f"{index}.npy")
            np.save(paths[name], np.asarray(array, np.float32))
        yield paths


def _cost(
    prototxt: str, declared: Dict[str, Tuple[int, ...]], state: Optional[State]
) -> Optional[sizes.Cost]:
    """The net's cost by input shape; None where only the engine can read it."""
    from caffe_merge.net import loading  # not for those who need the workers alone

    try:
        layers = loading.load(prototxt, None, state).layers
    except CaffeMergeError:
        return None
    return sizes.Cost([described(layer) for layer in layers], declared)


def _singly(session: Session, cost: Optional[inputs.Cost]) -> Dict[str, Tuple[int, ...]]:
    """The shapes that are told of data layers: one sample of each batch, if the layers allow it."""
    single = {name: (1, *shape[1:]) for name, shape in session.known_shapes.items()}
    allowed = cost is not None and cost({**session.inputs, **single}) is not None
    return single if allowed else session.known_shapes


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"

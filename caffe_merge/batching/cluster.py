"""The workers of a dask.distributed scheduler in place of a pool: the same tasks and outcomes.

Only names of files travel. All machines see the same files: each worker looks whether those of its
task are the very ones that the caller sees. A dask worker has a child process for each of its
threads that does the work, so that a pair that crashes is that pair's failure and nobody else's. A
dask worker that dies has its pairs done elsewhere, three times at most.
"""

import hashlib
import os
import socket
import threading
import uuid
from contextlib import suppress
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from caffe_merge import __version__
from caffe_merge.batching.outcome import FAILED, STOPPED, WORKER, Outcome
from caffe_merge.batching.pool import DiedError, Setup, Worker
from caffe_merge.batching.running import run
from caffe_merge.errors import CaffeMergeError, FileError, UsageError
from caffe_merge.files.inputs import opened
from caffe_merge.merging import request
from caffe_merge.options import mean_file

LOCAL = "local"
TRIES = 3
_HEAD = 1 << 16  # bytes of a file by which it is known again
_CONNECTING = 30  # seconds


class Seen(NamedTuple):
    """A file as somebody sees it: its size, and the SHA-256 of its head."""

    path: str
    size: int
    head: str

    @classmethod
    def of(cls, path: str) -> "Seen":
        """The file at ``path``. Raises FileError where there is none."""
        with opened(path) as handle:
            head = hashlib.sha256(handle.read(_HEAD)).hexdigest()
            return cls(path, os.fstat(handle.fileno()).st_size, head)


class Task(NamedTuple):
    """What a dask worker is sent for one pair; ``journal`` shows whether it sees OUT."""

    name: str
    flags: Dict[str, Any]
    files: Tuple[Seen, ...]
    journal: str
    limit: Optional[float]
    run: str
    version: str = __version__


class Cluster:
    """The workers that a scheduler has: an address, its file, or "local"; use it in a ``with``."""

    def __init__(self, address: str, setup: Setup, count: int) -> None:
        try:
            import distributed
        except ImportError:
            raise UsageError(
                "a scheduler needs dask.distributed: pip install caffe_merge[cluster]"
            ) from None
        self._setup = setup
        self._run = f"caffe-merge-{uuid.uuid4().hex}"
        self._cluster: Any = None
        try:
            if address == LOCAL:
                self._cluster = _local_cluster(count)
                self._client = distributed.Client(self._cluster)
            elif os.path.isfile(address):
                self._client = distributed.Client(scheduler_file=address, timeout=_CONNECTING)
            else:
                self._client = distributed.Client(address, timeout=_CONNECTING)
        except (OSError, ValueError) as error:
            if self._cluster is not None:
                self._cluster.close()
            raise UsageError(f"no scheduler at {address}: {error}") from None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # it may be gone
            self._client.run(stop, self._run)
        with suppress(Exception):
            self._client.close()
            if self._cluster is not None:
                self._cluster.close()

    def outcomes(
        self,
        jobs: Sequence[Tuple[str, Mapping[str, Any]]],
        journal: str,
        limit: Optional[float],
        started: Callable[[str], None],
    ) -> Generator[Tuple[str, Outcome], None, None]:
        """Name and outcome of each of ``jobs``, as they come."""
        from distributed import as_completed

        self._client.subscribe_topic(self._run, lambda event: started(event[1]["pair"]))
        names: Dict[Any, str] = {}
        for name, flags in jobs:
            try:
                task = self._task(name, flags, journal, limit)
            except CaffeMergeError as error:
                yield name, Outcome(FAILED, str(error), WORKER)
                continue
            names[self._client.submit(do, task, self._setup, pure=False)] = name
        try:
            for future in as_completed(list(names)):
                yield names.pop(future), _outcome(future)
        finally:
            self._client.cancel(list(names))

    def _task(
        self, name: str, flags: Mapping[str, Any], journal: str, limit: Optional[float]
    ) -> Task:
        absolute = with_absolute_paths(flags)
        read = [absolute["model"], absolute["weights"], *request.read_files(absolute)]
        files = tuple(map(Seen.of, read))
        return Task(name, absolute, files, os.path.abspath(journal), limit, self._run)


def _local_cluster(count: int) -> Any:
    """A scheduler and ``count`` workers on this machine; UsageError where they do not start."""
    import distributed

    try:
        return distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None
        )
    except (OSError, RuntimeError) as error:  # Dask has no error of its own for it
        raise UsageError(f"no scheduler on this machine: {error}") from None


def _outcome(future: Any) -> Outcome:
    """What a future that is done says."""
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    if future.status == "error":
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            return Outcome(FAILED, "the workers that had it died, one after the other", WORKER)
        return Outcome(FAILED, f"{type(error).__name__}: {error}", WORKER)
    return Outcome(FAILED, f"the scheduler gave it up ({future.status})", WORKER)


def with_absolute_paths(flags: Mapping[str, Any]) -> Dict[str, Any]:
    """``flags`` for a process in another folder."""
    out = dict(flags)
    for name in ("model", "weights", "output_model", "output_weights", "proto", "labels"):
        if out[name] is not None:
            out[name] = os.path.abspath(out[name])
    mean = mean_file(out["mean"])
    if mean is not None:
        head = str(out["mean"])[: -len(mean)]
        out["mean"] = head + os.path.abspath(mean)
    out["images"] = [os.path.abspath(path) for path in out["images"]]
    parts = [option.partition("=") for option in out["input"]]
    out["input"] = [f"{blob}={os.path.abspath(path)}" for blob, _, path in parts]
    return out


# What follows runs in dask's workers.

_lock = threading.Lock()
_children: Dict[str, Dict[int, Worker]] = {}  # of each run, by thread
_stopped: List[str] = []  # runs


def do(task: Task, setup: Setup) -> Outcome:
    """Do ``task`` in this thread's child process."""
    from distributed import get_client, get_worker

    here = get_worker()
    where = f"worker {here.address} on {socket.gethostname()}"
    topic = f"{task.run}/{task.name}"
    earlier = len(get_client().get_events(topic) or ())
    if earlier >= TRIES:
        return Outcome(FAILED, f"{earlier} workers that had it died", WORKER)
    here.log_event([topic, task.run], {"pair": task.name})
    problem = _problem(task)
    if problem is not None:
        return Outcome(FAILED, f"{where} {problem}", WORKER)
    if earlier:  # what is in place then is of this very pair
        task = task._replace(flags={**task.flags, "force": True})
    try:
        return _ask(task, setup)
    except DiedError as error:
        return error.outcome


def _problem(task: Task) -> Optional[str]:
    """Why this worker cannot do ``task``; None if it can."""
    if task.version != __version__:
        return f"has caffe_merge {__version__}, not {task.version}"
    for file in task.files:
        try:
            seen = Seen.of(file.path)
        except FileError as error:
            return f"does not see an input: {error}"
        if seen != file:
            return f"sees another file: {file.path}"
    if not os.path.isfile(task.journal):
        return f"does not see the folder of the outputs: no {task.journal}"
    return None


def _ask(task: Task, setup: Setup) -> Outcome:
    thread = threading.get_ident()
    with _lock:
        child = _children.setdefault(task.run, {}).pop(thread, None)
    if child is not None and not child.alive:  # it died after its last task
        child.close()
        child = None
    if child is None:
        child = Worker(setup)
    with _lock:
        if task.run in _stopped:
            child.close()
            raise DiedError(STOPPED, "stopped before it began")
        _children[task.run][thread] = child
    try:
        outcome: Outcome = child.ask(run, (task.flags,), task.limit)
        return outcome
    except BaseException:
        with _lock:
            _children.get(task.run, {}).pop(thread, None)
        child.close()
        raise


def stop(run_: str) -> None:
    """End the child processes of a run here, and what they are doing."""
    with _lock:
        _stopped.append(run_)
        children = list(_children.pop(run_, {}).values())
    for child in children:
        child.stop()

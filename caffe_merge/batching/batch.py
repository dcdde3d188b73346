"""A batch from its sources to its results."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from operator import ne
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from caffe_merge.batching import jobs, memory
from caffe_merge.batching.content import Contents
from caffe_merge.batching.jobs import Job, ParseCells
from caffe_merge.batching.journal import Journal, outputs_of_earlier_runs
from caffe_merge.batching.outcome import FAILED, Outcome, Result
from caffe_merge.batching.pairing import Pairer, Pairing, files_to_read
from caffe_merge.batching.pool import DiedError, Pool, Setup
from caffe_merge.batching.reading import MANY, Holdings, read, read_by
from caffe_merge.batching.running import run
from caffe_merge.batching.sources import EARLIER_BATCH, Sources
from caffe_merge.errors import CaffeMergeError, OptionName, UsageError
from caffe_merge.files.places import absolute, check_file
from caffe_merge.files.recovery import put_right
from caffe_merge.wording import counted

_HASHED_AT_ONCE = 4  # pairs


class Request(NamedTuple):
    """What a batch is asked for: its own flags by name, and those of every pair (``flags``).

    ``setup`` prepares a worker process. ``started(name)`` is called when a pair's turn has come.
    ``pages`` is the folder that gets a page of each pair, options in it called by ``name_of``.
    """

    sources: Sequence[str]
    output_dir: str
    flags: Mapping[str, Any]
    parse_cells: ParseCells
    setup: Setup
    jobs: Optional[int] = None
    timeout: float = 1800.0
    scheduler: Optional[str] = None
    resume: bool = False
    force: bool = False
    fail_fast: bool = False
    started: Callable[[str], None] = lambda name: None
    pages: Optional[str] = None
    name_of: Callable[[str], str] = str


class Plan(NamedTuple):
    """The jobs of a batch, what it is not going to do, and the bytes that each job ``needs``."""

    jobs: List[Job]
    pairing: Pairing
    root: str
    needs: Sequence[int] = ()

    @property
    def unpaired(self) -> List[Result]:
        """Weights that are in no pair, as results."""
        return [
            Result(
                jobs.below(self.root, entry.weights),
                model="",
                weights=entry.weights,
                output_model="",
                output_weights="",
                outcome=Outcome(FAILED, entry.reason, entry.kind),
            )
            for entry in self.pairing.unpaired
        ]


def plan(request: Request) -> Plan:
    """Find the pairs of the sources. Raises UsageError where there is nothing to be found."""
    _check_folder(request.output_dir)
    if request.flags["proto"] is not None:
        check_file(request.flags["proto"])
    sources = Sources(request.sources, request.output_dir)
    held = _read(request, *files_to_read(sources))
    pairing = Pairer(sources, request.flags, *held).pairing()
    if not pairing.pairs and not pairing.unpaired:
        raise _nothing(request, sources)
    flags = {**request.flags, "force": request.force or request.resume, "report": None}
    planned = jobs.make(pairing.pairs, sources.root, request.output_dir, flags, request.parse_cells)
    if request.pages is not None:
        planned = [job.with_page(request.pages, request.name_of) for job in planned]
    needs = []
    contents = Contents(request.flags)
    for job in planned:
        text, file = job.inputs
        content = held.texts[text] if text in held.texts else contents.text(text)
        needs.append(memory.estimate(content, file, job.flags["validate"]))
    return Plan(planned, pairing, sources.root, needs)


def _check_folder(output_dir: str) -> None:
    """Refuse an output folder that is a file, or would be below one."""
    path = absolute(output_dir)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UsageError(f"{output_dir}: no folder for the outputs: {path} is not a folder")


def _nothing(request: Request, sources: Sources) -> UsageError:
    """Why nothing is to be merged: there are no weights, or all are in what is left out."""
    looked_at = ", ".join(request.sources)
    earlier = [entry.path for entry in sources.left_out if entry.why == EARLIER_BATCH]
    if earlier:
        where = earlier[0] if len(earlier) == 1 else f"{earlier[0]} and others"
        return UsageError(f"{looked_at}: nothing to merge: {where} is left out, {EARLIER_BATCH}")
    return UsageError(f"{looked_at}: no weights in it (.caffemodel or HDF5): nothing to merge")


def _read(request: Request, texts: Sequence[str], weights: Sequence[str]) -> Holdings:
    if len(texts) + len(weights) < MANY:
        return read(texts, weights, request.flags)
    with Pool(request.jobs or memory.cores(), request.setup) as pool:
        return read_by(pool, texts, weights, request.flags)


class Placed:
    """Which pairs of a plan are put in place from now on, as the files themselves show.

    A batch that is stopped may have put a pair in place whose worker could not say so any more.
    """

    def __init__(self, planned: Plan) -> None:
        self._jobs = planned.jobs
        self._before = [_identities(job) for job in planned.jobs]

    def names(self) -> List[str]:
        """Their names: both outputs are there, and others than before."""
        now = map(_identities, self._jobs)
        return [
            job.name
            for job, before, after in zip(self._jobs, self._before, now)
            if None not in after and all(map(ne, before, after))
        ]


def _identities(job: Job) -> List[Optional["tuple[int, ...]"]]:
    """What tells each of the outputs from another file in its place; None where there is none."""
    return [_identity(path) for path in job.outputs]


def _identity(path: str) -> Optional["tuple[int, ...]"]:
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def results(request: Request, planned: Plan) -> Generator[Result, None, None]:
    """Merge what is planned, and yield what became of each pair as it ends.

    Raises UsageError, before anything is done, where an output exists and may not be replaced, and
    CaffeMergeError where no pair could be merged with the flags of all.
    """
    if not request.force:
        _check_outputs(request, planned.jobs)
    if request.scheduler is None:  # its workers may be on machines that have it all
        jobs.check(planned.jobs)
    with Journal(request.output_dir) as journal:
        journal.begin(planned.jobs)
        waiting: Dict[str, Job] = {job.name: job for job in planned.jobs}
        if request.resume:
            for name, outcome in _unchanged(planned.jobs, journal):
                yield _result(waiting.pop(name), outcome)
        failed: List[Job] = []
        try:
            with contextlib.closing(
                _outcomes(request, _workers(request, planned), list(waiting.values()), journal)
            ) as outcomes:
                for name, outcome in outcomes:
                    job = waiting.pop(name)
                    result = _result(job, outcome)
                    if not outcome.ok:
                        failed.append(job)
                    journal.add(result, job)
                    yield result
                    if request.fail_fast and not result.ok:
                        return
        finally:
            _clean([*failed, *waiting.values()])
        yield from planned.unpaired  # at the end: --fail-fast is for what is found out by merging


def _check_outputs(request: Request, planned: Sequence[Job]) -> None:
    existing = [path for job in planned for path in job.outputs if os.path.lexists(path)]
    resume, force = OptionName("resume"), OptionName("force")
    hint: Sequence[str] = (resume, " goes on where an earlier run ended, ", force, " replaces all")
    if request.resume and existing:
        earlier = outputs_of_earlier_runs(request.output_dir)
        existing = [path for path in existing if path not in earlier]
        hint = "no earlier batch made it, ", force, " replaces all"
    if existing:
        more = f" (and {counted(len(existing) - 1, 'other')})" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}: exists already{more}; ", *hint)


def _unchanged(planned: Sequence[Job], journal: Journal) -> Iterator["tuple[str, Outcome]"]:
    """The pairs that an earlier run has put in place, where nothing changed since."""
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as threads:  # hashing lets other threads run
        for job, outcome in zip(planned, threads.map(journal.unchanged, planned)):
            if outcome is not None:
                yield job.name, outcome


def _workers(request: Request, planned: Plan) -> int:
    return request.jobs or memory.side_by_side(planned.needs, memory.cores(), memory.free())


def _outcomes(
    request: Request, workers: int, waiting: Sequence[Job], journal: Journal
) -> Generator["tuple[str, Outcome]", None, None]:
    if request.scheduler is not None:
        from caffe_merge.batching.cluster import Cluster  # which needs dask

        flags = [(job.name, job.flags) for job in waiting]
        with Cluster(request.scheduler, request.setup, workers) as cluster:
            outcomes = cluster.outcomes(flags, journal.path, request.timeout, request.started)
            with contextlib.closing(outcomes):
                yield from outcomes
        return
    tasks = [(job.name, (job.flags,)) for job in waiting]
    with Pool(workers, request.setup) as pool:
        for name, outcome in pool.map(run, tasks, request.timeout, request.started):
            if isinstance(outcome, DiedError):
                outcome = outcome.outcome
            yield name, outcome


def _result(job: Job, outcome: Outcome) -> Result:
    return Result(job.name, *job.inputs, *job.outputs, outcome)


def _clean(left: Sequence[Job]) -> None:
    """Remove what jobs left half-written, and folders that were made for nothing."""
    for path in [path for job in left for path in job.outputs]:
        with contextlib.suppress(CaffeMergeError):
            put_right(path)
        with contextlib.suppress(OSError):
            os.removedirs(os.path.dirname(path))

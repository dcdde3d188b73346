"""The journal in OUT: a line of JSON for each pair that ended, by which a later run goes on.

Before these a run writes a line of the outputs that it is going to make, so that what is in place
when it is killed is known to be a batch's, and what is the user's own is not replaced.

A line is appended in one write, so it is there whole or, where the machine stopped meanwhile, torn
at the end of the file: such a rest is cut off by the next run. The journal is locked as long as its
run lives.
"""

import contextlib
import errno
import json
import os
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Set

from caffe_merge import __version__
from caffe_merge.batching.jobs import Job
from caffe_merge.batching.outcome import FIGURES, MERGED, UNCHANGED, Outcome, Result
from caffe_merge.batching.running import sha256
from caffe_merge.batching.sources import JOURNAL
from caffe_merge.errors import CaffeMergeError, FileError
from caffe_merge.files.inputs import opened
from caffe_merge.merging import request

try:
    import fcntl
except ImportError:  # not on Windows: two runs on one OUT are not told apart there
    fcntl = None  # type: ignore[assignment]

# Flags that say where files are, or what is printed: the outputs do not depend on them.
_NOT_OPTIONS = {"model", "weights", "output_model", "output_weights", "force", "report", "name_of",
                "quiet", "verbose"}  # fmt: skip


class Journal:
    """The journal of the folder ``output``, held until ``close``; use it in a ``with``.

    Raises FileError where another run holds it.
    """

    def __init__(self, output: str) -> None:
        self.path = os.path.join(output, JOURNAL)
        self._output = output
        self._file = -1
        with _naming(self.path):
            os.makedirs(output, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._file = os.open(self.path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
            self._lock()
            past = _read(self.path)
            if past.whole < os.path.getsize(self.path):
                os.ftruncate(self._file, past.whole)
        self._entries, self._named = past.entries, past.outputs

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise FileError(f"{self._output}: another batch is writing into this folder") from None
        except OSError:  # a file system without locks
            pass

    def begin(self, jobs: Sequence[Job]) -> None:
        """Append a line of the outputs of ``jobs``, of those that no earlier line names."""
        outputs = [self._below(path) for job in jobs for path in job.outputs]
        begun = [path for path in outputs if path not in self._named]
        if begun:
            self._append({"version": __version__, "begun": begun})

    def add(self, result: Result, job: Job) -> None:
        """Append the line of a pair that ended."""
        entry = {**result.to_json(), "options": _options(job)}
        for name in ("output_model", "output_weights"):
            entry[name] = self._below(entry[name])
        self._append(entry)

    def _append(self, entry: Dict[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=True, default=_plain).encode() + b"\n"
        with _naming(self.path):
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self._output)

    def unchanged(self, job: Job) -> Optional[Outcome]:
        """The outcome of ``job`` in an earlier run, if all is still as that one left it.

        A pair that is to have a page and has none is not as it should be.
        """
        page = job.flags.get("report")
        if page is not None and not os.path.isfile(page):
            return None
        entry = self._entries.get(self._below(job.outputs[1]))
        if entry is None or entry.get("status") != MERGED or entry.get("version") != __version__:
            return None
        if entry.get("options") != json.loads(json.dumps(_options(job), default=_plain)):
            return None
        inputs = [*job.inputs, *request.read_files(job.flags)]
        if not _same(entry.get("outputs"), job.outputs) or not _same(entry.get("inputs"), inputs):
            return None
        return Outcome(
            UNCHANGED,
            validation=entry.get("validation"),
            figures={name: entry[name] for name in FIGURES if name in entry},
            inputs=dict(entry["inputs"]),
            outputs=dict(entry["outputs"]),
            target=entry.get("target"),
        )


class _Past(NamedTuple):
    """What earlier runs wrote.

    ``entries`` has the last one of each pair, by the path of its weights in OUT, ``outputs`` the
    paths of all that they made or were going to make, ``whole`` the bytes of the whole lines.
    """

    entries: Dict[str, Dict[str, Any]]
    outputs: Set[str]
    whole: int


def _read(path: str) -> _Past:
    with opened(path) as handle:
        data = handle.read()
    past = _Past({}, set(), data.rfind(b"\n") + 1)
    for line in data[: past.whole].splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if not isinstance(entry, dict):
                continue
            begun = entry.get("begun")
            named = [entry.get("output_model"), entry.get("output_weights")]
            named += begun if isinstance(begun, list) else []
            past.outputs.update(path for path in named if isinstance(path, str))
            if isinstance(entry.get("output_weights"), str):
                past.entries[entry["output_weights"]] = entry
    return past


def outputs_of_earlier_runs(output: str) -> Set[str]:
    """The paths of all that the journal of the folder ``output`` names; none without a journal."""
    path = os.path.join(output, JOURNAL)
    if not os.path.lexists(path):
        return set()
    return {os.path.join(output, name) for name in _read(path).outputs}


def _same(hashes: Any, paths: Sequence[str]) -> bool:
    """Whether the files at ``paths`` have these hashes, in this order."""
    if not isinstance(hashes, dict) or len(hashes) != len(paths):
        return False
    try:
        return all(sha256(path) == expected for path, expected in zip(paths, hashes.values()))
    except CaffeMergeError:
        return False


def _options(job: Job) -> Dict[str, Any]:
    return {name: value for name, value in job.flags.items() if name not in _NOT_OPTIONS}


def _plain(value: Any) -> Any:
    """An array of the library's caller as lists."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None

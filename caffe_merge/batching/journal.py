"""The journal in OUT: a line of JSON for each pair that ended, by which a later run goes on.

A line is appended in one write, so it is there whole or, where the machine stopped meanwhile, torn
at the end of the file: such a rest is cut off by the next run. The journal is locked as long as its
run lives.
"""

import contextlib
import errno
import json
import os
from typing import Any, Dict, Iterator, Optional, Sequence

from caffe_merge import __version__
from caffe_merge.batching.jobs import Job
from caffe_merge.batching.outcome import FIGURES, MERGED, UNCHANGED, Outcome, Result
from caffe_merge.batching.running import sha256
from caffe_merge.batching.sources import JOURNAL
from caffe_merge.errors import CaffeMergeError, FileError
from caffe_merge.merging import request

try:
    import fcntl
except ImportError:  # not on Windows: two runs on one OUT are not told apart there
    fcntl = None  # type: ignore[assignment]

# Flags that say where files are, or what is printed: the outputs do not depend on them.
_NOT_OPTIONS = {"model", "weights", "output_model", "output_weights", "force", "report", "quiet",
                "verbose"}  # fmt: skip


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
        self._entries = self._read()

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

    def _read(self) -> Dict[str, Dict[str, Any]]:
        """The last entry of each pair, by the path of its weights in OUT."""
        with open(self.path, "rb") as handle:
            data = handle.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        entries: Dict[str, Dict[str, Any]] = {}
        for line in data[:whole].splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("output_weights"), str):
                    entries[entry["output_weights"]] = entry
        return entries

    def add(self, result: Result, job: Job) -> None:
        """Append the line of a pair that ended."""
        entry = {**result.to_json(), "options": _options(job)}
        for name in ("output_model", "output_weights"):
            entry[name] = self._below(entry[name])
        line = json.dumps(entry, ensure_ascii=True, default=_plain).encode() + b"\n"
        with _naming(self.path):
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self._output)

    def unchanged(self, job: Job) -> Optional[Outcome]:
        """The outcome of ``job`` in an earlier run, if all is still as that one left it."""
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
        )


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

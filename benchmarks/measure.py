"""Runs a command and measures it from outside: wall and processor time, peak memory."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Mapping, NamedTuple, Sequence

from benchmarks.building import Pair

NOTHING_MORE: Mapping[str, str] = {}


class Run(NamedTuple):
    """One run: seconds of wall time and of all processors' time, megabytes of memory.

    Of several runs that are medians, and ``least`` the seconds of the fastest one. Mapped file
    pages count as resident, not as anonymous: the kernel drops them when it likes.
    """

    seconds: float
    least: float
    processor: float
    anonymous: float
    resident: float


def run(
    command: Sequence[str],
    watched: bool = True,
    outputs: Sequence[Path] = (),
    environment: Mapping[str, str] = NOTHING_MORE,
) -> Run:
    """Run ``command`` to its end; raises where it fails.

    Its memory is looked at every 2 ms if it is ``watched``, which costs it some of its time. What
    an earlier run left as its ``outputs`` is removed first: nobody else's time, and not its own.
    It has the variables of this process and those of ``environment``.
    """
    for path in outputs:
        path.unlink(missing_ok=True)
    os.sync()  # what the run before left to be written must not be this one's to wait for
    # Caffe logs more than a pipe holds, so what it says goes to a file.
    with tempfile.TemporaryFile() as log:
        before, start = _processor(), time.perf_counter()
        env = {**os.environ, **environment}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # who uses a program has its modules compiled
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=env)
        anonymous = resident = 0
        while watched and process.poll() is None:
            status = _status(process.pid)
            anonymous = max(anonymous, status.get("RssAnon", 0))
            resident = max(resident, status.get("VmHWM", 0))
            time.sleep(0.002)
        process.wait()
        seconds = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{command} failed: {log.read().decode(errors='replace')[-2000:]}")
    return Run(seconds, seconds, _processor() - before, anonymous / 1024, resident / 1024)


def _processor() -> float:
    """The processor time of all commands that have ended, in the kernel too."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _status(pid: int) -> "dict[str, int]":
    try:
        with open(f"/proc/{pid}/status") as handle:
            lines = handle.read().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines)
    return {key: int(value.split()[0]) for key, value in pairs if value.strip().endswith("kB")}


def alternate(
    commands: Sequence[Sequence[str]], times: int, outputs: Sequence[Path] = ()
) -> List[Run]:
    """The median times of each command, A B A B ..., and the memory of a run before these."""
    watched = [run(command, outputs=outputs) for command in commands]
    runs: List[List[Run]] = [[] for _ in commands]
    for _ in range(times):
        for command, results in zip(commands, runs):
            results.append(run(command, watched=False, outputs=outputs))
    return [
        memory._replace(
            seconds=statistics.median(result.seconds for result in results),
            least=min(result.seconds for result in results),
            processor=statistics.median(result.processor for result in results),
        )
        for memory, results in zip(watched, runs)
    ]


def merged(folder: Path) -> Pair:
    """What ``merge_command`` writes."""
    return folder / "merged.prototxt", folder / "merged.caffemodel"


def merge_command(pair: Pair, folder: Path) -> List[str]:
    """Merge ``pair`` without validation into ``folder``, by the command beside this interpreter."""
    model, weights = merged(folder)
    return [
        str(Path(sys.executable).with_name("merge_bn.py")), "--validate", "none", "--force", "-q",
        "--model", str(pair[0]), "--weights", str(pair[1]),
        "--output-model", str(model), "--output-weights", str(weights),
    ]  # fmt: skip

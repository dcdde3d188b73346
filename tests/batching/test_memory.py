"""What a pair is expected to need, held against what it needs, and how many fit side by side."""

import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

import pytest

from caffe_merge.batching import memory
from caffe_merge.batching.content import Contents, NotANet
from caffe_merge.batching.memory import MB
from caffe_merge.batching.pool import Worker
from caffe_merge.batching.running import run
from caffe_merge.command import process
from tests.batching.trees import request
from tests.nets import prototxt, write_pair

LARGE_LAYER = prototxt(
    "data 1 64 8 8",
    "bn0: BatchNorm data -> bn0",
    "fc: InnerProduct bn0 -> fc { inner_product_param { num_output: 1000 } }",
    "bn: BatchNorm fc -> bn",
)
SMALL = prototxt(
    "data 1 3 6 5",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
)
LARGE_BLOBS = prototxt(
    "data 1 3 320 300",
    "conv: Convolution data -> conv { convolution_param { num_output: 16 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
    "conv2: Convolution bn -> conv2 { convolution_param { num_output: 12 kernel_size: 3 } }",
    "bn2: BatchNorm conv2 -> bn2",
)


def anonymous(group: int) -> int:
    """The bytes that the processes of a group have for themselves."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
            if int(stat[2]) == group:
                status = Path(f"/proc/{name}/status").read_text().splitlines()
                total += sum(int(v.split()[1]) << 10 for v in status if v.startswith("RssAnon"))
        except (OSError, IndexError):  # it ended
            continue
    return total


def peak_of(worker: Worker, work: Callable[[], object]) -> int:
    """The most that ``worker`` and what it starts have for themselves during ``work``."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous(worker._process.pid))
            time.sleep(0.003)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return peak


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
@pytest.mark.parametrize("engine", ["none", "reference"])
@pytest.mark.parametrize("text", [LARGE_LAYER, LARGE_BLOBS], ids=["layer", "blobs"])
def test_real_peaks(tmp_path: Path, text: str, engine: str) -> None:
    """Never more than is expected, and never less than a third of it."""
    pair = dict(zip(("model", "weights"), map(str, write_pair(tmp_path, text))))
    flags = dict(request("x", "--output-dir", "y", "--validate", engine).flags)
    flags.update(pair, force=True, report=None)
    flags.update({f"output_{name}": path + ".out" for name, path in pair.items()})
    worker = Worker(process.set_up)
    peak = peak_of(worker, lambda: worker.ask(run, (flags,)))
    worker.close()
    expected = memory.estimate(Contents(flags).text(pair["model"]), pair["weights"], engine)
    assert peak <= expected <= 3 * peak, (peak / MB, expected / MB)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
def test_a_worker_does_not_grow(tmp_path: Path) -> None:
    pair = dict(zip(("model", "weights"), map(str, write_pair(tmp_path, SMALL))))
    flags = dict(request("x", "--output-dir", "y", "--validate", "none").flags)
    flags.update(pair, force=True, report=None)
    flags.update({f"output_{name}": path + ".out" for name, path in pair.items()})
    worker = Worker(process.set_up)
    sizes = []
    for _ in range(3):
        for _ in range(20):
            assert worker.ask(run, (flags,)).ok
        sizes.append(anonymous(worker._process.pid))
    worker.close()
    assert sizes[-1] < sizes[0] + 2 * MB, [size / MB for size in sizes]


def test_of_a_text_that_says_little_the_size_of_the_weights_counts(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_bytes(bytes(40 * MB))
    small = memory.estimate(NotANet("none"), str(tmp_path / "missing"), "none")
    assert memory.estimate(NotANet("none"), str(file), "none") == small + 40 * MB


@pytest.mark.parametrize(
    ("needs", "free", "jobs"),
    [
        ([100, 100, 100], None, 4),
        ([100, 100, 100], 10_000, 4),
        ([100, 300, 100, 200], 600, 2),
        ([100, 300, 100, 200], 300, 1),
        ([100, 300], 10, 1),
        ([100, 300], 480, 4),
        ([], 10, 4),
    ],
)
def test_the_largest_fit_side_by_side(needs: "list[int]", free: Optional[int], jobs: int) -> None:
    assert memory.side_by_side(needs, 4, free) == jobs


def test_what_is_free_is_the_least_that_any_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def limits() -> Iterator[int]:
        yield from (700, 300)

    monkeypatch.setattr(memory, "_limits", limits)
    assert memory.free() == 300
    monkeypatch.setattr(memory, "_limits", lambda: iter(()))
    assert memory.free() is None

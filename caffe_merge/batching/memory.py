"""How much memory a pair needs, from its sizes and shapes, and how many pairs fit this machine.

A merge streams weights, and needs little more than a part of the largest layer. The reference
engine has two nets in float64: the largest layer's weights, and of the largest blob what goes into
a layer, what comes out and what is between. Other engines hold whole nets in float32. The numbers
are those of real peaks with a quarter on top; a test holds them against peaks.
"""

from __future__ import annotations

import contextlib
import os
from typing import Iterable, Iterator, Optional, Union

from caffe_merge.batching.content import NotANet
from caffe_merge.net.outline import Outline
from caffe_merge.validation.registry import DEFAULT, NONE

MB = 1 << 20
_MERGE = 32 * MB  # a worker by itself
_MERGE_WEIGHT = 4  # bytes for each value of the largest layer
_REFERENCE = 56 * MB  # the engine's processes by themselves
_REFERENCE_WEIGHT = 26
_REFERENCE_VALUE = 120  # bytes for each value of the largest blob
_OTHER = 200 * MB
_OTHER_WEIGHTS = 4  # times the size of the file
_OTHER_VALUE = 16  # bytes for each value of all blobs
_LEFT = 0.85  # of what is free: others need memory too


def estimate(content: Union[Outline, NotANet], weights: str, engine: str) -> int:
    """The bytes that merging a pair and judging it by ``engine`` takes at its peak."""
    try:
        size = os.path.getsize(weights)
    except OSError:  # its merge will say so
        size = 0
    if isinstance(content, NotANet):
        largest_layer, largest_top, all_tops = size // 4, 0, 0
    else:
        largest_layer, largest_top, all_tops = content[-3:]
        if content.key is None:  # not all shapes are known
            largest_layer = max(largest_layer, size // 4)
    merge = _MERGE + _MERGE_WEIGHT * largest_layer
    if engine == NONE:
        return merge
    if engine == DEFAULT:
        judging = _REFERENCE_WEIGHT * largest_layer + _REFERENCE_VALUE * largest_top
        return merge + _REFERENCE + judging
    return merge + _OTHER + _OTHER_WEIGHTS * size + _OTHER_VALUE * all_tops


def side_by_side(needs: Iterable[int], cores: int, free: Optional[int]) -> int:
    """How many pairs to merge at a time: one for each core, if the largest fit into ``free``."""
    largest = sorted(needs, reverse=True)[:cores]
    if free is None:
        return cores
    total = 0
    for number, need in enumerate(largest):
        total += need
        if total > _LEFT * free:
            return max(1, number)
    return cores


def cores() -> int:
    """The cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as handle:
        quota, period = map(int, handle.read().split())  # no quota is a word, not a number
        count = min(count or 1, -(-quota // period))
    return count or 1


def free() -> Optional[int]:
    """The bytes that this process and its children may still use; None if nobody tells."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo") as handle:
        for line in handle:
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10
    for folder, most, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no limit is a word, not a number
            yield max(0, _number(folder, most) - _number(folder, used))


def _number(folder: str, name: str) -> int:
    with open(os.path.join(folder, name)) as handle:
        return int(handle.read())

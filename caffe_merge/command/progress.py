"""Progress of long work, on a terminal alone."""

from __future__ import annotations

import sys
from typing import Any, Callable, List, Optional


def bar(title: str, unit: str, quiet: bool) -> Optional[Callable[[int, int, str], None]]:
    """A progress bar on stderr; None where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # a thread, beside which no worker can be a copy of this process
    bars: List[Any] = []

    def progress(done: int, total: int, name: str) -> None:
        if not bars:
            bars.append(tqdm(total=total, desc=title, unit=unit, leave=False, delay=1.0))
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars[0].close()

    return progress

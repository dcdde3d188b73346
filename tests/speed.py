"""How long a bounded test may take: virtual machines are at times many times slower than usual."""

import time

_ADDITIONS = 200_000
_USUAL = 0.008  # seconds that they take


def at_most(seconds: float) -> float:
    """What takes ``seconds`` on a usual machine, on this one as fast as it is now."""
    start = time.process_time()
    total = 0
    for number in range(_ADDITIONS):
        total += number
    return seconds * max(1.0, (time.process_time() - start) / _USUAL)

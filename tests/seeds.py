"""Where random tests take their examples from: fixed seeds, or a fresh one under `make fuzz`.

Every hypothesis test of the suite is decorated with `examples`. Without FUZZ_SEED in the
environment it sees the same examples on every run, so that a failure in CI is the failure of a
change. With FUZZ_SEED (see tools/fuzz.py) it sees `ROUND` examples that depend on that number
alone: the same number and the same version of hypothesis give the same examples again.
"""

import os
from typing import Callable, Optional, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings

Test = TypeVar("Test", bound=Callable[..., None])

SEED: Optional[int] = int(os.environ["FUZZ_SEED"]) if os.environ.get("FUZZ_SEED") else None
ROUND = 25  # examples of a test under one seed: few, as the next round has another


def examples(count: int) -> Callable[[Test], Test]:
    """Decorate a hypothesis test that is to see ``count`` examples in the ordinary suite."""
    chosen = settings(
        max_examples=count if SEED is None else min(count, ROUND),
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Test) -> Test:
        decorated: Test = chosen(test)
        return decorated if SEED is None else seed(SEED)(decorated)

    return decorate


def replay(test: str) -> str:
    """The command that runs ``test`` (pytest's name for it) on the examples of this run."""
    return f"make fuzz SEED={SEED} TESTS='{test}'"

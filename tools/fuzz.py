"""Runs the random tests on fresh seeds until the time is up; `make fuzz` calls it.

    make fuzz                     a new seed, printed; then the next ones, for FUZZ_SECONDS (300)
    make fuzz SEED=n              the one round of seed n, however long it takes
    make fuzz SEED=n TESTS=...    only these tests, as a failure prints it

A round is every hypothesis test of TESTS on a few examples. The first round that fails ends the
run with status 1; the tests' own output says which command replays it.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from typing import List

RANDOM_TESTS = ["-m", "hypothesis", "-p", "no:cacheprovider"]
NO_TESTS = 5  # pytest's exit status


def main() -> int:
    """Run; 0 if every round passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, help="replay this one round")
    parser.add_argument("--seconds", type=float, default=300, help="start no test after these")
    parser.add_argument("tests", nargs="*", default=["tests"], help="what pytest is to run")
    args = parser.parse_args()
    if args.seed is not None:
        return run_round(args.seed, args.tests, None)
    until = time.time() + args.seconds
    seed = random.SystemRandom().randrange(10**9)
    rounds = 0
    while time.time() < until:
        status = run_round(seed + rounds, args.tests, until)
        if status:
            return status
        rounds += 1
    print(f"fuzz: {rounds} rounds passed, seeds {seed} to {seed + rounds - 1}")
    return 0


def run_round(seed: int, tests: List[str], until: "float | None") -> int:
    """Every random test of ``tests`` on the examples of ``seed``; pytest's exit status."""
    print(f"fuzz: seed {seed}", flush=True)
    environment = {**os.environ, "FUZZ_SEED": str(seed)}
    if until is not None:
        environment["FUZZ_UNTIL"] = str(until)
    command = [sys.executable, "-m", "pytest", "-x", *RANDOM_TESTS, *tests]
    status = subprocess.run(command, env=environment).returncode
    if status == NO_TESTS:
        print(f"fuzz: no random test in {' '.join(tests)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

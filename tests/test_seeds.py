"""Random tests see the same examples on every run, fresh ones in `make fuzz`, and those again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
TEST = """
from hypothesis import given, strategies as st
from tests.seeds import examples

SEEN = []

@examples(40)
@given(st.integers(0, 10**9))
def test_it(number):
    SEEN.append(number)
    assert {condition}, SEEN

def teardown_module():
    print("SEEN", SEEN)
"""


def run(folder: Path, seed: Optional[int], condition: str = "True") -> Tuple[str, str]:
    """What pytest says of a random test, and the examples that it saw."""
    path = folder / "test_it.py"
    path.write_text(TEST.format(condition=condition))
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.conftest", "-m", "hypothesis", str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FUZZ_SEED": "" if seed is None else str(seed)},
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = [line for line in done.stdout.splitlines() if "SEEN [" in line]
    return done.stdout, seen[0].split("SEEN")[1]


def test_the_examples_are_those_of_the_seed(tmp_path: Path) -> None:
    fixed, fresh, again, other = (run(tmp_path, seed)[1] for seed in (None, 7, 7, 8))
    assert fixed == run(tmp_path, None)[1]
    assert fresh == again
    assert len({fixed, fresh, other}) == 3


def test_a_failure_says_how_to_have_it_again(tmp_path: Path) -> None:
    message, _ = run(tmp_path, 7, "number < 10")
    assert "seed 7; again: make fuzz SEED=7 TESTS='test_it.py::test_it'" in message
    assert "make fuzz" not in run(tmp_path, None, "number < 10")[0]


def test_every_random_test_takes_its_examples_from_here() -> None:
    texts = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    ours = ("seeds.py", "test_seeds.py")
    others = {path: text for path, text in texts.items() if path.name not in ours}
    assert [path for path, text in others.items() if "derandomize" in text] == []
    random = {path: text for path, text in others.items() if "@given(" in text}
    assert [path for path, text in random.items() if "@examples(" not in text] == []

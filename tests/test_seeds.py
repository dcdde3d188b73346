"""Random tests see the same examples on every run, fresh ones in `make fuzz`, and those again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parent.parent
TEST = """
from hypothesis import given, strategies as st
from tests.seeds import examples

SEEN = []

@examples(40)
@given(st.integers(0, 10**9))
def test_it(number):
    SEEN.append(number)
    assert {condition}
"""


def run(folder: Path, seed: Optional[int], condition: str, *how: str) -> str:
    """What a new process with a random test in it prints; ``how`` it runs that."""
    path = folder / "test_it.py"
    path.write_text(TEST.format(condition=condition))
    return subprocess.run(
        [sys.executable, *how],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FUZZ_SEED": "" if seed is None else str(seed)},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def seen(folder: Path, seed: Optional[int]) -> str:
    """The examples that a random test sees."""
    numbers = run(folder, seed, "True", "-c", "import test_it as t; t.test_it(); print(t.SEEN)")
    assert numbers.count(",") > 10
    return numbers


def test_the_examples_are_those_of_the_seed(tmp_path: Path) -> None:
    fixed, fresh, again, other = (seen(tmp_path, seed) for seed in (None, 7, 7, 8))
    assert fixed == seen(tmp_path, None)
    assert fresh == again
    assert len({fixed, fresh, other}) == 3


def test_a_failure_says_how_to_have_it_again(tmp_path: Path) -> None:
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "test_it.py")
    message = run(tmp_path, 7, "number < 10", *pytest)
    assert "seed 7; again: make fuzz SEED=7 TESTS='test_it.py::test_it'" in message
    assert "make fuzz" not in run(tmp_path, None, "number < 10", *pytest)


def test_every_random_test_takes_its_examples_from_here() -> None:
    texts = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    ours = ("seeds.py", "test_seeds.py")
    others = {path: text for path, text in texts.items() if path.name not in ours}
    assert [path for path, text in others.items() if "derandomize" in text] == []
    random = {path: text for path, text in others.items() if "@given(" in text}
    assert [path for path, text in random.items() if "@examples(" not in text] == []

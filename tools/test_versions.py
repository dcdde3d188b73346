"""Installs the package as users do and runs the tests on old and new interpreters.

Usage: python tools/test_versions.py FOLDER WHEEL [NAME ...]

Each row of ROWS gets a virtual environment in FOLDER, the wheel with the pinned dependencies, and
tests, copied out of the checkout so that what they import is the installed package. An
interpreter that is not found is said and passed over, unless CAFFE_MERGE_REQUIRE_CAFFE is set.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

from caffe_env import PACKAGES, find

AT_ONCE = 2  # rows
ROOT = Path(__file__).resolve().parent.parent
COPIED = ("tests", "proto", "docs", "examples", "benchmarks", "README.md", "pyproject.toml")

# What reads the checkout itself, which is not there.
OF_CHECKOUT = ("test_architecture.py", "test_caffe_env.py", "test_docker.py")

# What takes long and depends on no version: `make test` runs it.
LONG = (
    "batching/test_memory.py", "corpus", "files/test_recovery.py", "formats/text/test_linear.py",
    "formats/text/upgrade/test_any_style.py", "fuzz", "merging/test_interrupted.py",
    "test_benchmarks.py", *(path.name for path in (ROOT / "tests").glob("test_random_*.py")),
)  # fmt: skip

# Is it all there? The modules, the public names, and whole trained models through the commands.
INSTALLED = ("test_imports.py", "test_api.py", "test_real_models.py")
FORMATS = ("formats/schema", "formats/weights")  # what protobuf and numpy read and write
# What else meets Python's and numpy's own ways. The tests of the passes, a quarter of all, are not
# among them: passes are made of these, and what they add depends on no version.
ARITHMETIC = ("algebra", "layers", "merging", "net", "reference", "validation")


RUNNER = ("pytest", "pytest-xdist", "hypothesis")
TOOLS = (
    *RUNNER, "grpcio-tools", "opencv-python-headless>=4.5,<5", "Pillow>=9.1", "Jinja2>=3.0"
)  # fmt: skip


class Row(NamedTuple):
    """Python versions, the first that is found; what is installed beside the package; the tests."""

    versions: Tuple[str, ...]
    pins: Tuple[str, ...]
    tests: Tuple[str, ...]
    tools: Tuple[str, ...] = TOOLS


ROWS: Dict[str, Row] = {
    "oldest": Row(
        ("3.8",),
        ("numpy==1.20.*", "protobuf==3.20.0", "Pillow==9.1.*"),
        (*INSTALLED, *FORMATS, *ARITHMETIC, "command"),
    ),
    # One process has caffe_merge and pycaffe: what runs Caffe or meets its protobuf.
    "beside-caffe": Row(
        ("3.9", "3.8"),
        PACKAGES,
        (*FORMATS, "test_beside_pycaffe.py", "validation/test_caffe_worker.py"),
    ),
    # All tests run with the newest numpy and protobuf, under another Python, by `make test`.
    "newest": Row(
        ("3.13", "3.12", "3.11"),
        ("numpy", "protobuf"),
        (*INSTALLED, *FORMATS, "command"),
    ),
    **{
        version: Row((version,), (), INSTALLED, RUNNER)
        for version in ("3.9", "3.10", "3.11", "3.12")
    },
}


def main() -> int:
    """Every row, or the named ones; 0 if all that could run passed."""
    folder, wheel = (Path(argument).resolve() for argument in sys.argv[1:3])
    names = sys.argv[3:] or list(ROWS)
    failed = []
    # One row is installed, on one core, while another one is tested.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, result in zip(names, pool.map(lambda name: run(folder, name, wheel), names)):
            print(f"{name}:\n{result.output}", flush=True)
            failed += [] if result.passed else [name]
    print(f"failed: {', '.join(failed)}" if failed else "all versions passed")
    return 1 if failed else 0


class Result(NamedTuple):
    """Whether a row passed, or needs not; what its commands printed."""

    passed: bool
    output: str


def run(folder: Path, name: str, wheel: Path) -> Result:
    """Install and test the row ``name`` in a folder of its own, up to the first failure.

    The folder is kept where something failed. All seven together would take some gigabytes.
    """
    row = ROWS[name]
    base = find(row.versions)
    if base is None:
        is_needed = bool(os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE"))
        return Result(not is_needed, f"no Python {' or '.join(row.versions)} found")
    work = folder / name / "work"
    shutil.rmtree(str(folder / name), ignore_errors=True)
    copy_tests(work)
    output = ""
    for command in commands(folder / name, base, wheel, row):
        done = subprocess.run(
            command,
            cwd=str(work),
            env=environment(row),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output += done.stdout
        if done.returncode:
            return Result(False, output)
    shutil.rmtree(str(folder / name))
    return Result(True, output)


def commands(folder: Path, base: str, wheel: Path, row: Row) -> Iterator[List[str]]:
    """What sets up ``folder`` as an environment and tests the wheel in it."""
    python = str(folder / "bin" / "python")
    yield [base, "-m", "venv", str(folder)]
    # Most of what is installed is never imported, and what is is compiled then.
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    yield [*install, "--disable-pip-version-check", str(wheel), *row.pins, *row.tools]
    versions = "import sys, numpy, google.protobuf as p; print(sys.version.split()[0], 'numpy',"
    yield [python, "-c", versions + " numpy.__version__, 'protobuf', p.__version__)"]
    tests = [python, "-m", "pytest", "--numprocesses", "auto", "--maxprocesses", "4"]
    tests += ["--dist", "worksteal"]
    tests += [f"tests/{name}" for name in row.tests]
    yield tests + [f"--ignore=tests/{name}" for name in (*OF_CHECKOUT, *LONG)]


def copy_tests(work: Path) -> None:
    """Copy what the tests need to ``work``, a new folder without the package."""
    work.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(str(ROOT / name), str(work / name))


def environment(row: Row) -> Dict[str, str]:
    """The variables of a row's commands: none leads to the checkout or to another Caffe."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # as `make test` does
    variables["FUZZ_SEED"] = "1"  # few random examples: see tests/seeds.py
    variables["CAFFE_MERGE_CAFFE_PYTHON"] = ""  # only an interpreter that has Caffe itself
    if row.pins is not PACKAGES:
        variables.pop("CAFFE_MERGE_REQUIRE_CAFFE", None)
    return variables


if __name__ == "__main__":
    sys.exit(main())

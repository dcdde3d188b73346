"""Makes a virtual environment with real Caffe in it, for the tests; prints its interpreter.

Usage: python tools/caffe_env.py FOLDER

Real Caffe is PyPI's kendryte-caffe, which has wheels for CPython 3.6 to 3.9. Such an interpreter
is looked for on PATH and under pyenv. Where there is none, or the wheel cannot be had, a plain
sentence goes to stderr and nothing to stdout; the exit status is 0, or 1 where the environment
variable CAFFE_MERGE_REQUIRE_CAFFE is set.
"""

import glob
import os
import subprocess
import sys
from typing import Iterator, NoReturn, Optional, Sequence

VERSIONS = ("3.9", "3.8", "3.7", "3.6")
PACKAGES = ("kendryte-caffe", "numpy<1.24", "protobuf<3.21")


def candidates(version: str) -> Iterator[str]:
    """Commands that may be a Python of ``version``, such as "3.9"."""
    for root in (os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")):
        if root:
            yield from sorted(glob.glob(os.path.join(root, "versions", f"{version}.*/bin/python")))
    yield f"python{version}"


def find(versions: Sequence[str]) -> Optional[str]:
    """A command that is a Python of one of ``versions``, the first if it can be had."""
    for version in versions:
        for command in candidates(version):
            if works(command, version):
                return command
    return None


def works(command: str, version: str) -> bool:
    """Whether ``command`` starts, is Python ``version``, and can make environments."""
    check = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([command, "-c", check], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def has_caffe(python: str) -> bool:
    """Whether ``import caffe`` works there."""
    command = [python, "-c", "import caffe"]
    return os.path.exists(python) and subprocess.run(command, capture_output=True).returncode == 0


def make(folder: str, base: str) -> Optional[str]:
    """Make the environment with the interpreter ``base``; None, and why on stderr, if it fails."""
    python = os.path.join(folder, "bin", "python")
    for command in (
        [base, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"],
        [python, "-m", "pip", "install", "--quiet", *PACKAGES],
    ):
        done = subprocess.run(command, stdout=sys.stderr)
        if done.returncode:
            return None
    return python if has_caffe(python) else None


def give_up(message: str) -> NoReturn:
    """Say why there is no real Caffe; whether that is a failure is for the environment to say."""
    sys.stderr.write(f"No real Caffe: {message}. Tests that need it are skipped.\n")
    sys.exit(1 if os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") else 0)


def main() -> None:
    """Make the environment unless it is there."""
    folder = os.path.abspath(sys.argv[1])
    python = os.path.join(folder, "bin", "python")
    if not has_caffe(python):
        base = find(VERSIONS)
        if base is None:
            give_up("no Python 3.6 to 3.9 was found on PATH or under pyenv")
        if make(folder, base) is None:
            give_up(f"kendryte-caffe could not be installed with {base}")
    print(python)


if __name__ == "__main__":
    main()

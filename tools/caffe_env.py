"""Makes a virtual environment with real Caffe in it, for the tests; prints its interpreter.

Usage: python tools/caffe_env.py [--forks] FOLDER

Real Caffe is BVLC's, from PyPI's kendryte-caffe, or with --forks one that has the layers of many
forks too, from PyPI's tpu-mlir. An interpreter that their wheels run on is looked for on PATH and
under pyenv. Where there is none, or a wheel cannot be had, a plain sentence goes to stderr and
nothing to stdout; the exit status is 0, or 1 where the environment variable
CAFFE_MERGE_REQUIRE_CAFFE is set.

An interpreter that the user names, in CAFFE_MERGE_CAFFE_PYTHON or CAFFE_MERGE_FORKS_PYTHON, is
printed as it is and nothing is made; that it cannot import caffe is an error.
"""

import argparse
import glob
import os
import subprocess
import sys
import tempfile
import zipfile
from typing import Callable, Iterator, NamedTuple, NoReturn, Optional, Sequence, Tuple

VERSIONS = ("3.9", "3.8", "3.7", "3.6")
PACKAGES = ("kendryte-caffe", "numpy<1.24", "protobuf<3.21")

FORKS_VERSIONS = ("3.10",)
FORKS_PACKAGES = ("numpy<1.25", "protobuf<3.21", "scikit-image", "six", "pyyaml")
FORKS_WHEEL = "tpu-mlir==1.30.2"

# What pycaffe links of the wheel's many libraries, behind the "lib" of their names. The system's C
# library stays in its place: a process has one.
LINKED = (
    "boost_", "gcc_s", "gflags", "gfortran", "glog", "gomp", "icu", "lzma", "openblas", "protobuf",
    "python3.10", "quadmath", "stdc++", "unwind", "z.so",
)  # fmt: skip


class Kind(NamedTuple):
    """One Caffe: what to call it, where a user names one, and how to make one.

    ``add`` brings it into a folder whose interpreter is the second argument; whether it could.
    """

    title: str
    variable: str
    wheel: str
    versions: Sequence[str]
    packages: Sequence[str]
    add: Callable[[str, str], bool]


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
    try:
        return subprocess.run([python, "-c", "import caffe"], capture_output=True).returncode == 0
    except OSError:
        return False


def run(*command: str) -> bool:
    """Whether ``command`` ends well; what it prints goes to stderr."""
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def make(folder: str, base: str, kind: Kind) -> bool:
    """Make the environment with the interpreter ``base``; whether it has Caffe then."""
    python = os.path.join(folder, "bin", "python")
    return (
        run(base, "-m", "venv", "--clear", folder)
        and run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
        and run(python, "-m", "pip", "install", "--quiet", *kind.packages)
        and kind.add(folder, python)
        and has_caffe(python)
    )


def nothing_more(folder: str, python: str) -> bool:
    """For a Caffe that is a package like others."""
    return True


def unpack_forks(folder: str, python: str) -> bool:
    """Unpack pycaffe and its libraries alone, a tenth of the wheel, and tell Python where it is."""
    with tempfile.TemporaryDirectory() as downloads:
        fetch = ("pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")
        if not run(python, "-m", *fetch, "--dest", downloads, FORKS_WHEEL):
            return False
        with zipfile.ZipFile(*glob.glob(os.path.join(downloads, "*.whl"))) as wheel:
            for name in wheel.namelist():
                directory, _, file = name.rpartition("/")
                of_library = directory == "tpu_mlir/lib/third_party" and file[3:].startswith(LINKED)
                if of_library or name.startswith("tpu_mlir/python/caffe/"):
                    wheel.extract(name, folder)
    (packages,) = glob.glob(os.path.join(folder, "lib", "python3*", "site-packages"))
    with open(os.path.join(packages, "forks_caffe.pth"), "w") as path:
        path.write(os.path.join(folder, "tpu_mlir", "python") + "\n")
    return True


BVLC = Kind("real Caffe", "CAFFE_MERGE_CAFFE_PYTHON", PACKAGES[0], VERSIONS, PACKAGES, nothing_more)
FORKS = Kind(
    "Caffe with the layers of forks",
    "CAFFE_MERGE_FORKS_PYTHON",
    FORKS_WHEEL,
    FORKS_VERSIONS,
    FORKS_PACKAGES,
    unpack_forks,
)


def named(kind: Kind) -> str:
    """The interpreter that the user names; "" where none is named."""
    python = os.environ.get(kind.variable, "")
    if python and not has_caffe(python):
        sys.stderr.write(f"{kind.variable}={python}: this interpreter cannot import caffe\n")
        sys.exit(1)
    return python


def give_up(kind: Kind, reason: str) -> NoReturn:
    """Say why there is no such Caffe; whether that is a failure is for the environment to say."""
    sys.stderr.write(f"No {kind.title}: {reason}. Tests that need it are skipped.\n")
    sys.exit(1 if os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") else 0)


def arguments() -> Tuple[str, Kind]:
    """The folder, and which Caffe is to be in it."""
    parser = argparse.ArgumentParser(description="Make an environment with real Caffe in it.")
    parser.add_argument("--forks", action="store_true", help="one with the layers of forks")
    parser.add_argument("folder", metavar="FOLDER")
    options = parser.parse_args()
    return os.path.abspath(options.folder), FORKS if options.forks else BVLC


def main() -> None:
    """Make the environment unless it is there or the user names another."""
    folder, kind = arguments()
    python = named(kind) or os.path.join(folder, "bin", "python")
    if not has_caffe(python):
        base = find(kind.versions)
        if base is None:
            versions = " to ".join(dict.fromkeys((kind.versions[-1], kind.versions[0])))
            give_up(kind, f"no Python {versions} was found on PATH or under pyenv")
        if not make(folder, base, kind):
            give_up(kind, f"{kind.wheel} could not be installed with {base}")
    print(python)


if __name__ == "__main__":
    main()

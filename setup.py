"""Compiles proto/caffe.proto into the descriptor set that formats/schema/messages.py loads.

An sdist has the compiled set in it: who installs from one needs no protoc.
"""

import os
import subprocess
import sys
from shutil import which
from typing import List

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "proto", "caffe.proto")
DESCRIPTORS = os.path.join(HERE, "caffe_merge", "formats", "schema", "caffe.desc")


def is_current() -> bool:
    """Whether the descriptor set is there and no older than its source."""
    there = os.path.exists(DESCRIPTORS)
    return there and os.path.getmtime(DESCRIPTORS) >= os.path.getmtime(SOURCE)


def protoc() -> List[str]:
    """The command of a protocol buffer compiler: grpcio-tools' own, else the one on PATH."""
    try:
        import grpc_tools  # noqa: F401
    except ImportError:
        command = which("protoc")
        if command is None:
            raise SystemExit("setup.py needs grpcio-tools, or protoc on PATH") from None
        return [command]
    return [sys.executable, "-m", "grpc_tools.protoc"]


def compile_descriptors() -> None:
    """Make the descriptor set, unless it is current."""
    if is_current():
        return
    folder, name = os.path.split(SOURCE)
    command = [*protoc(), f"-I{folder}", f"--descriptor_set_out={DESCRIPTORS}", name]
    subprocess.run(command, check=True)


class BuildWithDescriptors(build_py):
    """build_py, which finds the descriptor set among the package's data."""

    def run(self) -> None:
        compile_descriptors()
        super().run()


class SdistWithDescriptors(sdist):
    """sdist, with the descriptor set in it."""

    def run(self) -> None:
        compile_descriptors()
        super().run()


# The license stands here because no form of it in pyproject.toml suits both the setuptools of
# Python 3.8 (a table, no SPDX string) and the newest (an SPDX string, no table). setup_requires is
# what pip asks for before it builds: nothing where no compiler is needed, as there are systems
# that grpcio-tools has no wheel for.
setup(
    license="BSD-2-Clause",
    setup_requires=[] if is_current() or which("protoc") else ["grpcio-tools"],
    cmdclass={"build_py": BuildWithDescriptors, "sdist": SdistWithDescriptors},
)

"""Compiles proto/*.proto into the descriptor set that caffe_merge.schema.messages loads."""

import os
import subprocess
import sys
from shutil import which
from typing import List

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
DESCRIPTORS = os.path.join("caffe_merge", "schema", "caffe.desc")


def protoc() -> List[str]:
    """The command of a protocol buffer compiler: grpcio-tools' own, else the one on PATH."""
    try:
        import grpc_tools  # noqa: F401
    except ImportError:
        found = which("protoc")
        if found is None:
            raise SystemExit("setup.py needs grpcio-tools, or protoc on PATH") from None
        return [found]
    return [sys.executable, "-m", "grpc_tools.protoc"]


class BuildWithDescriptors(build_py):
    """build_py, and then the descriptor set beside the modules."""

    def run(self) -> None:
        super().run()
        root = HERE if getattr(self, "editable_mode", False) else self.build_lib
        target = os.path.join(root, DESCRIPTORS)
        self.mkpath(os.path.dirname(target))
        proto = os.path.join(HERE, "proto")
        subprocess.run(
            [*protoc(), "-I" + proto, "--descriptor_set_out=" + target, "caffe.proto"],
            check=True,
        )


# The license stands here because no form of it in pyproject.toml suits both the setuptools of
# Python 3.8 (a table, no SPDX string) and the newest (an SPDX string, no table).
setup(license="BSD-2-Clause", cmdclass={"build_py": BuildWithDescriptors})

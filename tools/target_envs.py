"""Makes an environment for each reader of tools/target_reader.py; prints READER=PYTHON words.

Usage: python tools/target_envs.py FOLDER

OpenCV is in the environment of the tests. A reader whose Python or packages cannot be had is left
out, and it is said why on stderr. They are large: rknn brings torch, tpu-mlir is 400 MB.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))

from caffe_env import find


class Environment(NamedTuple):
    """What a reader runs in: the Pythons that it has wheels for, and two steps of packages.

    Those of ``alone`` are installed without what they ask for: it is not needed for Caffe.
    """

    versions: Sequence[str]
    packages: Sequence[str]
    alone: Sequence[str]


ENVIRONMENTS: Dict[str, Environment] = {
    "mnn": Environment(("3.11", "3.12", "3.10"), ("MNN==3.6.1", "numpy"), ()),
    "rknn": Environment(
        ("3.11", "3.10"),
        ("numpy==1.26.4", "protobuf==4.25.4", "onnx==1.16.1", "onnxruntime", "torch==2.4.0",
         "psutil", "ruamel.yaml", "scipy", "tqdm", "opencv-python-headless<4.11"),
        ("fast-histogram", "rknn-toolkit2==2.5.0"),
    ),
    "tpu-mlir": Environment(
        ("3.10",),
        ("numpy<1.25", "protobuf<3.21", "scikit-image", "six", "pyyaml", "filelock", "tqdm",
         "psutil", "pandas", "flatbuffers", "prettytable", "rich"),
        ("tpu-mlir==1.30.2",),
    ),
    "caffe2onnx": Environment(
        ("3.11", "3.10", "3.9"),
        ("numpy<2", "protobuf<3.21", "onnx==1.14.1", "flatbuffers", "packaging"),
        ("onnxruntime", "caffe2onnx==2.0.1"),
    ),
}  # fmt: skip


def main() -> int:
    """Make what is not there, and print the words."""
    folder = Path(sys.argv[1])
    words = [f"opencv={sys.executable}"]
    for reader, environment in ENVIRONMENTS.items():
        python = folder / reader / "bin" / "python"
        if python.exists() or _make(reader, environment, python):
            words.append(f"{reader}={os.path.abspath(python)}")
    print(" ".join(words))
    return 0


def _make(reader: str, environment: Environment, python: Path) -> bool:
    """Make the environment; whether it could be made."""
    base = find(environment.versions)
    if base is None:
        print(f"{reader}: no Python {' or '.join(environment.versions)} here", file=sys.stderr)
        return False
    install = [str(python), "-m", "pip", "install", "--quiet"]
    steps: List[List[str]] = [[base, "-m", "venv", str(python.parents[1])]]
    steps.append([*install, *environment.packages])
    if environment.alone:
        steps.append([*install, "--no-deps", *environment.alone])
    for step in steps:
        if subprocess.run(step, stdout=sys.stderr).returncode:
            print(f"{reader}: {' '.join(step[:6])} ... failed", file=sys.stderr)
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())

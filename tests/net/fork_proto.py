"""A fork's caffe.proto, made from ours, and a net that is written for it."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

from tests.nets import write_pair

CAFFE = Path(__file__).resolve().parents[2] / "proto" / "caffe.proto"

needs_protoc = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None and shutil.which("protoc") is None,
    reason="neither grpcio-tools nor protoc is installed",
)

NEW_FIELDS = """
message MyParameter {
  optional float alpha = 1;
  optional Mode mode = 2;
  repeated Point point = 3;
  enum Mode { SOFT = 0; HARD = 1; }
}
message Point { required sint32 x = 1; optional fixed64 y = 2; optional group More = 3 {
  optional string word = 4; } }
"""

TEXT = """layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer {
  name: "bn"
  type: "BatchNorm"
  bottom: "conv"
  top: "conv"
}
layer {
  name: "my"
  type: "My"
  bottom: "conv"
  top: "my"
  my_param { alpha: 0.5 mode: HARD point { x: -1 } }
}
"""


def fork(
    folder: Path, *changes: Tuple[str, str], fields: str = NEW_FIELDS, name: str = "fork.proto"
) -> str:
    """The path of ours with a ``my_param``, and with each pattern of ``changes`` replaced once."""
    field = "  optional MyParameter my_param = 142;\n"
    # 142 is scale_param in ours: no number of theirs matters to us.
    text = CAFFE.read_text().replace(" scale_param = 142;", " scale_param = 1420;")
    for pattern, new in ((r"(message LayerParameter \{\n)", r"\1" + field), *changes):
        text, number = re.subn(pattern, new, text, count=1, flags=re.DOTALL)
        assert number == 1, pattern
    path = folder / name
    path.write_text(text + fields)
    return str(path)


def pair(folder: Path, text: str = TEXT) -> Tuple[str, str]:
    """``text`` and weights for its conv and bn; a small variance makes eps matter."""
    random = np.random.default_rng(3)
    blobs = {
        "conv": [random.standard_normal((4, 3, 3, 3)), random.standard_normal(4)],
        "bn": [random.standard_normal(4), 0.1 + random.random(4), np.ones(1)],
    }
    prototxt, weights = write_pair(folder, text, blobs)
    return str(prototxt), str(weights)

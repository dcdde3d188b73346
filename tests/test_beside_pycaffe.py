"""caffe_merge and pycaffe in one process, in either order: two caffe.proto, and no crash."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.fork_proto import TEXT, fork, needs_protoc, pair

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("caffe") is None, reason="this interpreter has no pycaffe"
)


@pytest.mark.parametrize("order", [("caffe", "caffe_merge"), ("caffe_merge", "caffe")])
def test_both_are_imported_and_work(order: Any) -> None:
    code = f"""
import {order[0]}, {order[1]}
from caffe_merge.formats.schema.messages import NetParameter
from caffe.proto import caffe_pb2
ours, theirs = NetParameter(name="a"), caffe_pb2.NetParameter(name="a")
assert ours.SerializeToString() == theirs.SerializeToString()
assert caffe.layer_type_list and caffe_merge.load
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_protoc
@pytest.mark.parametrize("order", [("caffe", "caffe_merge"), ("caffe_merge", "caffe")])
def test_so_is_a_third(tmp_path: Path, order: Any) -> None:
    """The schema of --proto, whose package is caffe as well, and whose numbers clash."""
    files = pair(tmp_path, TEXT)
    code = f"""
import {order[0]}
import caffe_merge
net = caffe_merge.load({files[0]!r}, {files[1]!r}, proto={fork(tmp_path)!r})
import {order[1]}
from caffe.proto import caffe_pb2
assert caffe_pb2.LayerParameter(scale_param={{}}).ByteSize()
assert [layer.type for layer in net.layers][-1] == "My"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

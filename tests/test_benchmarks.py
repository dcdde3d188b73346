"""The nets of the benchmarks: merged, they are of the sizes that docs/benchmarks.md tells."""

from pathlib import Path

import pytest

import caffe_merge
from benchmarks.building import write_pair
from benchmarks.nets import FORWARD

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md").read_text()


@pytest.mark.parametrize("name", FORWARD)
def test_a_net_has_the_layers_of_the_table_and_no_batch_norm(tmp_path: Path, name: str) -> None:
    net = caffe_merge.load(*map(str, write_pair(tmp_path, name, FORWARD[name])))
    before = len(net.layers)
    caffe_merge.merge(net)
    row = next(line for line in DOCS.splitlines() if line.startswith(f"| {name} "))
    assert f"| {before} -> {len(net.layers)} " in row
    assert not [layer.name for layer in net.layers if layer.type == "BatchNorm"]

"""docs/formats.md says the limits that the readers have."""

from pathlib import Path

import pytest

from caffe_merge import fillers
from caffe_merge.text import syntax, view
from caffe_merge.weights import blobproto, index

LIMITS = {
    "size of a prototxt": f"{syntax.MAX_BYTES >> 20} MB",
    "fields, and values in lists": f"{syntax.MAX_FIELDS:,}",
    "blocks in blocks": f"{syntax.MAX_DEPTH}, protobuf's own limit",
    "dotted names of all fields that the schema does not know": (
        f"{view.MAX_UNKNOWN >> 20} MB in all"
    ),
    "values that fillers make, where the weights file has none for a layer": (
        f"{fillers.MAX_FILLED:,} in the whole net"
    ),
    "fields of a caffemodel and its layers": f"{index.MAX_FIELDS:,}",
    "fields of a blob": f"{blobproto.MAX_PARTS}: writers use one for all values",
    "axes of a blob": f"{blobproto.MAX_AXES}",
}


def test_every_limit_is_the_one_in_the_code() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text()
    for name, limit in LIMITS.items():
        assert f"| {name} | {limit} |\n" in text, name


def test_those_of_hdf5() -> None:
    pytest.importorskip("h5py")
    from caffe_merge.weights import hdf5_reader as reader

    text = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text()
    assert f"each in it | {reader.MAX_MADE:,} |\n" in text
    assert f"reads HDF5 | {reader.MAX_MEMORY >> 30} GB |\n" in text

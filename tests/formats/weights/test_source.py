"""A file read in place gives what the same bytes in memory give, or one line of error."""

import os
from pathlib import Path
from typing import List

import numpy as np
import pytest

from caffe_merge.errors import FileError
from caffe_merge.formats.weights import formats, source
from caffe_merge.formats.weights.blobs import BLOCK, FLOAT, Rows, Stored
from caffe_merge.formats.weights.caffemodel import Caffemodel
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.source import Source, Span, run_length, values
from caffe_merge.formats.weights.wire import records
from tests.formats.weights.test_caffemodel import WHOLE

DATA = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    result = tmp_path / "data"
    result.write_bytes(DATA)
    return result


def test_it_is_a_buffer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_PAGE", 40)
    monkeypatch.setattr(source, "_AT_ONCE", 1000)
    original = Source(str(path))
    assert len(original) == len(DATA)
    for key in (
        slice(3, 9),
        slice(0, 0),
        slice(9, 3),
        slice(-5, None),
        slice(None),
        slice(7, 9**9),
    ):
        assert original[key] == DATA[key]
    for at in (0, 1, 39, 40, 41, 20, 255, len(DATA) - 1, 5):
        assert original[at] == DATA[at]
        page, low = original.page(at)
        assert page == DATA[low : low + len(page)]
        assert low + len(page) >= min(at + 10, len(DATA))
    for at in (-1, len(DATA)):
        with pytest.raises(IndexError):
            original[at]


def test_without_pread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    original = Source(str(path))
    assert original[100:90_000] == DATA[100:90_000]
    assert original[3:7] == DATA[3:7]


@pytest.mark.parametrize("step", [1, 3])
def test_values(path: Path, step: int) -> None:
    held = values(Source(str(path)), FLOAT, 500, 8)
    expected = np.frombuffer(DATA, FLOAT, 500, 8)
    assert isinstance(held, Span)
    assert len(held) == 500
    for key in (slice(0, 500, step), slice(7, 30, step), slice(30, 7, step), slice(None)):
        np.testing.assert_array_equal(held[key], expected[key])
        assert not held[key].flags.writeable


ROWS: List[Rows] = [
    slice(None), slice(2, 5), slice(5, 2), slice(1, 7, 2), slice(-2, None), np.array([3]),
    np.array([6, 0, -1]), np.arange(7), np.array([], int), np.arange(7) % 2 == 0,
]  # fmt: skip


@pytest.mark.parametrize("shape", [(7, 3, 2), (7,), (7, 0), (7, 1)])
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_rows_of_a_blob(path: Path, number: int, shape: "tuple[int, ...]") -> None:
    count = int(np.prod(shape))
    rows = ROWS[number]
    original = Stored(shape, values(Source(str(path)), FLOAT, count, 4)).rows(rows)
    here = Stored(shape, np.frombuffer(DATA, FLOAT, count, 4)).rows(rows)
    assert original.shape == here.shape
    np.testing.assert_array_equal(original, here)


def test_few_rows_cost_few_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Source(str(path))
    blob = Stored((100, 16), values(original, FLOAT, 1600, 0))
    read = []
    real = Source.read

    def noted(self: Source, start: int, end: int) -> bytes:
        read.append(end - start)
        return real(self, start, end)

    monkeypatch.setattr(Source, "read", noted)
    blob.rows(np.array([4, 90]))
    blob.rows(slice(10, 12))
    assert read == [64, 64, 128]


def test_an_index_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(WHOLE)
    monkeypatch.setattr(formats, "_LARGE", 0)
    monkeypatch.setattr(source, "_PAGE", 20)
    original, here = open_index(str(path)), Caffemodel(WHOLE)
    assert isinstance(original.buffer, Source)
    assert list(records(original.buffer, 0, len(WHOLE))) == list(records(WHOLE, 0, len(WHOLE)))
    assert [layer[:4] for layer in original.layers] == [layer[:4] for layer in here.layers]
    for layer, other in zip(original.layers, here.layers):
        for mine, its in zip(layer.blobs, other.blobs):
            np.testing.assert_array_equal(mine.array(), its.array())


@pytest.mark.parametrize("scanned", [1, 4, 100])
def test_a_run_of_tagged_items(scanned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_SCANNED", scanned)
    item = np.dtype([("tag", "u1"), ("value", FLOAT)])
    data = (b"\x2d" + b"\0\0\x80\x3f") * 9 + b"\x2e1234" + b"\x2d"
    assert run_length(data, item, 0x2D, 0, len(data)) == 9
    assert run_length(data, item, 0x2D, 5, 31) == 5
    assert run_length(data, item, 0x2E, 0, len(data)) == 0


def test_a_file_that_is_cut_off(path: Path) -> None:
    original = Source(str(path))
    held = values(original, FLOAT, len(DATA) // 4, 0)
    os.truncate(path, 5000)
    for read in (
        lambda: held[:],
        lambda: original[len(DATA) - 1],
        lambda: original[5000:],
        original.check,
    ):
        with pytest.raises(FileError, match="data: the file changed while it was read"):
            read()


def test_blocks_of_a_large_blob(tmp_path: Path) -> None:
    path = tmp_path / "large"
    result = np.arange(BLOCK + 10, dtype=FLOAT)
    path.write_bytes(result.tobytes())
    blob = Stored((len(result),), values(Source(str(path)), FLOAT, len(result), 0))
    assert [len(block) for block in blob.blocks()] == [BLOCK, 10]
    np.testing.assert_array_equal(np.concatenate(list(blob.blocks())), result)

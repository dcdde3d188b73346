"""Blobs: one rounding, whatever was composed, in blocks whose size is bounded."""

import tracemalloc
from pathlib import Path
from typing import Callable, List

import numpy as np
import pytest

from caffe_merge.formats.weights.blobs import (
    BLOCK,
    DOUBLE,
    FLOAT,
    LONG,
    Blob,
    Dense,
    Scaled,
    Stored,
    same_values,
)
from caffe_merge.formats.weights.source import Source, Span

RANDOM = np.random.default_rng(0)


def stored(shape: tuple, dtype: type = np.float32) -> Stored:
    """A stored blob of seeded values over many magnitudes."""
    values = RANDOM.standard_normal(int(np.prod(shape))) * 10.0 ** RANDOM.integers(
        -20, 20, int(np.prod(shape))
    )
    return Stored(shape, values.astype(dtype))


def factor(channels: int, rank: int) -> np.ndarray:
    """A float64 multiplier along axis 0, far from any float32."""
    return RANDOM.uniform(-3, 3, (channels,) + (1,) * (rank - 1))


def read_back(blob: Blob) -> np.ndarray:
    """The blob as its blocks give it."""
    blocks = list(blob.blocks())
    assert all(block.flags.c_contiguous and block.dtype == blob.dtype for block in blocks)
    flat: List[np.ndarray] = [block.ravel() for block in blocks]
    return np.concatenate([*flat, np.empty(0, blob.dtype)]).reshape(blob.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (7,), (1, 4), ()])
def test_scaled_is_float64_rounded_once(shape: tuple, dtype: type) -> None:
    source = stored(shape, dtype)
    length, rank = (shape[0], len(shape)) if shape else (1, 1)
    first, two, three = (factor(length, rank) for _ in range(3))
    blob = Scaled(Scaled(Scaled(source, first), two), three)
    assert isinstance(blob.source, Stored)  # no chain: the multipliers were multiplied
    exact = source.values.astype(np.float64).reshape(shape or (1,)) * (three * (two * first))
    expected = exact.astype(dtype).reshape(shape)
    assert blob.dtype == np.dtype(dtype)
    for actual in (blob.array(), read_back(blob)):
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(blob.float64(), exact.reshape(shape))
    if dtype is np.float32 and exact.size > 50:  # three roundings would have given another value
        naive = source.values.reshape(shape or (1,))
        for each in (first, two, three):
            naive = (naive * each).astype(np.float32)
        assert not np.array_equal(naive.reshape(shape), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_of_a_row_is_that_of_its_rounded_values(dtype: type) -> None:
    source = stored((4, 3, 2), dtype)
    zeros = Stored((4, 3, 2), np.zeros(24, dtype))
    by_row, by_column = factor(4, 3), RANDOM.uniform(-3, 3, (4, 3, 1))
    for blob in (source, zeros, Scaled(source, by_row), Scaled(source, by_column)):
        largest = blob.largest(slice(1, 4))
        assert largest.dtype == dtype
        np.testing.assert_array_equal(largest, np.abs(blob.array()[1:]).max(axis=(1, 2)))
        assert not np.signbit(largest).any()  # -0 would be shown


def test_scaled_of_what_is_computed_rounds_once_too() -> None:
    values = RANDOM.standard_normal((4, 3))
    for source in (Dense(values), Dense(values.reshape(2, 6)).reshaped((4, 3))):
        blob = Scaled(source, factor(4, 2))
        expected = (values * blob.multiplier).astype(np.float32)
        np.testing.assert_array_equal(blob.array(), expected)
        np.testing.assert_array_equal(read_back(blob), expected)


def test_one_multiplier_for_all() -> None:
    source = stored((5, 2))
    blob = Scaled(source, np.array([[0.1]]))
    np.testing.assert_array_equal(blob.array(), (source.float64() * 0.1).astype(np.float32))


@pytest.mark.parametrize("make", [Dense, lambda v: Stored(v.shape, v.ravel().astype("<f4"))])
def test_rows_are_those_of_the_whole(make: Callable) -> None:
    values = RANDOM.standard_normal((6, 2, 3)).astype(np.float32)
    for blob in (make(values), Scaled(make(values), factor(6, 3))):
        some = np.array([4, 1])
        np.testing.assert_array_equal(blob.rounded(slice(1, 4)), blob.array()[1:4])
        np.testing.assert_array_equal(blob.rounded(some), blob.array()[some])


def test_too_large_for_float32_is_infinite_and_not_an_error_here() -> None:
    blob = Scaled(Stored((2,), np.array([1e38, 1], "<f4")), np.array([1e3, 1e-3]))
    np.testing.assert_array_equal(blob.array(), np.array([np.inf, 1e-3], np.float32))
    np.testing.assert_array_equal(blob.float64(), [float(np.float32(1e38)) * 1e3, 1e-3])
    assert Dense([1e39]).array()[0] == np.inf
    assert Scaled(Dense([1e39]), np.array([1e-39])).array()[0] == pytest.approx(1)


def test_subnormal_values_are_kept() -> None:
    tiny = np.array([5.6e-45, -1e-45, 1e-40], "<f4")
    np.testing.assert_array_equal(Stored((3,), tiny).array(), tiny)
    scaled = Scaled(Stored((3,), tiny), np.full(3, 1e38))
    np.testing.assert_array_equal(scaled.array(), (tiny.astype("f8") * 1e38).astype("f4"))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (1, 0, 4)])
def test_empty(shape: tuple) -> None:
    empty = Stored(shape, np.empty(0, "<f4"))
    for blob in (empty, Dense(np.empty(shape))):
        assert list(blob.blocks()) == []
        assert blob.array().shape == shape


WIDE = [(4 * BLOCK,), (4, BLOCK), (1, 1, 1, 4 * BLOCK), (1000, 3, 700)]


@pytest.mark.parametrize("shape", WIDE)
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
def test_blocks_are_bounded(shape: tuple, dtype: np.dtype) -> None:
    values = np.broadcast_to(np.ones(1, dtype), int(np.prod(shape)))
    sizes = [block.size for block in Stored(shape, values).blocks()]
    assert max(sizes) <= BLOCK
    assert sum(sizes) == np.prod(shape)
    if shape[0] > 1:  # a scaled blob goes by rows
        scaled = Scaled(Stored(shape, values), np.ones((shape[0],) + (1,) * (len(shape) - 1)))
        assert sum(block.size for block in scaled.blocks()) == np.prod(shape)


def test_memory_stays_near_one_block() -> None:
    values = np.frombuffer(bytes(4 * 16 * BLOCK), "<f4")
    blob = Scaled(Stored((64, BLOCK // 4), values), np.full((64, 1), 0.5))
    tracemalloc.start()
    total = sum(block.size for block in blob.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 16 * BLOCK
    assert peak < 3 * 4 * BLOCK  # the old block, the new one, and what numpy buffers


def test_reshaped_is_a_view() -> None:
    blob = stored((1, 1, 2, 3))
    assert blob.reshaped((2, 3)).array().base is not None
    np.testing.assert_array_equal(blob.reshaped((2, 3)).array().ravel(), blob.array().ravel())


@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (3, 7), (4, 1), (2, LONG + 1)])
def test_heads_are_the_first_values_of_each_row(shape: tuple, tmp_path: Path) -> None:
    """Unrounded, of whatever blob; of long rows in a file no more is read."""
    dense = Dense(RANDOM.standard_normal(shape))
    (tmp_path / "values").write_bytes(dense.array().tobytes())
    source = Source(str(tmp_path / "values"))
    in_file = Stored(shape, Span(source, FLOAT, int(np.prod(shape)), 0))
    columns = factor(shape[1], len(shape) - 1)[np.newaxis]
    for blob in (dense, in_file, Scaled(in_file, factor(shape[0], len(shape))),
                 Scaled(dense, columns)):  # fmt: skip
        expected = blob.rows().reshape(shape[0], -1)[:, :5]
        np.testing.assert_array_equal(blob.heads(5), expected)


def test_heads_of_long_rows_read_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "values").write_bytes(bytes(4 * 3 * LONG))
    source = Source(str(tmp_path / "values"))
    sizes: List[int] = []
    read = source.read

    def counted(start: int, end: int) -> bytes:
        sizes.append(end - start)
        return read(start, end)

    monkeypatch.setattr(source, "read", counted)
    Stored((3, LONG), Span(source, FLOAT, 3 * LONG, 0)).heads(5)
    assert sizes == [20, 20, 20]


def test_same_values() -> None:
    """As they are written: to the last block, under one shape, in one type."""
    values = np.ones((BLOCK + 5, 2), np.float32)
    other = values.copy()
    other[-1, -1] = 2
    first = Stored(values.shape, values.ravel())
    assert same_values(first, Dense(values))
    assert same_values(first, Scaled(first, np.full((1, 1), 1 + 1e-12)))  # rounded to the same
    assert not same_values(first, Dense(other))
    assert not same_values(first, Dense(values, DOUBLE))
    assert not same_values(Dense(np.ones((2, 3))), Dense(np.ones((3, 2))))
    assert same_values(Dense(np.ones(())), Dense(np.ones(())))
    assert not same_values(Dense(np.ones(())), Dense(np.zeros(())))
    assert same_values(Dense(np.ones((0, 3))), Dense(np.ones((0, 3))))

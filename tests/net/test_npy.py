"""Files of numbers that anybody may have made: read, or refused in one line."""

import contextlib
import io
import pickle
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.errors import CaffeMergeError, UsageError
from caffe_merge.net import npy
from caffe_merge.net.pixels import pixel_options
from caffe_merge.validation.inputs import load_files, parse_shapes
from tests.seeds import examples


def saved(values: Any) -> bytes:
    """The bytes of a .npy file."""
    handle = io.BytesIO()
    np.save(handle, values)
    return handle.getvalue()


def zipped() -> bytes:
    """The bytes of a .npz file."""
    handle = io.BytesIO()
    np.savez(handle, a=np.ones(3))
    return handle.getvalue()


class Bomb:
    """What must never be made of a file."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


GOOD = saved(np.arange(6.0).reshape(2, 3))
FILES = {
    "empty": b"",
    "cut in the magic": GOOD[:4],
    "cut in the header": GOOD[:30],
    "cut in the values": GOOD[:-1],
    "a zip": zipped(),
    "no zip": b"PK\x03\x04" + b"\0" * 40,
    "a pickle": pickle.dumps(Bomb()),
    "objects": saved(np.array([Bomb()], object)),
    "complex": saved(np.ones(3, np.complex64)),
    "dates": saved(np.array(["2020-01-01"], "M8[D]")),
    "words": saved(np.array(["a"])),
    "fields": saved(np.zeros(2, [("a", "f4"), ("b", "i4")])),
    "more than there is": GOOD.replace(b"(2, 3)", b"(9999999999, 9)"),
    "more than an int": GOOD.replace(b"(2, 3)", b"(" + b"9" * 30 + b",)"),
    "a negative shape": GOOD.replace(b"(2, 3)", b"(-2, 3)"),
    "a huge header": b"\x93NUMPY\x02\0" + b"\xff\xff\xff\x7f" + b"(" * 99,
    "a deep header": b"\x93NUMPY\x01\0\xff\xff" + b"(" * 65535,
    "another version": b"\x93NUMPY\x09" + GOOD[7:],
    "no values": saved(np.ones((0, 3))),
    "infinite": saved(np.array([np.inf])),
    "too large for float32": saved(np.array([1e300])),
}
MEANS = {"too large for float32"}  # a mean is in float64


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_array_of_numbers(case: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(FILES[case])
    with pytest.raises(UsageError) as caught:
        load_files([f"data={path}"])
    assert "\n" not in str(caught.value)
    if case not in MEANS:
        with pytest.raises(CaffeMergeError) as caught_mean:
            pixel_options(str(path))
        assert "\n" not in str(caught_mean.value)


@pytest.mark.parametrize("kind", ["?", "u1", "<i8", ">f4", "f2", "f8"])
def test_real_numbers_of_any_kind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(saved(np.ones((2, 3), kind)))
    array = load_files([f"data={tmp_path / 'x.npy'}"])["data"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 1, 1]] * 2
    assert npy.read(str(tmp_path / "x.npy")).shape == (2, 3)


CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1)


@examples(150)
@given(changes=CHANGES)
def test_any_bytes(
    changes: List[Tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a file is changed into, it is read or refused."""
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "any.npy"
    path.write_bytes(content)
    with contextlib.suppress(CaffeMergeError):
        load_files([f"x={path}"])
    with contextlib.suppress(CaffeMergeError):
        pixel_options(str(path))


@pytest.mark.parametrize(
    "value",
    ["\u00b2", "\u0661", "\u0967,3", "9" * 5000, "1,3,0",
     "-1", "+1", "1_0", "1e3", "", ",", "1,,2", "0x10",
     "1" * 10, ",".join(["1"] * 33), "nan"],
)  # fmt: skip
def test_a_shape_that_is_none(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shapes([f"data={value}"])
    assert len(str(caught.value)) < 240


@examples(300)
@given(st.text(max_size=20) | st.text("0123456789,=x.-e ", max_size=30))
def test_any_value_of_an_option(value: str) -> None:
    for read in (
        lambda: parse_shapes([value]),
        lambda: load_files([value]),
        lambda: pixel_options(value),
        lambda: pixel_options(None, value),
    ):
        with contextlib.suppress(CaffeMergeError):
            read()

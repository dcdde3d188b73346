"""Reads untrusted .npy files: real numbers, or an error of one line."""

from __future__ import annotations

import numpy as np

from caffe_merge.arrays import Array

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16  # bytes; numpy reads it by Python's own parser


def read(path: str) -> Array:
    """The array in ``path``, not yet in memory.

    Raises OSError where the file cannot be opened, ValueError for all else: nothing is unpickled,
    and no memory is asked for that the file does not fill.
    """
    with open(path, "rb") as handle:
        head = handle.read(12)
    if head[:6] != MAGIC:
        raise ValueError("it does not begin as a .npy file does")
    length = int.from_bytes(head[8:10] if head[6:7] == b"\x01" else head[8:12], "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header of {length} bytes is no header of an array of numbers")
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # of Python's parser, or of numpy: anything may come
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers, found {array.dtype}")
    return array

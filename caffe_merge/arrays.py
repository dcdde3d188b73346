"""Names for array types and shapes, and the memory of arrays."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

HUGE_PAGES = "NUMPY_MADVISE_HUGEPAGE"  # numpy reads it when it is imported; 0: none
_PIECE = 256  # values

Shape = Tuple[int, ...]
BlobShape = Optional[Tuple[Optional[int], ...]]  # None: that dimension, or their number, is unknown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]  # as stored: float32 or float64
    Float64 = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    ArrayLike = npt.ArrayLike
else:  # numpy.typing.NDArray is newer than the oldest numpy we run on
    Array = Float64 = Indices = ArrayLike = Any


def distinct(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The different ones of ``numbers``, sorted.

    np.unique asked for nothing but these imports numpy.ma first, which takes longer than all that
    a merge has to look at.
    """
    import numpy as np

    return np.unique(numbers, return_counts=True)[0]


def set_up_thread(memory: int) -> None:
    """Have numpy keep ``memory`` (bytes) in this thread, and take a row at a time.

    glibc gives large arrays back to the system, which then has to make every page anew, until it
    has seen a larger one freed: from that it learns what is large, up to 32 MB.

    Where an array is converted, or has a number for each of its rows, numpy works in pieces. One
    within a row has that number as a constant, which is twice as fast as with numpy's own setting.
    """
    import numpy as np

    np.empty(memory, np.uint8)
    np.empty(memory - (1 << 20), np.uint8)
    np.setbufsize(_PIECE)


def count(shape: Sequence[int]) -> int:
    """How many values a blob of ``shape`` has; 1 for a scalar."""
    return prod(shape)


def fully_known(shape: BlobShape) -> Optional[Shape]:
    """``shape`` if all of it is known."""
    dims = tuple(dim for dim in shape or () if dim is not None)
    return None if shape is None or len(dims) < len(shape) else dims

"""Names for array types. numpy.typing.NDArray is newer than the oldest numpy we run on."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]  # as stored: float32 or float64
    Float64 = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    ArrayLike = npt.ArrayLike
else:
    Array = Float64 = Indices = ArrayLike = Any

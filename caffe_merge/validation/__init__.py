"""Two pairs of files, run by an engine in processes of its own, compared blob by blob."""

from typing import TYPE_CHECKING, Any

__all__ = ["BlobResult", "Comparison", "InputUsed", "Judging", "Pair", "forward", "validate"]

if TYPE_CHECKING:
    from caffe_merge.validation.compare import BlobResult, Comparison, InputUsed
    from caffe_merge.validation.engines import Judging, Pair, forward, validate


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from caffe_merge.validation import compare, engines  # with much behind them

    value = getattr(compare if hasattr(compare, name) else engines, name)
    globals()[name] = value
    return value

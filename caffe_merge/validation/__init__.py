"""Two pairs of files, run by an engine in processes of its own, compared blob by blob."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["BlobResult", "Comparison", "InputUsed", "Judging", "Pair", "forward", "validate"]

if TYPE_CHECKING:
    from caffe_merge.validation.compare import BlobResult
    from caffe_merge.validation.engines import forward, validate
    from caffe_merge.validation.judging import Judging
    from caffe_merge.validation.sessions import Pair
    from caffe_merge.validation.verdict import Comparison, InputUsed

_MODULES = {
    "BlobResult": "compare",
    "Comparison": "verdict",
    "InputUsed": "verdict",
    "Judging": "judging",
    "Pair": "sessions",
    "forward": "engines",
    "validate": "engines",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # With much behind them, so only when they are used.
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value

"""caffe_merge: a Caffe prototxt + caffemodel turned into an equivalent, faster pair.

    net = caffe_merge.load("deploy.prototxt", "x.caffemodel")
    report = caffe_merge.merge(net)
    caffe_merge.save(net, "deploy_merged.prototxt", "x_merged.caffemodel")
    comparison = caffe_merge.validate(
        ("deploy.prototxt", "x.caffemodel"), ("deploy_merged.prototxt", "x_merged.caffemodel")
    )

Every error is a CaffeMergeError. What a name needs is imported when the name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

__version__ = "0.1.0"  # the one place: pyproject.toml and --version read it here

__all__ = [
    "CaffeMergeError",
    "Comparison",
    "Net",
    "Report",
    "batch",
    "convert",
    "load",
    "merge",
    "save",
    "validate",
]

if TYPE_CHECKING:
    from caffe_merge.command.library import batch, convert
    from caffe_merge.errors import CaffeMergeError
    from caffe_merge.merging.driver import merge
    from caffe_merge.merging.report import Report
    from caffe_merge.net.loading import Net, load
    from caffe_merge.net.saving import save
    from caffe_merge.validation import Comparison, validate

_HOMES = {
    "CaffeMergeError": "errors",
    "Comparison": "validation",
    "Net": "net.loading",
    "Report": "merging.report",
    "batch": "command.library",
    "convert": "command.library",
    "load": "net.loading",
    "merge": "merging.driver",
    "save": "net.saving",
    "validate": "validation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return list(__all__)

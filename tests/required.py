"""Packages that a test can do without on a user's machine, and not in CI."""

import importlib
import os

import pytest


def required(module: str, extra: str) -> None:
    """Skip the test where ``module`` is not installed; fail where CI says that it must be."""
    try:
        importlib.import_module(module)
    except ImportError:
        reason = f"no {module} here: pip install caffe_merge[{extra}]"
        if os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

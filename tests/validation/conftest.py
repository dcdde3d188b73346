"""Fixtures of the tests of validation."""

from typing import Optional

import pytest

from caffe_merge.validation import judging
from tests.real_caffe import RealCaffe
from tests.required import required


@pytest.fixture
def few_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets run on as many sets of values as large ones do."""
    monkeypatch.setattr(judging, "_SMALL", 0)


@pytest.fixture
def caffe_python(request: pytest.FixtureRequest, engine: str) -> Optional[str]:
    """The interpreter with Caffe, for the engine that needs one; a test's engine must be here."""
    if engine == "opencv":
        required("cv2", "opencv")
    if engine != "pycaffe":
        return None
    caffe: RealCaffe = request.getfixturevalue("real_caffe")
    return caffe.python

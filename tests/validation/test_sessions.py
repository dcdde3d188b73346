"""Errors of an engine name a file, and name it once."""

from pathlib import Path

import numpy as np
import pytest

from caffe_merge.errors import UsageError, ValidationError
from caffe_merge.validation.sessions import Session, naming
from caffe_merge.validation.workers import reference_command
from tests.nets import write_pair

TEXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 4 } }
"""
BLOBS = {"fc": [np.ones((4, 5)), np.ones(4)]}  # of five inputs, not three


def test_an_error_that_names_no_file_gets_a_name() -> None:
    with pytest.raises(ValidationError) as caught, naming("p"):
        raise ValidationError("p is a layer, and a file too")
    assert str(caught.value) == "p: p is a layer, and a file too"
    assert caught.value.path == "p"


def test_an_error_that_names_a_file_keeps_its_name() -> None:
    with pytest.raises(ValidationError, match=r"^w: cut off$"), naming("p"):
        raise ValidationError("cut off", path="w")


def test_a_mistake_of_the_user_is_left_as_it_is() -> None:
    with pytest.raises(UsageError, match=r"^no such input$"), naming("p"):
        raise UsageError("no such input")


def test_a_worker_tells_whether_its_error_names_a_file(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, TEXT, BLOBS)
    paths = str(pair[0]), str(pair[1])
    with Session(paths, reference_command()) as session, pytest.raises(ValidationError) as caught:
        session.opened()
    assert str(caught.value).startswith(f"{paths[1]}: layer 'fc', blob 0: ")
    assert caught.value.path == paths[1]

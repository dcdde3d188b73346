"""Inputs that are plainly something else; tests/test_bad_input.py has more of them."""

from pathlib import Path

import numpy as np
import pytest

from caffe_merge.errors import TextError, WeightsError
from caffe_merge.formats.weights import formats
from caffe_merge.net import inputs
from caffe_merge.net.inputs import check_inputs
from tests.formats.weights.test_solverstate import MESSAGE, state
from tests.nets import caffemodel, load_pair, write_pair


def test_a_solverstate_in_the_place_of_the_text(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, state(), caffemodel({"a": [np.ones(3)]}))
    line = f"{pair[0]}:1:1: expected a prototxt, found {MESSAGE}"
    line += "its weights are in 'snap/net_iter_5000.caffemodel'"
    with pytest.raises(TextError) as caught:
        load_pair(pair)
    assert str(caught.value) == line
    with pytest.raises(TextError) as caught:
        check_inputs(str(pair[0]), str(pair[1]))
    assert str(caught.value) == line


def test_a_format_tells_its_files_before_anything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new row for weights in an archive, say: nothing else needs to know of it."""
    path = tmp_path / "w.npz"
    path.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(WeightsError, match="an archive"):
        inputs.reject_weights(str(path))
    row = formats.FORMATS[0]._replace(is_it=lambda buffer: bytes(buffer[:2]) == b"PK")
    monkeypatch.setattr(inputs, "FORMATS", (row, *formats.FORMATS))
    inputs.reject_weights(str(path))

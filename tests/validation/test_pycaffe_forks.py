"""pycaffe of a fork as the engine: its own layers are judged, and its crash is one line."""

from pathlib import Path

import numpy as np
import pytest

from caffe_merge.errors import ValidationError
from caffe_merge.validation import forward, validate
from tests.nets import prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe

CONVOLUTION = (
    "data 2 3 6 5",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
)
BEHIND_RELU6 = prototxt(
    *CONVOLUTION,
    "relu6: ReLU6 conv -> relu6",
    "pool: Pooling relu6 -> pool { pooling_param { pool: AVE global_pooling: true } }",
    "axpy: Axpy pool relu6 conv -> axpy",
)
CRASHES = prototxt(
    "data 2 6 7 5",
    "d: ConvolutionDepthwise data -> d { convolution_param { num_output: 6 kernel_size: 3 } }",
)


def test_layers_of_a_fork_are_judged(forks_caffe: RealCaffe, tmp_path: Path) -> None:
    blobs = seeded(prototxt(*CONVOLUTION))
    before = write_pair(tmp_path, BEHIND_RELU6, blobs, "before")
    how = {"engine": "pycaffe", "caffe_python": forks_caffe.python}
    comparison = validate(before, before, **how)
    assert "axpy" in {blob.name for blob in comparison.blobs}
    blobs["conv"][0] = blobs["conv"][0] * 1.01
    wrong = validate(before, write_pair(tmp_path, BEHIND_RELU6, blobs, "after"), **how)
    assert wrong.status == "failed"


def test_a_crash_is_an_error_that_says_so(forks_caffe: RealCaffe, tmp_path: Path) -> None:
    weights = {"d": [np.ones((6, 1, 3, 3)), np.ones(6)]}
    pair = write_pair(tmp_path, CRASHES, weights)
    array = np.ones((2, 6, 7, 5), np.float32)
    with pytest.raises(ValidationError, match=r"died \(SIG\w+\): "):
        forward(pair, {"data": array}, "pycaffe", caffe_python=forks_caffe.python)

"""The blobs of a fork's BatchNorm are let in; a number or size that fits none is the old error."""

from pathlib import Path
from typing import List

import numpy as np
import pytest

from caffe_merge.errors import WeightsError
from tests.layers.norms.cases import AXES, CASES, make
from tests.merger import Merger
from tests.nets import load_pair, prototxt, write_pair

WRONG = {
    "six": ([np.ones(5)] * 6, "layer 'bn': expected 3 blobs for a BatchNorm, found 6"),
    "two": ([np.ones(5)] * 2, "layer 'bn': expected 3 blobs for a BatchNorm, found 2"),
    "no single one": ([np.ones(5)] * 5, "expected 3 blobs for a BatchNorm, found 5"),
    "other channels": ([np.ones(n) for n in (4, 4, 1, 4, 4)], "expected 3 blobs"),
    "two sizes": ([np.ones(n) for n in (5, 5, 1, 5, 4)], "expected 3 blobs"),
    "three of 4 axes": ([np.ones((1, 5, 1, 1)), np.ones((1, 5, 1, 1)), np.ones(1)],
                        "layer 'bn', blob 0: expected shape (5,), found (1, 5, 1, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_fits_no_style(tmp_path: Path, name: str) -> None:
    blobs, message = WRONG[name]
    text = prototxt("data 2 5 4 3", "bn: BatchNorm data -> bn")
    pair = write_pair(tmp_path, text, {"bn": blobs})
    with pytest.raises(WeightsError) as caught:
        load_pair(pair)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_what_fits_one_is_let_in_as_it_is(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    text = prototxt("data 2 5 4 3", f"bn: {case.kind} data -> bn {{ {case.body} }}")
    pair = write_pair(tmp_path, text, {"bn": make(case)})
    layer = load_pair(pair).layers[1]
    assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in make(case)]


def test_a_text_of_nvidia_without_weights(tmp_path: Path) -> None:
    """BVLC's fillers say nothing of NVIDIA's five blobs: no weights is no weights."""
    text = prototxt(
        "data 2 5 4 3", "bn: BatchNorm data -> bn { batch_norm_param { scale_bias: true } }"
    )
    pair = write_pair(tmp_path, text, {"data": []})
    layer = load_pair(pair).layers[1]
    assert layer.missing
    assert not layer.blobs


def test_segnets_batch_norm_goes_into_a_scale(merged: Merger) -> None:
    """Where the net has a Scale, so has its Caffe; and a run of two is more than one Scale."""
    case = CASES["segnet"]
    lines: List[str] = [
        "data 2 5 6 7",
        f"bn: BN data -> bn {{ {case.body} }}",
        "scale: Scale bn -> scale { scale_param { bias_term: true } }",
        "end: TanH scale -> out",
    ]
    result = merged(*lines, weights={"bn": make(case), "scale": [np.ones(5) * 2, np.ones(5)]})
    assert result.names == ["scale", "end"]
    gamma, beta = (blob.reshape(-1) for blob in make(case))
    np.testing.assert_allclose(result.blobs("scale")[0], 2 * gamma, rtol=1e-6)
    np.testing.assert_allclose(result.blobs("scale")[1], 2 * beta + 1, rtol=1e-6)
    assert case.shape == AXES

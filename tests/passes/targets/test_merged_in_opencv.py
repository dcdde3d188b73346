"""What merges make of Deconvolutions and Slices runs in OpenCV where the net ran before."""

from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest

import caffe_merge
from tests.merger import random_inputs
from tests.nets import Pair, load_pair, prototxt, write_pair
from tests.required import required


def up(name: str, bottom: str, body: str = "kernel_size: 4 pad: 1") -> str:
    """A Deconvolution to 4 channels, of twice the size."""
    fields = f"convolution_param {{ num_output: 4 stride: 2 {body} }}"
    return f"{name}: Deconvolution {bottom} -> {name} {{ {fields} }}"


def conv(name: str, bottom: str, kernel: int, outputs: int = 3, body: str = "") -> str:
    """A Convolution."""
    fields = f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


# The layers, and the one that is left of them.
NETS: Dict[str, List[str]] = {
    "1x1_behind": [up("a", "data"), conv("b", "a", 1)],
    "1x1_before": [conv("b", "data", 1, 9, "bias_term: false"), up("a", "b")],
    "sum": [up("a", "data"), up("b", "data", "kernel_size: 2"), "c: Eltwise a b -> c"],
    "slice": ["s: Slice data -> p q { slice_param { slice_point: 3 } }", conv("a", "p", 3),
              conv("b", "q", 3), "c: Concat a b -> c"],
}  # fmt: skip


def ran(pair: Pair, inputs: Dict[str, np.ndarray]) -> np.ndarray:
    """The output of a pair in OpenCV."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(*map(str, pair))
    net.setInput(inputs["data"], "data")
    return np.asarray(net.forward())


@pytest.mark.parametrize("name", NETS)
def test_opencv_runs_it(tmp_path: Path, name: str) -> None:
    required("cv2", "opencv")
    lines = NETS[name]
    end = lines[-1].split(":")[0]
    pair = write_pair(tmp_path, prototxt("data 1 6 5 7", *lines, f"t: TanH {end} -> t"))
    net = load_pair(pair)
    inputs = random_inputs(net)
    caffe_merge.merge(net)
    assert [layer.name for layer in net.layers] == ["data", "a", "t"]
    merged = tmp_path / "merged.prototxt", tmp_path / "merged.caffemodel"
    caffe_merge.save(net, *map(str, merged))
    before, after = ran(pair, inputs), ran(merged, inputs)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)

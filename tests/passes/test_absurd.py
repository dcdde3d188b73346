"""Values that no sane net has: refused with a reason, at once and in little memory."""

import time
from pathlib import Path
from typing import List

import pytest

import caffe_merge
from tests.merger import Merger
from tests.nets import load, prototxt
from tests.speed import at_most

IN = "data 1 8 9 9"


def conv(name: str, body: str, bottom: str = "data") -> str:
    """A Convolution that writes a blob of its own name."""
    fields = f"convolution_param {{ num_output: 8 {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


NETS = {
    "stride": [
        conv("a", "kernel_size: 3 pad: 1 stride: STRIDE"),
        conv("b", "kernel_size: 1 stride: STRIDE"),
    ],
    "chain": [
        conv("a", "kernel_size: 1 stride: STRIDE"),
        conv("b", "kernel_size: 1 stride: STRIDE", "a"),
    ],
}


@pytest.mark.parametrize("stride", [2000, 65536, 2**31 - 1])
@pytest.mark.parametrize("name", NETS)
def test_strides(tmp_path: Path, name: str, stride: int) -> None:
    """The proof would need an input as large."""
    lines = [line.replace("STRIDE", str(stride)) for line in NETS[name]]
    lines.append("sum: Eltwise a b -> sum" if name == "stride" else "sum: AbsVal b -> sum")
    text = prototxt(IN, *lines)
    net = load(tmp_path, text)
    started = time.monotonic()
    report = caffe_merge.merge(net, serial="always")
    assert time.monotonic() - started < at_most(5)
    assert report.changes == []


def test_no_dilation_at_all(merged: Merger) -> None:
    """Caffe lets a dilation be 0; a kernel of one place is not what anybody meant."""
    lines: List[str] = [
        conv("a", "kernel_size: 3 dilation: 0"),
        conv("b", "kernel_size: 1"),
        "sum: Eltwise a b -> sum",
    ]
    assert merged(IN, *lines).names == ["a", "b", "sum"]


def test_hundreds_of_branches(merged: Merger) -> None:
    """One sum, not one in another for each."""
    lines = [conv(f"c{number}", "kernel_size: 1") for number in range(400)]
    names = " ".join(f"c{number}" for number in range(400))
    assert merged(IN, *lines, f"sum: Eltwise {names} -> sum", limit=1e-5).names == ["c0"]


def test_cudnn_takes_no_dilation(tmp_path: Path) -> None:
    """Caffe aborts on a dilated Convolution that asks for cuDNN: the wish goes.

    Here it is built without cuDNN, and knows no such engine.
    """
    merged = Merger(tmp_path, None)
    body = "bias_term: false engine: CUDNN"
    result = merged(
        "data 1 8 19 19",
        conv("a", f"kernel_size: 1 stride: 2 {body}"),
        conv("b", "kernel_size: 3 engine: CUDNN", "a"),
        "relu: ReLU b -> relu",
    )
    conv_param = result.layer("b").param.convolution_param
    assert (list(conv_param.dilation), conv_param.HasField("engine")) == ([2], False)

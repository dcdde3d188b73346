"""--bn-style from the command line, through merge, plan and the validation."""

from pathlib import Path
from typing import List

import numpy as np
import pytest

from caffe_merge.command.cli import main
from tests.layers.norms.cases import CASES, expected, make
from tests.nets import prototxt, write_pair

CASE = CASES["yjxiong-invstd"]
TEXT = prototxt(
    "data 2 4 6 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 } }",
    f"bn: BN conv -> conv {{ {CASE.body} }}",
    "end: TanH conv -> out",
)


def flags(folder: Path) -> List[str]:
    random = np.random.default_rng(1)
    conv = [random.standard_normal((5, 4, 3, 3)) / 6, random.standard_normal(5)]
    pair = write_pair(folder, TEXT, {"conv": conv, "bn": make(CASE)})
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


def test_merge_judges_by_the_style(tmp_path: Path) -> None:
    """The original is run as that style too, or the validation would compare nothing or fail."""
    import caffe_merge
    from caffe_merge.validation import forward

    common_flags = flags(tmp_path)
    assert main(["merge", *common_flags, "--bn-style", CASE.style]) == 0
    merged = str(tmp_path / "net_merged.prototxt"), str(tmp_path / "net_merged.caffemodel")
    assert [layer.type for layer in caffe_merge.load(*merged).layers] == [
        "Input", "Convolution", "TanH"
    ]  # fmt: skip
    x = np.random.default_rng(2).standard_normal((2, 4, 6, 7)).astype(np.float32)
    actual = forward(merged, {"data": x})["out"]
    layer = caffe_merge.load(common_flags[1], common_flags[3]).layers[1]
    w, bias = (blob.float64() for blob in layer.blobs)
    conv = np.zeros((2, 5, 4, 5)) + bias.reshape(-1, 1, 1)
    for i, j in np.ndindex(3, 3):
        conv += np.einsum("oc,nchw->nohw", w[:, :, i, j], x[:, :, i : i + 4, j : j + 5])
    assert np.abs(actual - np.tanh(expected(CASE, conv, make(CASE)))).max() <= 3e-6


def test_validation_without_the_style_differs(tmp_path: Path) -> None:
    """Read as variance the original gives something else: the comparison can fail."""
    common_flags = flags(tmp_path)
    assert main(["merge", *common_flags, "--bn-style", CASE.style, "-q"]) == 0
    assert main(["validate", *common_flags]) == 1
    assert main(["validate", *common_flags, "--bn-style", CASE.style]) == 0


def test_plan_and_bad_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common_flags = flags(tmp_path)
    assert main(["plan", *common_flags, "--bn-style", CASE.style, "-v"]) == 0
    assert "read as yjxiong-invstd" in capsys.readouterr().out
    assert main(["plan", *common_flags, "--bn-style", "yolo"]) == 2
    assert "no style is called 'yolo'" in capsys.readouterr().err

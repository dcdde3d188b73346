"""check --target: what is told of a net; and OpenCV, the one reader of these tests, does so."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main
from caffe_merge.net.graph import Graph
from caffe_merge.passes.targets.check import check
from caffe_merge.passes.targets.table import find
from tests.merger import random_inputs, run
from tests.nets import Pair, load, load_pair, parse, prototxt, seeded, write_pair
from tests.required import required

LINES = [
    "data 1 3 9 8",
    "c: Convolution data -> c { convolution_param { num_output: 4 kernel_size: 3 kernel_size: 2 "
    "pad: 1 pad: 0 } }",
    "r: PReLU c -> c",
    "b: Bias c -> b",
    "t: TanH b -> t",
    "u: Power t -> u { power_param { scale: 0.5 shift: 0.3 } }",
    "e: Eltwise t u b -> e { eltwise_param { coeff: 1 coeff: -1 coeff: 2 } }",
    "f: InnerProduct e -> f { inner_product_param { num_output: 5 transpose: true } }",
]


def problems(lines: List[str], target: str) -> List[str]:
    net = parse(prototxt(*lines))
    return [problem.layer for problem in check(net, net.graph({}), find(target))]


@pytest.mark.parametrize(
    ("target", "layers"),
    [
        ("opencv", ["b", "f"]),
        ("ncnn", ["c", "b", "f"]),
        ("mnn", ["c", "b", "e"]),
        ("rknn", ["b", "e", "f"]),
        ("tpu-mlir", ["c", "b", "u"]),
        ("mindspore", ["c", "b"]),
        ("caffe2onnx", ["c", "r", "b", "e", "e", "f"]),
    ],
)
def test_what_is_told(target: str, layers: List[str]) -> None:
    assert problems(LINES, target) == layers


def test_a_type_that_a_target_has_not() -> None:
    assert problems(["data 1 3 9 8", "a: MVN data -> a", "b: Mystery a -> b"], "tpu-mlir") == [
        "a",
        "b",
    ]
    assert problems(["data 1 3 9 8", "b: Mystery data -> b"], "nnie") == []  # its list is not known


def forward(pair: Pair, inputs: Dict[str, Any]) -> Any:
    """The net's only output, in OpenCV as it is."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(str(pair[0]), str(pair[1]))
    for name, array in inputs.items():
        net.setInput(array, name)
    return net.forward()


def test_opencv_runs_what_was_made_for_it(tmp_path: Path) -> None:
    required("cv2", "opencv")
    text = prototxt(*LINES)
    pair = write_pair(tmp_path, text)
    inputs = random_inputs(load_pair(pair))
    expected = run(load_pair(pair), inputs)["f"]
    files = tmp_path / "made.prototxt", tmp_path / "made.caffemodel"
    result = caffe_merge.convert(*pair, *files, target="opencv")
    assert result.ok
    assert check(load_pair(files), load_pair(files).graph({}), find("opencv")) == []
    actual = forward(files, inputs)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(Exception, match="Bias"):  # what it told of, before
        forward(pair, inputs)


def test_opencv_is_wrong_where_it_is_said(tmp_path: Path) -> None:
    required("cv2", "opencv")
    lines = ["data 1 3 4 5", LINES[-1].replace("InnerProduct e", "InnerProduct data")]
    pair = write_pair(tmp_path, prototxt(*lines))
    inputs = random_inputs(load_pair(pair))
    expected = run(load_pair(pair), inputs)["f"]
    assert problems(lines, "opencv") == ["f"]
    assert np.abs(forward(pair, inputs) - expected).max() > 0.1 * np.abs(expected).max()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in write_pair(tmp_path, prototxt(*LINES))]
    assert main(["check", *files, "--target", "rknn"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "rknn (RKNN-Toolkit2): 3 of 8 layers not as it takes them"
    assert out[1].startswith("  refused  Bias 'b': it has no layer of this type; with merge ")
    assert out[-1] == "merge --target rknn makes a pair of it that has none of this"
    assert main(["check", files[0], "--target", "nnie"]) == 1
    capsys.readouterr()
    assert main(["merge", *files, "--target", "rknn"]) == 0
    done = "for RKNN-Toolkit2: 3 things that it did not take, done away with"
    assert done in capsys.readouterr().out.splitlines()
    pair = [str(tmp_path / f"net_merged.{kind}") for kind in ("prototxt", "caffemodel")]
    assert main(["check", *pair, "--target", "rknn"]) == 0
    assert "takes all 9 layers, as far as is known" in capsys.readouterr().out
    assert main(["plan", *pair, "--target", "rknn"]) == 0
    none = "for RKNN-Toolkit2: it took all layers before, and does now, as far as is known"
    assert none in capsys.readouterr().out.splitlines()
    assert main(["plan", *pair]) == 0
    assert "for RKNN" not in capsys.readouterr().out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    files = [str(path) for path in write_pair(tmp_path, prototxt(*LINES))]
    assert main(["check", *files, "--target", "mnn", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["target"], data["layers"]) == ("caffe_merge.check/1", "mnn", 8)
    assert {"layer", "type", "effect", "why", "form", "advice", "source"} == {*data["problems"][0]}


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "merge", "plan"):
        assert main([command, "--target", "list"]) == 0
        assert capsys.readouterr().out.splitlines()[0].split(None, 1) == ["opencv", "OpenCV 4 dnn"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "P"], "a program that reads Caffe pairs; --target list names them"),
        (["check", "P", "--target", "mmn"], "no target is called 'mmn'; did you mean 'mnn'?"),
        (["merge", "P", "W", "--target", "mmn"], "no target is called 'mmn'"),
        (["check", "P", "--target", "nope"], "no target is called 'nope'; there are opencv, "),
    ],
)
def test_bad_usage(
    words: List[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = write_pair(tmp_path, prototxt(*LINES))
    names = {"P": str(pair[0]), "W": str(pair[1])}
    assert main([names.get(word, word) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_types_of_the_weights_become_those_of_the_text(tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 5", "t: TanH data -> t", LINES[-1].replace("e -> f", "t -> f"))
    pair = write_pair(tmp_path, text, seeded(text))
    files = tmp_path / "made.prototxt", tmp_path / "made.caffemodel"
    result = caffe_merge.convert(*pair, *files, target="ascend")
    assert result.ok
    net = load_pair(files)
    assert net.index is not None
    assert [(record.name, record.type) for record in net.index.layers] == [
        ("data", "Input"), ("t", "TanH"), ("f", "InnerProduct"),
    ]  # fmt: skip
    assert check(net, net.graph({}), find("ascend")) == []


def test_a_net_of_the_graph_only(tmp_path: Path) -> None:
    """A net that the library loaded is told what only the text could change."""
    text = 'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4\n'
    text += 'layer { name: "t" type: "TanH" bottom: "a" top: "t" }\n'
    net = load(tmp_path, text)
    report = caffe_merge.merge(net, target="ncnn")
    notes = [note.text for note in report.notes if note.kind == "target"]
    assert notes == [
        "target ncnn: refused: the net's own input fields are not read; input-layer cannot be done "
        "here"
    ]
    assert isinstance(net.graph({}), Graph)

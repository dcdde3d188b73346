"""--use-stored-statistics: use_global_stats: false, left in a text to deploy, is read as true."""

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.net import saving
from tests.nets import load_pair, prototxt, write_pair
from tests.real_caffe import RealCaffe

CONV = "conv: Convolution data -> conv { convolution_param { num_output: 3 kernel_size: 3 } }"
FALSE = "batch_norm_param {{ {} use_global_stats: {} eps: 0.001 }}"


def text(*values: str) -> str:
    """A net with a BatchNorm for each of ``values`` of the flag."""
    bottoms = ["conv", *(f"bn{number}" for number in range(len(values)))]
    norms = [
        f"{top}: BatchNorm {bottom} -> {top} {{ {FALSE.format('# by hand' + chr(10), value)} }}"
        for bottom, top, value in zip(bottoms, bottoms[1:], values)
    ]
    return prototxt("data 2 4 6 7", CONV, *norms)


def notes(report: Any, kind: str) -> List[str]:
    return [note.text for note in report.notes if note.kind == kind]


@pytest.mark.parametrize("value", ["false", "False", "0"])
def test_the_flag_is_true(tmp_path: Path, value: str) -> None:
    pair = write_pair(tmp_path, text(value, "true"))
    net = load_pair(pair, use_stored_statistics=True)
    report = caffe_merge.merge(net)
    assert [layer.name for layer in net.layers] == ["data", "conv"]
    assert notes(report, "stored-statistics") == [
        "use_global_stats: false of 1 layer is true now: the stored statistics are used"
    ]
    assert not notes(report, "batch-statistics")


def test_only_the_flag_changes_in_what_stays(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, text("false"))
    net = load_pair(pair, use_stored_statistics=True)
    caffe_merge.merge(net, keep=["bn0"])
    old = text("false")
    assert saving.text(net).decode() == old.replace("global_stats: false", "global_stats: true")


def test_without_the_option_it_is_told(tmp_path: Path) -> None:
    net = load_pair(write_pair(tmp_path, text("false", "true", "0")))
    report = caffe_merge.merge(net)
    assert [layer.name for layer in net.layers] == ["data", "conv", "bn0", "bn1", "bn2"]
    (note,) = notes(report, "batch-statistics")
    assert note.startswith("2 layers say use_global_stats: false: Caffe normalises by each batch's")
    assert "OpenCV and MNN ignore the flag" in note
    assert "use_stored_statistics" in note


def test_nothing_to_do_is_told(tmp_path: Path) -> None:
    net = load_pair(write_pair(tmp_path, text("true")), use_stored_statistics=True)
    report = caffe_merge.merge(net)
    assert notes(report, "stored-statistics") == [
        "use_stored_statistics: no layer says use_global_stats: false"
    ]


def test_validation_compares_with_the_stored_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The merged pair is right by the option, and wrong by the text as it stands."""
    pair = [str(path) for path in write_pair(tmp_path, text("false"))]
    flags = ["--model", pair[0], "--weights", pair[1]]
    assert merge_bn([*flags, "--use-stored-statistics"]) == 0
    assert "passed, 1 blob compared" in capsys.readouterr().out
    assert main(["validate", *flags, "--use-stored-statistics"]) == 0
    assert main(["validate", *flags]) == 1
    assert main(["inspect", *flags, "--use-stored-statistics"]) == 0


def test_real_caffe_agrees(tmp_path: Path, real_caffe: RealCaffe) -> None:
    """Caffe, which reads the flag, gives for the text made true what the merged pair gives."""
    pair = [str(path) for path in write_pair(tmp_path, text("false"))]
    flags = ["--model", pair[0], "--weights", pair[1], "--use-stored-statistics"]
    status = merge_bn([*flags, "--validate", "pycaffe", "--caffe-python", real_caffe.python])
    assert status == 0
    x = {"data": np.random.default_rng(0).standard_normal((2, 4, 6, 7)).astype(np.float32)}
    merged = tmp_path / "net_merged.prototxt", tmp_path / "net_merged.caffemodel"
    by_batch = real_caffe.forward_pair(Path(pair[0]), Path(pair[1]), x)["bn0"]
    assert np.abs(by_batch - real_caffe.forward_pair(*merged, x)["bn0"]).max() > 0.01

"""The commands as users run them: flags, files, exit status, what is printed."""

import json
import re
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from caffe_merge.command.cli import main, merge_bn
from tests.nets import Pair, prototxt, write_pair

ROOT = Path(__file__).resolve().parents[2]

TEXT = """name: "tiny"
layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } }
}
# The stem.
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false }
}
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "out" }
"""


@pytest.fixture
def pair(tmp_path: Path) -> Tuple[Path, Path]:
    random = np.random.default_rng(3)
    blobs = {
        "conv": [random.standard_normal((4, 3, 3, 3))],
        "bn": [random.standard_normal(4), 1 + random.random(4), np.array([2.0])],
        "scale": [random.standard_normal(4), random.standard_normal(4)],
    }
    return write_pair(tmp_path, TEXT, blobs)


def flags(pair: Tuple[Path, Path], *more: str) -> List[str]:
    return ["--model", str(pair[0]), "--weights", str(pair[1]), *more]


def test_merge_bn_writes_the_pair_beside_the_input(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [path.read_bytes() for path in pair]
    assert merge_bn(flags(pair)) == 0
    assert [path.read_bytes() for path in pair] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.caffemodel", "net.prototxt", "net_merged.caffemodel", "net_merged.prototxt",
    ]  # fmt: skip
    merged = (tmp_path / "net_merged.prototxt").read_text()
    stem = TEXT.split('layer { name: "bn"')[0]
    stem = stem.replace("bias_term: false", "bias_term: true").replace('top: "conv"', 'top: "out"')
    relu = 'layer { name: "relu" type: "ReLU" bottom: "out" top: "out" }\n'
    assert merged == stem + relu
    out = capsys.readouterr()
    assert out.err == ""
    for expected in ("layers", "parameters", "multiply-adds", "bytes", "worst error", "time:"):
        assert expected in out.out


def test_the_same_input_gives_the_same_bytes(pair: Pair, tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        out = [str(tmp_path / name / part) for part in ("m.prototxt", "m.caffemodel")]
        more = ["--output-model", out[0], "--output-weights", out[1], "--validate", "none"]
        assert merge_bn(flags(pair, *more)) == 0
        outputs.append([Path(path).read_bytes() for path in out])
    assert outputs[0] == outputs[1]


def test_plan_writes_nothing_and_tells_what_merge_does(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *flags(pair)]) == 0
    planned = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]
    assert "fold-affine: removes 'bn', 'scale'; changes 'conv'" in planned
    assert "drop-identity: removes 'drop'" in planned
    report = tmp_path / "r.json"
    assert main(["merge", *flags(pair, "--report", str(report))]) == 0
    changes = json.loads(report.read_text())["changes"]
    assert [f"{change['rewrite']}: removes" in planned for change in changes] == [True] * len(
        changes
    )


def test_the_report_has_what_its_documentation_says(pair: Pair, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert merge_bn(flags(pair, "--report", str(report), "-q")) == 0
    data = json.loads(report.read_text())
    documented = (ROOT / "docs" / "report.md").read_text().split("## Kinds of notes")[0]
    entries = {name for row in re.findall(r"^\| (`.*?) \|", documented, re.MULTILINE)
               for name in re.findall(r"`([a-z_]+)`", row)}  # fmt: skip
    assert entries == set(data)
    assert data["schema"] == "caffe_merge.report/1"
    assert data["before"] == {
        "layers": 6, "parameters": 125, "multiply_adds": 2784, "uncounted": 0,
        "activation_bytes": 2640,
    }  # fmt: skip
    assert data["after"]["layers"] == 3
    assert {fate["layer"]: fate["fate"] for fate in data["fates"]} == {
        "bn": "gone", "scale": "gone", "drop": "gone",
    }  # fmt: skip
    assert data["validation"]["ok"]
    assert (
        data["files"]["output_weights_bytes"] == (tmp_path / "net_merged.caffemodel").stat().st_size
    )


def test_only_skip_and_keep(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def merged(*more: str) -> str:
        assert merge_bn(flags(pair, "--force", "--validate", "none", *more)) == 0
        return (tmp_path / "net_merged.prototxt").read_text()

    assert "BatchNorm" in merged("--only", "drop-identity")
    assert "Dropout" not in merged("--only", "drop-identity")
    text = merged("--skip", "fold-affine")
    assert "BatchNorm" not in text
    assert 'name: "scale"' in text
    capsys.readouterr()
    text = merged("--keep", "conv", "--keep", "drop")
    assert "BatchNorm" not in text
    assert "Dropout" in text
    output = capsys.readouterr().out
    assert "layer 'conv', which feeds it, is kept as asked with --keep" in output


@pytest.mark.parametrize(
    ("serial", "kernel", "left"),
    [("auto", 3, 2), ("always", 3, 1), ("auto", 1, 1), ("never", 1, 2)],
)
def test_serial_is_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], serial: str, kernel: int, left: int
) -> None:
    """Two convolutions of 3x3 are one of 5x5, which costs more; two of 1x1 cost less as one."""
    layer = 'layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" convolution_param {'
    layer += f" num_output: 3 kernel_size: {kernel} bias_term: false }} }}\n"
    names = [("a", "data", "a"), ("b", "a", "out")]
    text = TEXT.split("# The stem.")[0] + "".join(layer % name for name in names)
    random = np.random.default_rng(3)
    blobs = {name: [random.standard_normal((3, 3, kernel, kernel))] for name in "ab"}
    pair = write_pair(tmp_path, text, blobs)
    assert main(["plan", *flags(pair, "--serial", serial)]) == 0
    assert ("merge-serial: removes" in capsys.readouterr().out) == (left == 1)
    assert merge_bn(flags(pair, "--serial", serial)) == 0
    assert (tmp_path / "net_merged.prototxt").read_text().count('"Convolution"') == left


def test_raw_pixels(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flags reach merge, plan and validate; the outcome is told and validated."""
    arguments = ["--mean", "data=104,117,123", "--scale", "0.017", "--swap-rgb"]
    report = tmp_path / "r.json"
    assert main(["plan", *flags(pair, *arguments)]) == 0
    assert "note: the input 'data' takes raw pixels now" in capsys.readouterr().out
    assert merge_bn(flags(pair, *arguments, "--report", str(report))) == 0
    output = capsys.readouterr().out
    assert "note: the input 'data' takes raw pixels now: (x - mean) * scale, channels rev" in output
    assert "input 'data': 2x3x6x5, raw pixels" in output
    data = json.loads(report.read_text())
    assert data["input"] == {
        "name": "data", "mean": [104, 117, 123], "scale": [0.017] * 3, "swap_rgb": True,
        "layers": [],
    }  # fmt: skip
    assert "data" not in [blob["name"] for blob in data["validation"]["blobs"]]
    assert main(["validate", *flags(pair, *arguments)]) == 0
    assert main(["validate", *flags(pair)]) == 1


def test_pixels_that_do_not_fold(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, nothing written; with --input-layer a layer on the input."""
    pair[0].write_text(pair[0].read_text().replace("kernel_size: 3", "kernel_size: 3 pad: 1"))
    mean = tmp_path / "mean.npy"
    np.save(mean, np.array([104.0, 117, 123]))
    arguments = ["--mean", str(mean), "--swap-rgb", "data"]
    assert merge_bn(flags(pair, *arguments)) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert "'conv' reads it: it pads with 0" in out.err
    assert "--input-layer" in out.err
    assert len(list(tmp_path.iterdir())) == 3
    assert merge_bn(flags(pair, *arguments, "--input-layer")) == 0
    assert "and in Scale 'data_mean' on the input" in capsys.readouterr().out
    assert 'name: "data_mean"' in (tmp_path / "net_merged.prototxt").read_text()


def test_affine_as_is_passed_on(pair: Pair, tmp_path: Path) -> None:
    assert merge_bn(flags(pair, "--affine-as", "conv", "--keep", "conv")) == 0
    text = (tmp_path / "net_merged.prototxt").read_text()
    assert "Scale" not in text
    assert "group: 4" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--only", "nonsense"],
            "no pass is called 'nonsense'; there are drop-identity, drop",
        ),
        (["--keep", "nobody"], "--keep nobody: the net has no layer of this name"),
        (["--validate", "guess"], "invalid choice: 'guess'"),
        (["--serial", "perhaps"], "invalid choice: 'perhaps'"),
        (["--serial", "allways"], "invalid choice: 'allways'; did you mean 'always'?"),
        (["--input-shape", "data"], "data"),
        (["--nonsense"], "unknown argument --nonsense (see merge_bn.py --help)"),
        (["--swap-bgr"], "unknown argument --swap-bgr; did you mean --swap-rgb? (see merge_bn.py"),
        (["another"], "another: the model and the weights are named already; --output-model and"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: Any, message: str
) -> None:
    assert merge_bn(flags(pair, *more)) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert out.err.startswith("merge_bn.py: error: ")
    assert message in out.err
    assert len(list(tmp_path.iterdir())) == 2


def test_validate_finds_a_wrong_pair(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge_bn(flags(pair, "-q")) == 0
    assert main(["validate", *flags(pair)]) == 0
    assert "passed" in capsys.readouterr().out
    merged = tmp_path / "net_merged.caffemodel"
    data = bytearray(merged.read_bytes())
    data[-2] ^= 0x40  # the last value of conv's bias
    merged.write_bytes(bytes(data))
    assert main(["validate", *flags(pair)]) == 1
    out = capsys.readouterr()
    assert "'out'" in out.err
    assert len(out.err.splitlines()) == 1


def test_a_merge_that_fails_validation_leaves_nothing(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "r.json"
    more = ["--limit", "1e-12", "--report", str(report)]
    assert merge_bn(flags(pair, *more)) == 1
    out = capsys.readouterr()
    assert "was not put in place" in out.err
    assert not json.loads(report.read_text())["validation"]["ok"]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["net.caffemodel", "net.prototxt", "r.json"]


def test_a_report_that_cannot_be_written_is_told_before_the_merge(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing" / "r.json"
    assert merge_bn(flags(pair, "--report", str(missing))) == 2
    assert (
        f"{missing}: there is no folder {missing.parent}: make it first" in capsys.readouterr().err
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_layers_of_other_states_are_told(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    text = pair[0].read_text()
    train = 'layer { name: "t" type: "Silence" bottom: "conv" include { phase: TRAIN } }\n'
    pair[0].write_text(text + train)
    assert merge_bn(flags(pair)) == 0
    assert "note: layers of other states (1) stay as they were" in capsys.readouterr().out
    assert pair[0].with_name("net_merged.prototxt").read_text().endswith(train)


def test_quiet_prints_nothing(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge_bn(flags(pair, "-q")) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["merge", "--help"]])
def test_help_and_version(arguments: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "caffe-merge" in capsys.readouterr().out


def test_branches_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is gone without being a BatchNorm or its like, and with -v what stayed, and why."""
    fields = "convolution_param {{ num_output: 4 {} }}"
    text = prototxt(
        "data 1 4 6 5",
        f"a: Convolution data -> a {{ {fields.format('kernel_size: 3 pad: 1')} }}",
        f"b: Convolution data -> b {{ {fields.format('kernel_size: 1')} }}",
        "s: Eltwise a b data -> s",
        f"c: Convolution s -> c {{ {fields.format('kernel_size: 1')} }}",
        f"d: Convolution c -> d {{ {fields.format('kernel_size: 3 pad: 1')} }}",
    )
    pair = write_pair(tmp_path, text)
    words = ["--model", str(pair[0]), "--weights", str(pair[1]), "--force"]
    assert merge_bn(words) == 0
    quiet = capsys.readouterr().out
    assert "\nmerge-branches: 2 gone, into 1\n" in quiet
    assert "kept by" not in quiet
    assert merge_bn([*words, "-v"]) == 0
    output = capsys.readouterr().out
    assert "  removes 'b', 's'; changes 'a'\n" in output
    assert (
        "  Convolution 'd' kept by merge-serial: behind Convolution 'a': the second pads" in output
    )

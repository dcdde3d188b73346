"""How commands are called and what they print on stdout: words, JSON, lists, completion."""

import json
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from caffe_merge.command.cli import main, merge_bn
from caffe_merge.layers.norms.styles import STYLES
from caffe_merge.passes import PASSES
from caffe_merge.passes.forms import FORMS
from tests.nets import Pair, prototxt, write_pair

NET = prototxt(
    "data 2 3 6 5",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn: BatchNorm conv -> conv",
    "relu: ReLU conv -> out",
)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_pair(tmp_path, NET)


def flags(pair: Pair, *more: str) -> List[str]:
    return ["--model", str(pair[0]), "--weights", str(pair[1]), *more]


def test_the_pair_needs_no_flags(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    model, weights = map(str, pair)
    assert main(["plan", *flags(pair)]) == 0
    by_flags = capsys.readouterr().out
    for words in ([model, weights], ["--weights", weights, model], [weights, "--model", model]):
        assert main(["plan", *words]) == 0
        assert capsys.readouterr().out == by_flags
    assert main(["inspect", model]) == 0
    assert main(["plan", model]) == 2
    assert "--weights missing: expected a prototxt and a caffemodel" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "plan", "validate"])
def test_json_and_quiet(command: str, pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge_bn(flags(pair, "-q")) == 0
    assert main([command, *flags(pair, "--json")]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)
    assert main([command, *flags(pair, "-q")]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["merge", "plan"])
def test_a_report_on_stdout_is_alone_there(
    command: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *flags(pair, "--report", "-")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "caffe_merge.report/1"
    assert not (tmp_path / "-").exists()


def test_a_plan_replaces_its_own_report(pair: Pair, tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["plan", *flags(pair, "--report", str(tmp_path / "r.json"))]) == 0


def test_a_plan_tells_what_is_alike_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conv = "{ convolution_param { num_output: 2 kernel_size: 1 } }"
    lines = ["data 1 2 4 3"]
    for bottom, name in (("data", "a"), ("a_r", "b")):
        lines += [
            f"{name}: Convolution {bottom} -> {name} {conv}",
            f"{name}_bn: BatchNorm {name} -> {name}_bn",
            f"{name}_r: ReLU {name}_bn -> {name}_r",
        ]
    pair = write_pair(tmp_path, prototxt(*lines))
    assert main(["plan", *flags(pair)]) == 0
    assert "fold-affine: 2 x Convolution <- BatchNorm\n" in capsys.readouterr().out
    assert main(["plan", *flags(pair, "-v")]) == 0
    assert "fold-affine: removes 'b_bn'; changes 'b'\n" in capsys.readouterr().out


def test_a_plan_tells_how_many_layers_change_and_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["data 1 2 9 9"]
    for n in range(2):
        conv = f"{{ convolution_param {{ num_output: {3 + n} kernel_size: 1 %s }} }}"
        lines += [
            f"a{n}: Convolution data -> a{n} {conv % ''}",
            f"b{n}: Convolution a{n} -> b{n} {conv % 'stride: 2'}",
            f"c{n}: Convolution a{n} -> c{n} {conv % 'stride: 2'}",
        ]
    pair = write_pair(tmp_path, prototxt(*lines))
    assert main(["plan", *flags(pair, "--only", "raise-stride")]) == 0
    assert "raise-stride: 2 x Convolution (3)\n" in capsys.readouterr().out


def test_bad_input_to_validate_is_status_2(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", *flags(pair)]) == 2
    error = capsys.readouterr().err
    assert "net_merged.prototxt: no such file; name the merged pair with --output-model" in error
    assert merge_bn(flags(pair, "-q")) == 0
    (tmp_path / "net_merged.caffemodel").write_bytes(b"no weights")
    assert main(["validate", *flags(pair)]) == 2
    (tmp_path / "net_merged.prototxt").write_text("layer {")
    assert main(["validate", *flags(pair)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_there_is_to_choose_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [a_pass.name for a_pass in (*PASSES, *FORMS)]
    assert main(["styles"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed if line[0] != " "] == [s.name for s in STYLES]


def test_completion_is_a_script_of_that_shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--completion", "bash"])
    script = capsys.readouterr().out
    assert "--output-weights" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert main(["--completion", "edlin"]) == 2
    assert "expected one of bash, " in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--completion", "bash"]) == 2
    assert "pip install caffe_merge[completion]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["merge"], ["plan"], ["check"], ["batch"], ["batch", "x"]])
def test_target_list_needs_nothing_else(
    capsys: pytest.CaptureFixture[str], words: List[str]
) -> None:
    assert main([*words, "--target", "list"]) == 0
    assert capsys.readouterr().out.startswith("opencv ")


@pytest.mark.parametrize("flag", ["--target", "--bn-style", "--mean"])
def test_a_second_value_is_an_error(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """The last one would win, without a word."""
    assert main(["merge", "p", "w", flag, "1", flag, "2"]) == 2
    error = f"caffe-merge: error: {flag} is given twice, '1' and '2': expected one\n"
    assert capsys.readouterr().err == error


def test_a_flag_of_other_commands_is_said_to_be_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "p", "w", "--report", "r.html"]) == 2
    assert "unknown argument --report, which merge, plan, batch, check have (see" in (
        capsys.readouterr().err
    )

"""The command ranges, the section of a report, and the line in a summary."""

import json
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest

from caffe_merge.command.cli import main
from tests.nets import Pair, prototxt, write_pair

CONV = "convolution_param { num_output: 5 kernel_size: 1 bias_term: false }"
NET = prototxt(
    "data 1 3 4 4",
    f"wide: Convolution data -> wide {{ {CONV} }}",
    "scale: Scale wide -> wide",
    "relu: ReLU wide -> wide",
    f"even: Convolution wide -> even {{ {CONV} }}",
)
EVEN = np.stack([np.linspace(0.5, 0.6, 5), np.ones(5), np.full(5, 0.7)], 1).reshape(5, 3, 1, 1)
FACTORS = np.array([1.0, 20, 1, 2, 1])


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    weights: Dict[str, List[np.ndarray]] = {
        "wide": [EVEN * [[[[1]]], [[[2]]], [[[1]]], [[[1]]], [[[1]]]]],
        "scale": [FACTORS],
        "even": [np.linspace(0.6, 1, 25).reshape(5, 5, 1, 1)],
    }
    return write_pair(tmp_path, NET, weights)


def test_a_table_the_worst_layer_first(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranges", *map(str, pair)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["wide", "even"]
    assert lines[-1] == "no layer's largest channel is more than 16 times its median"


def test_verbose_counts_channels_by_the_bits_they_lose(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *map(str, pair), "-q"]) == 0
    merged = [str(path.with_name(f"net_merged{path.suffix}")) for path in pair]
    assert main(["ranges", *merged, "-v"]) == 0
    out = capsys.readouterr().out
    assert "wide: 0 bits ###1, 4 bits ###1, 5 bits ########3" in out
    assert "1 layer with a largest channel of more than 16 times the median" in out


def test_json(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranges", *map(str, pair), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["schema"] == "caffe_merge.ranges/1"
    assert [layer["layer"] for layer in output["layers"]] == ["wide", "even"]
    assert len(output["layers"][0]["ranges"]) == 5
    assert output["left_out"] == []


def test_a_net_without_linear_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = write_pair(tmp_path, prototxt("data 1 3 4 4", "relu: ReLU data -> relu"))
    assert main(["ranges", *map(str, pair)]) == 0
    assert capsys.readouterr().out.startswith("no layer with weights to round")


def test_weights_that_are_not_finite_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"wide": [np.full((5, 3, 1, 1), np.nan)], "scale": [FACTORS],
               "even": [np.ones((5, 5, 1, 1))]}  # fmt: skip
    pair = write_pair(tmp_path, NET, weights)
    assert main(["ranges", *map(str, pair)]) == 0
    assert "layer 'wide' is left out: its weights are not finite" in capsys.readouterr().out
    assert main(["ranges", *map(str, pair), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"][0]["layer"] == "wide"


def test_a_merge_warns_and_reports(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(["merge", *map(str, pair), "--report", str(report)]) == 0
    assert (
        "8 bits: in the merged pair, the largest channel of layer 'wide' is 40 "
        in capsys.readouterr().out
    )
    data = json.loads(report.read_text())["ranges"]
    before, after = ({row["layer"]: row for row in data[when]["layers"]}
                     for when in ("before", "after"))  # fmt: skip
    assert before["even"] == after["even"]
    assert before["wide"]["to_median"] < 3
    assert after["wide"]["to_median"] > 16
    expected = np.array(before["wide"]["ranges"]) * FACTORS
    assert after["wide"]["ranges"] == pytest.approx(expected.tolist())


def test_a_plan_warns_too(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *map(str, pair)]) == 0
    assert (
        "8 bits: in the merged pair, the largest channel of layer 'wide'" in capsys.readouterr().out
    )
    assert main(["plan", *map(str, pair), "--skip", "fold-affine"]) == 0
    assert "8 bits" not in capsys.readouterr().out


def test_a_merge_says_what_equalize_did(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *map(str, pair)]) == 0
    assert "quantise per channel, or merge with --equalize (caffe-merge" in capsys.readouterr().out
    assert main(["merge", *map(str, pair), "--equalize", "--force"]) == 0
    out = capsys.readouterr().out
    assert "equalize: 2 layers rescaled; largest / median channel of the worst, in the " in out
    assert "or merge with" not in out

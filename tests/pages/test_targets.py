"""The section on a target: of a merge for it, and of a check."""

from pathlib import Path

import pytest

from caffe_merge.command.cli import main
from tests.nets import Pair, prototxt, write_pair
from tests.pages.parsing import report_page

LINES = (
    "data 2 3 8 7",
    "relu: ReLU data -> relu",
    "shift: Bias relu -> shift",
    "elu: ELU shift -> elu",
    "sum: Eltwise relu shift elu -> sum",
)
NET = prototxt(*LINES)

pytestmark = pytest.mark.usefixtures("jinja")


def test_a_merge_says_what_is_done_and_what_is_left(pair: Pair) -> None:
    read = report_page(pair, "--target", "rknn")
    section = read.id("target")
    assert "For RKNN-Toolkit2" in section.text
    assert "1 thing left that it does not take, 2 things that it did not take, done" in section.text
    summaries = [entry.text for entry in read.all("summary") if "times" not in entry.text]
    groups = [text for text in summaries if "done" in text or "ELU" in text]
    assert any("wrong" in text and "ELU" in text for text in groups)
    assert any("done" in text and "Bias" in text for text in groups)
    assert "#target" in [link["href"] for link in read.all("a")]


def test_without_a_target_there_is_no_section(pair: Pair) -> None:
    read = report_page(pair)
    assert "#target" not in [link["href"] for link in read.all("a")]


def test_a_check_has_a_page(pair: Pair) -> None:
    text = report_page(pair, "--target", "rknn", command="check", status=1).id("target").text
    assert "3 things that it does not take, 2 of which a merge for it writes otherwise" in text
    assert "With merge --target rknn" in text
    assert "it takes all" not in text.lower()
    fine = report_page(pair, "--target", "caffe2onnx", command="check", status=1).id("target").text
    assert "For caffe2onnx" in fine


def test_a_net_that_is_taken(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, prototxt("data 2 3 8 7", "t: TanH data -> t"))
    text = report_page(pair, "--target", "opencv", command="check").id("target").text
    assert "It takes all layers, as far as is known." in text
    merged = report_page(pair, "--target", "opencv").id("target").text
    assert "It took all layers before, and does now" in merged


def test_a_page_harms_no_file(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    mine = pair[0].parent / "mine.html"
    mine.write_text("mine")
    for path in (mine, pair[0].parent / "x.json"):
        words = ["check", *map(str, pair), "--target", "rknn", "--report", str(path)]
        assert main(words) == 2
        assert str(path) in capsys.readouterr().err
    assert mine.read_text() == "mine"

"""The page of one net, by the command show."""

from pathlib import Path

import pytest

from caffe_merge.command.cli import main
from tests.nets import Pair, prototxt, write_pair
from tests.pages.parsing import Page

NET = prototxt(
    "data 2 3 8 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 } }",
    "relu: ReLU conv -> conv",
    "ip: InnerProduct conv -> ip { inner_product_param { num_output: 4 } }",
)

pytestmark = pytest.mark.usefixtures("jinja")


def test_a_net_with_weights(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *map(str, pair)]) == 0
    path = pair[0].with_suffix(".html")
    assert capsys.readouterr().out == f"written: {path}\n"
    page = Page(path)
    assert list(page.boxes(0)) == ["data", "conv", "relu", "ip"]
    tiles = [tile.text for tile in page.all("li") if "chip" not in tile.classes]
    assert "layers 4" in tiles
    assert "parameters 744" in tiles
    assert "multiply-adds 9,300" not in page.id("ranges").text
    assert len(page.all("path", "span")) == 2
    assert page.all("span", "tag")
    assert "fate" not in [head.text for head in page.all("th")]


def test_a_net_without_weights(pair: Pair) -> None:
    path = pair[0].parent / "other.htm"
    assert main(["show", str(pair[0]), "--output", str(path), "-q"]) == 0
    page = Page(path)
    assert page.all("path", "span") == []
    rows = [row.text for row in page.all("tr") if "data-type" in row.attributes]
    assert "604" in rows[3], "parameters are known without weights"


def test_the_names_of_layers_are_text(tmp_path: Path) -> None:
    text = NET.replace('"relu"', '"<script>alert(1)</script>\\033"')
    path = write_pair(tmp_path, text)[0]
    assert main(["show", str(path), "-q"]) == 0
    page = Page(path.with_suffix(".html"))
    assert len(page.all("script")) == 2
    names = [layer["name"] for layer in page.data["layers"].values()]
    assert names[2] == "<script>alert(1)</script>\\x1b"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deploy.txt", None, "expected the name of a page, which ends in .html"),
        ("page.html", "<p>mine</p>", "is no report of an earlier run"),
        ("net.prototxt", None, "expected the name of a page"),
        ("none/page.html", None, "there is no folder"),
    ],
)
def test_nothing_of_the_user_is_replaced(
    pair: Pair, capsys: pytest.CaptureFixture[str], name: str, content: str, message: str
) -> None:
    path = pair[0].parent / name
    if content:
        path.write_text(content)
    before = {p: p.read_bytes() for p in path.parent.glob("*")}
    assert main(["show", *map(str, pair), "--output", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in path.parent.glob("*")} == before


def test_a_net_that_caffe_would_not_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET.replace('bottom: "data"', 'bottom: "nobody"'))
    assert main(["show", str(path)]) == 2
    assert "net.prototxt:10:" in capsys.readouterr().err
    assert not path.with_suffix(".html").exists()

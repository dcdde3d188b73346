"""The index page of a batch, and the page of each of its pairs."""

import re
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import unquote

import pytest

from caffe_merge.command.cli import main
from caffe_merge.pages import batch_page
from tests.batching.trees import net, pair
from tests.pages.parsing import Element, Page

pytestmark = pytest.mark.usefixtures("jinja")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    pair(folder / "a: b", "x?", net(4))
    pair(folder / "b", "<b>y", net(5))
    whole = (folder / "b" / "<b>y.caffemodel").read_bytes()
    (folder / "b" / "broken.caffemodel").write_bytes(whole[:-30])
    return folder


def run(source: Path, *flags: str) -> int:
    out = str(source.parent / "OUT")
    report = str(source.parent / "all: 1.html")
    return main(["batch", str(source), "--output-dir", out, "--report", report, "-q", *flags])


def index(source: Path) -> Page:
    return Page(source.parent / "all: 1.html")


def rows(page: Page) -> List[Element]:
    return [row for row in page.all("tr") if "data-status" in row.attributes]


def test_failures_first_and_a_page_a_pair(source: Path) -> None:
    assert run(source) == 1
    page = index(source)
    assert [row["data-status"] for row in rows(page)] == ["failed", "passed", "passed"]
    assert "broken.caffemodel" in page.id("failures").text
    assert "2 of 3 pairs in place" in page.id("verdict").text
    assert "failed" in page.id("verdict").classes
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert len(links) == 2, "the broken one was never compared"
    for link in links:
        assert not re.match(r"[a-z+.-]+:", link, re.IGNORECASE), "no scheme, whatever names say"
        assert "Passed" in Page(source.parent / unquote(link)).id("verdict").text


def test_a_pair_that_failed_its_validation_has_a_page(source: Path) -> None:
    assert run(source, "--limit", "1e-30") == 1
    page = index(source)
    links = {a.text: a["href"] for a in page.all("a") if not a["href"].startswith("#")}
    assert len(links) == 2
    failed = Page(source.parent / unquote(links["b/<b>y.caffemodel"]))
    assert "was not put in place" in failed.id("verdict").text
    assert "validation" in page.id("failures").text
    assert "merge it alone" in page.id("failures").text


def test_a_batch_that_goes_on_keeps_pages(source: Path) -> None:
    (source / "b" / "broken.caffemodel").unlink()
    assert run(source) == 0
    assert run(source, "--resume") == 0
    page = index(source)
    assert page.id("pairs").text.count("unchanged") == 2
    assert len([a for a in page.all("a") if "_pages" in a["href"]]) == 2
    assert "2 unchanged" in page.id("verdict").text
    assert [title.text for title in page.all("b")][:1] == ["layers"]


def test_a_batch_that_goes_on_makes_pages_that_are_not_there(source: Path) -> None:
    """The run before asked for none; another one took one away."""
    (source / "b" / "broken.caffemodel").unlink()
    output = str(source.parent / "out")
    assert main(["batch", str(source), "--output-dir", output, "--jobs", "1", "-q"]) == 0
    assert run(source, "--resume") == 0
    links = [a["href"] for a in index(source).all("a") if "_pages" in a["href"]]
    assert len(links) == 2
    (source.parent / unquote(links[0])).unlink()
    assert run(source, "--resume") == 0
    page = index(source)
    assert page.id("pairs").text.count("unchanged") == 1
    assert len([a for a in page.all("a") if "_pages" in a["href"]]) == 2


def test_pages_harm_no_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = source.parent / "all: 1_pages" / "a: b" / "x?.caffemodel.html"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run(source) == 1
    assert mine.read_text() == "mine"
    assert "is no report of an earlier run" in capsys.readouterr().err
    (source.parent / "all: 1.html").write_text("mine too")
    assert run(source, "--force") == 2
    assert (source.parent / "all: 1.html").read_text() == "mine too"


def entry(**more: Any) -> Dict[str, Any]:
    plain = {"name": "n", "status": "merged", "kind": "", "reason": "", "advice": "",
             "validation": None, "seconds": 1.0}  # fmt: skip
    return {**plain, **more}


def test_what_is_not_known_is_left_empty() -> None:
    totals = {"pairs": 2, "merged": 2, "unchanged": 0, "failed": 0, "seconds": 2.0}
    pairs = [
        entry(layers=[9, 4], multiply_adds=[None, None], bytes=[1000, 900]),
        entry(
            reason="its page was not written: full", validation={"status": "none", "worst": None}
        ),
    ]
    content = batch_page.content({"totals": totals, "pairs": pairs}, {})
    first, second = content["rows"]
    arrow = " \N{RIGHTWARDS ARROW} "
    texts = [text for text, _ in first["figures"]]
    assert texts == [f"9{arrow}4", "", "", f"1 kB{arrow}900 B"]
    assert second["status"] == "not validated"
    assert second["details"] == ["its page was not written: full"]
    assert content["bars"] == []
    assert content["failures"] == []

"""The pages in a real browser: nothing in its console, clicks work, large nets are quick.

`make test-pages` runs them; they are skipped where there is no Chromium with its driver.
"""

import time
from pathlib import Path
from typing import Iterator

import pytest

from caffe_merge.command.cli import main
from tests.batching.trees import net, pair
from tests.nets import prototxt, write_pair
from tests.pages.browser import Browser, browser
from tests.required import required

FIRST_PAINT = 2000  # milliseconds
NET = prototxt(
    "data 2 3 8 7",
    "conv: Convolution data -> conv { convolution_param { num_output: 5 kernel_size: 3 } }",
    "bn: BatchNorm conv -> bn",
    "relu: ReLU bn -> bn",
    "side: Convolution data -> side { convolution_param { num_output: 5 kernel_size: 3 } }",
    "sum: Eltwise bn side -> sum { eltwise_param { operation: MAX } }",
    "late: BatchNorm sum -> late",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    required("jinja2", "html")
    with browser() as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path, chromium: Browser) -> Iterator[Browser]:
    """The page of a merge; the console must have nothing in the end."""
    path = tmp_path / "report.html"
    files = map(str, write_pair(tmp_path, NET))
    assert main(["merge", *files, "--report", str(path), "-q"]) == 0
    chromium.size(1200, 900)
    chromium.scheme("light")
    chromium.open(path)
    yield chromium
    assert chromium.console == []


def test_a_click_on_a_layer_tells_of_it(page: Browser) -> None:
    page.click(".side .box.gone")
    details = page.text("#details")
    assert details.splitlines()[1:3] == ["bn", "BatchNorm, gone"]
    assert "fold-affine: folded into Convolution 'conv'" in details
    page.click("#details .close")
    assert page.run("return document.getElementById('details').hidden")
    page.click(".side .box.changed")
    assert "takes in 'bn'" in page.text("#details")


def test_a_change_of_parameters_is_told_line_by_line(page: Browser) -> None:
    page.run(
        "show(arguments[0], true)", page.run("return document.querySelector('.box')?.dataset.n")
    )
    before, after = ["a {", "  x: 1", "}"], ["a {", "  x: 2", "  y: 3", "}"]
    lines = page.run("return difference(...arguments).innerText", before, after).splitlines()
    assert lines == ["  a {", "-   x: 1", "+   x: 2", "+   y: 3", "  }"]
    assert page.run("return difference(null, ['a']).innerText") == "  a\n"


def test_the_table_sorts_and_filters(page: Browser) -> None:
    def names() -> "list[str]":
        script = "return [...document.querySelectorAll('#table tbody tr:not([hidden]) .name')]"
        return list(page.run(f"{script}.map((cell) => cell.innerText)"))

    assert names()[0] == "data"
    page.click("#table th:nth-child(2) button")
    assert names() == sorted(names())
    page.click("#table th:nth-child(2) button")
    assert names() == sorted(names(), reverse=True)
    page.write("[name=text]", "batchnorm")
    assert sorted(names()) == ["bn", "late"]
    assert page.text("#table-count") == "2 of 7"
    page.click("#table tbody tr:not([hidden])")
    assert page.text("#details h3") in ("bn", "late")


def test_the_picture_zooms_and_goes_to_the_next_change(page: Browser) -> None:
    width = "return document.querySelector('.scroller svg').clientWidth"
    at_first = page.run(width)
    page.click("[data-do=in]")
    assert page.run(width) == pytest.approx(at_first * 1.25, abs=2)
    page.click("[data-do=out]")
    page.click("[data-do=out]")
    assert page.run(width) < at_first
    page.click("[data-do=fit]")
    assert page.run(width) == pytest.approx(at_first, abs=2)
    for action in ("all", "next", "previous"):
        page.click(f"[data-do={action}]")


def test_a_point_of_the_plot_leads_to_its_layer(page: Browser) -> None:
    page.run("document.querySelector('#errors .point').dispatchEvent(new MouseEvent('click'))")
    assert "limit" in page.text("#errors .reading")
    assert not page.run("return document.getElementById('details').hidden")


def test_dark_as_the_system_is_until_the_button_says_otherwise(page: Browser) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.scheme("dark")
    dark = page.run(paper)
    assert dark != light
    page.click("#theme")
    assert page.run(paper) == light
    page.click("#theme")
    assert page.run(paper) == dark


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.size(width, 800)
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_names_do_nothing(tmp_path: Path, chromium: Browser) -> None:
    name = "</script><script>document.title=1</script><img src=x onerror=document.title=1>"
    text = NET.replace('"relu"', f'"{name}"')
    path = tmp_path / "report.html"
    files = map(str, write_pair(tmp_path, text))
    assert main(["merge", *files, "--report", str(path), "-q"]) == 0
    chromium.open(path)
    title = chromium.run("return document.title")
    chromium.click("#table tbody tr:nth-child(4)")
    assert chromium.text("#details h3") == name
    assert chromium.run("return document.title") == title != "1"
    assert chromium.console == []


def test_a_script_that_is_not_the_page_s_own_does_not_run(page: Browser) -> None:
    page.run(
        "const script = document.createElement('script');"
        "script.textContent = 'document.title = 1'; document.body.append(script)"
    )
    assert page.run("return document.title") != "1"
    assert "Content Security Policy" in "".join(page.console)


def test_a_thousand_layers(tmp_path: Path, chromium: Browser) -> None:
    lines = ["data 1 4 8 8"]
    for at in range(250):
        bottom = f"sum{at - 1}" if at else "data"
        lines += [
            f"c{at}: Convolution {bottom} -> c{at} "
            "{ convolution_param { num_output: 4 kernel_size: 1 } }",
            f"b{at}: BatchNorm c{at} -> b{at}",
            f"r{at}: ReLU b{at} -> b{at}",
            f"sum{at}: Eltwise b{at} {bottom} -> sum{at} {{ eltwise_param {{ operation: MAX }} }}",
        ]
    path = tmp_path / "report.html"
    files = map(str, write_pair(tmp_path, prototxt(*lines)))
    assert main(["plan", *files, "--report", str(path), "-q"]) == 0
    chromium.size(1200, 900)
    chromium.open(path)
    while not (
        paints := chromium.run(
            "return performance.getEntriesByType('paint').map((e) => e.startTime)"
        )
    ):
        time.sleep(0.05)
    assert max(paints) < FIRST_PAINT
    start = time.monotonic()
    chromium.click("[data-do=in]")
    chromium.write("[name=text]", "c249")
    chromium.click("#table tbody tr:not([hidden])")
    assert chromium.text("#details h3") == "c249"
    assert time.monotonic() - start < 5
    assert chromium.console == []


def test_the_pages_of_a_batch(tmp_path: Path, chromium: Browser) -> None:
    pair(tmp_path / "models" / "a", "x", net(4))
    pair(tmp_path / "models" / "b: c", "y#", net(5))
    path = tmp_path / "all.html"
    out = str(tmp_path / "OUT")
    asked = ["batch", str(tmp_path / "models"), "--output-dir", out, "--report", str(path), "-q"]
    assert main(asked) == 0
    for row in (1, 2):
        chromium.open(path)
        chromium.click(f"#table tbody tr:nth-child({row}) a")
        assert "Passed" in chromium.text("#verdict")
    assert chromium.console == []


def test_one_net(tmp_path: Path, chromium: Browser) -> None:
    text, weights = map(str, write_pair(tmp_path, NET))
    assert main(["show", text, weights, "-q"]) == 0
    chromium.open(tmp_path / "net.html")
    chromium.click(".box")
    assert chromium.text("#details h3") == "data"
    assert chromium.console == []

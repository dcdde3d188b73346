"""The page of one merge, by the command and read as HTML."""

import builtins
import json
import re
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.command.cli import main
from caffe_merge.pages.drawing import sized
from tests.nets import Pair, prototxt, seeded, write_pair
from tests.pages.parsing import Page, report_page
from tests.passes import test_absorb_bias as absorbing
from tests.required import required

CONV = "{ convolution_param { num_output: 5 kernel_size: 3 } }"
LINES = (
    "data 2 3 8 7",
    f"conv: Convolution data -> conv {CONV}",
    "bn: BatchNorm conv -> bn",
    "relu: ReLU bn -> bn",
    "late: BatchNorm bn -> late",
    "p: Pooling late -> p { pooling_param { kernel_size: 2 } }",
)
NET = prototxt(*LINES)

pytestmark = pytest.mark.usefixtures("jinja")


def test_a_merge_that_passed(pair: Pair) -> None:
    read = report_page(pair)
    verdict = read.id("verdict")
    assert "passed" in verdict.classes
    assert "Passed" in verdict.text
    assert "net_merged.caffemodel" in verdict.text
    titles = [title.text for title in read.all("b")][:6]
    assert titles == [
        "layers",
        "multiply-adds",
        "parameters",
        "activations",
        "files",
        "worst error",
    ]
    assert "6" in read.all("div", "bar")[0].text
    assert "5" in read.all("div", "bar")[0].text
    before, after = read.boxes(0), read.boxes(1)
    assert list(before) == ["data", "conv", "bn", "relu", "late", "p"]
    assert list(after) == ["data", "conv", "relu", "late", "p"]
    assert before["bn"]["data-fate"] == "gone"
    assert after["conv"]["data-fate"] == "changed"
    points = read.all("path", "point")
    assert len(points) == 4
    assert all("limit 1" in point["data-text"] for point in points)


def test_what_is_not_exact_is_in_the_verdict(tmp_path: Path) -> None:
    lines = [*absorbing.START, absorbing.LAST]
    pair = write_pair(tmp_path, prototxt(*lines), absorbing.quiet(lines, variance=0.1))
    read = report_page(pair, "--absorb-bias")
    verdict = read.id("verdict")
    assert "passed" in verdict.classes
    assert "Passed but for what is not exact, as asked" in verdict.text
    assert "--absorb-bias is not exact: 4 channels of 1 layer shifted; the outputs" in verdict.text
    assert "but for those that are not exact, as asked." in read.id("rewrites").text
    plain = report_page(pair, "--force")
    assert "not exact" not in plain.id("verdict").text + plain.id("rewrites").text


def test_the_table_has_all_layers_and_why(pair: Pair) -> None:
    read = report_page(pair, "--keep", "late")
    rows = [e for e in read.all("tr") if "data-fate" in e.attributes]
    assert [row["data-fate"] for row in rows] == ["kept", "changed", "gone", "kept", "kept", "kept"]
    assert "folded into Convolution 'conv'" in rows[2].text
    assert "still there" in rows[4].text
    numbers = [row["data-n"] for row in rows]
    assert sorted(read.data["layers"]) == sorted(numbers)
    rows_of_conv = dict(read.data["layers"][numbers[1]]["rows"])
    assert rows_of_conv["output"] == sized((2, 5, 6, 5))


def test_rewrites_and_refusals_in_groups(pair: Pair) -> None:
    read = report_page(pair, "--keep", "late")
    assert "fold-affine" in read.id("rewrites").text
    refusals = read.id("refusals").text
    assert "kept as asked with --keep" in refusals, "options are called as flags"
    assert "Leave out the flag" in refusals
    unknown = prototxt(LINES[0], "u: Unheard data -> u", "bn: BatchNorm u -> bn")
    read = report_page(
        write_pair(pair[0].parent, unknown, seeded(NET)),
        "--affine-as",
        "conv",
        command="plan",
    )
    assert "--input-shape BLOB" in read.id("refusals").text


def test_a_layer_that_was_moved(tmp_path: Path) -> None:
    conv = "{ convolution_param { num_output: 32 kernel_size: 1 } }"
    average = "{ pooling_param { pool: AVE kernel_size: 2 stride: 2 } }"
    lines = ("data 1 8 16 16", f"c: Convolution data -> c {conv}", f"p: Pooling c -> p {average}")
    read = report_page(write_pair(tmp_path, prototxt(*lines)))
    after = read.boxes(1)
    assert after["p"]["data-fate"] == "moved"
    assert int(after["p"]["data-y"]) < int(after["c"]["data-y"])
    (text,) = read.data["layers"][after["p"]["data-n"]]["rewrites"]
    assert text[0] == "pool-first"
    assert text[1].endswith(".")


def test_a_merge_that_failed(pair: Pair) -> None:
    read = report_page(pair, "--limit", "1e-30", status=1)
    verdict = read.id("verdict")
    assert "failed" in verdict.classes
    assert "was not put in place" in verdict.text
    assert read.all("path", "beyond")
    assert any("beyond" in box.classes for box in read.boxes(1).values())
    assert not (pair[0].parent / "net_merged.prototxt").exists()


def test_a_merge_that_was_not_validated_and_one_that_does_nothing(pair: Pair) -> None:
    read = report_page(pair, "--validate", "none")
    assert "Not validated" in read.id("verdict").text
    assert read.all("path", "point") == []
    again = report_page(
        (pair[0].parent / "net_merged.prototxt", pair[0].parent / "net_merged.caffemodel")
    )
    assert "Nothing to do" in again.id("verdict").text


def test_a_plan(pair: Pair) -> None:
    read = report_page(pair, command="plan")
    assert "nothing was written" in read.id("verdict").text
    assert list(read.boxes(1)) == ["data", "conv", "relu", "late", "p"]


def test_a_net_whose_shapes_are_not_known(tmp_path: Path) -> None:
    lines = (
        LINES[0],
        "u: Unheard data -> u",
        *(line.replace("data ->", "u ->") for line in LINES[1:]),
    )
    blobs = {**seeded(NET), "u": []}
    read = report_page(write_pair(tmp_path, prototxt(*lines), blobs), "--validate", "none")
    assert read.boxes(0)["u"]
    assert "?" in read.id("layers").text


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '\\" onclick=alert(1) x=\\"',
    "\\033[31mred\\007",
    "\u202etxt",
    "{{ 7*7 }}",
    "\\351t\\351",
]  # as they stand in the text of a net


def test_hostile_names_are_text(tmp_path: Path) -> None:
    pages: List[Page] = []
    for names in ([f"name{n}" for n in range(len(HOSTILE))], HOSTILE):
        text = prototxt("data 2 3 8 7")
        for at, name in enumerate(names):
            bottom = names[at - 1] if at else "data"
            text += f'layer {{ name: "{name}" type: "AbsVal" bottom: "{bottom}" top: "{name}" }}\n'
        text += f'layer {{ name: "d" type: "Dropout" bottom: "{names[-1]}" top: "d" }}\n'
        folder = tmp_path / str(len(pages))
        folder.mkdir()
        pages.append(report_page(write_pair(folder, text, seeded(prototxt("data 2 3 8 7")))))
    plain, hostile = ([element.tag for element in read.elements] for read in pages)
    assert hostile == plain
    attributes = [{*element.attributes} for element in pages[1].elements]
    assert attributes == [{*element.attributes} for element in pages[0].elements]
    assert not re.search(r"[^\n -\U0010ffff]|\u202e|\x7f", pages[1].source)
    names = [layer["name"] for layer in pages[1].data["layers"].values()]
    assert HOSTILE[0] in names
    assert "\\x1b[31mred\\x07" in names
    assert "\\u202etxt" in names
    assert "\\xe9t\\xe9" in names


def test_what_images_showed(pair: Pair) -> None:
    required("PIL", "images")
    from PIL import Image

    folder = pair[0].parent / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(random.integers(0, 255, (8, 7, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "labels").write_text("a.png 0\nb.png 1\nc.png 0\n")
    text = prototxt(
        "data 1 3 8 7",
        f"conv: Convolution data -> conv {CONV}",
        "bn: BatchNorm conv -> bn",
        "ip: InnerProduct bn -> ip { inner_product_param { num_output: 4 } }",
    )
    files = write_pair(pair[0].parent, text)
    asked = ["--images", *(str(folder / f"{n}.png") for n in "abc")]
    read = report_page(files, *asked, "--labels", str(folder / "labels"))
    gains = read.id("gains").text
    assert "output 'ip' on 3 images: largest error" in gains
    assert "first class the same for 3" in gains
    assert "accuracy before and after:" in gains


def test_a_page_replaces_a_page_and_nothing_else(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    report_page(pair)
    report_page(pair, "--force")
    path = pair[0].parent / "report.html"
    path.write_text("<p>my own</p>")
    assert main(["merge", *map(str, pair), "--report", str(path), "--force"]) == 2
    assert "is no report of an earlier run" in capsys.readouterr().err
    assert path.read_text() == "<p>my own</p>"


def test_without_jinja_nothing_is_begun(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    path = pair[0].parent / "report.html"
    assert main(["merge", *map(str, pair), "--report", str(path)]) == 2
    assert "pip install caffe_merge[html]" in capsys.readouterr().err
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_the_library_writes_pages_too(pair: Pair) -> None:
    path = pair[0].parent / "report.html"
    assert caffe_merge.convert(*pair, report=str(path)).ok
    assert "Passed" in Page(path).id("verdict").text


def test_the_json_report_has_the_memory_of_all_blobs(pair: Pair) -> None:
    path = pair[0].parent / "report.json"
    assert main(["merge", *map(str, pair), "--report", str(path), "-q"]) == 0
    report = json.loads(path.read_text())
    conv, data, pool = 2 * 5 * 6 * 5, 2 * 3 * 8 * 7, 2 * 5 * 5 * 4
    before = 4 * (data + 7 * conv + 2 * pool)  # with what BatchNorm, Scale and a maximum hold
    assert report["before"]["activation_bytes"] == before
    assert report["after"]["activation_bytes"] == 4 * (data + 2 * conv + 2 * pool)
    assert np.isfinite(report["validation"]["worst"][1])

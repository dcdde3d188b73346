"""Folders are walked, lists are read; what is nobody's input is left out."""

from pathlib import Path
from typing import Optional

import pytest

from caffe_merge.batching.sources import JOURNAL, Sources
from caffe_merge.errors import UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_without_hidden_files_outputs_and_links(tmp_path: Path) -> None:
    touch(tmp_path, "m/b/x.prototxt", "m/a/y.caffemodel", "m/a/y.caffemodel.h5", "m/notes.md")
    touch(tmp_path, "m/.git/x.prototxt", "m/a/.x.caffemodel", "m/OUT/x.prototxt")
    touch(tmp_path, "m/a/y_merged.caffemodel", "m/a/z_merged.prototxt")
    touch(tmp_path, f"m/earlier/{JOURNAL}", "m/earlier/x.prototxt")
    (tmp_path / "m" / "loop").symlink_to(tmp_path / "m")
    source = str(tmp_path / "m")
    sources = Sources([source], str(tmp_path / "m" / "OUT"))
    assert sources.root == source
    assert sources.texts == {
        f"{source}/a": [f"{source}/a/z_merged.prototxt"],
        f"{source}/b": [f"{source}/b/x.prototxt"],
    }
    assert sources.weights == {
        f"{source}/a": [f"{source}/a/y.caffemodel", f"{source}/a/y.caffemodel.h5"]
    }
    assert [(Path(e.path).name, e.why) for e in sources.left_out] == [
        ("y_merged.caffemodel", "the output of an earlier merge"),
        ("earlier", "the outputs of an earlier batch"),
        ("loop", "a link to a folder"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "model,weights,mean,--swap-rgb\na/x.prototxt,b/x.caffemodel,\"1,2,3\",\n"),
        ("l.csv", "\ufeffWeights, Mean ,model\r\nb/x.caffemodel,\"1,2,3\", a/x.prototxt\r\n"),
        ("l.tsv", "# nets\nmodel\tweights\tmean\na/x.prototxt\tb/x.caffemodel\t1,2,3\n"),
        ("l.txt", "model weights mean\n\n# one\na/x.prototxt b/x.caffemodel 1,2,3  # a mean\n"),
        ("l.txt", "model weights mean\n'a/x.prototxt' \"b/x.caffemodel\" 1,2,3\n"),
        ("l.txt", "model, weights, mean\na/x.prototxt, b/x.caffemodel, \"1,2,3\"\n"),
    ],
)  # fmt: skip
def test_lists(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    (row,) = Sources([str(tmp_path / name)], "OUT").rows
    assert (row.model, row.weights) == (
        str(tmp_path / "a/x.prototxt"),
        str(tmp_path / "b/x.caffemodel"),
    )
    cells = {name: cell.strip('" ') for name, cell in row.cells.items()}
    assert cells == {"mean": "1,2,3"}


def test_a_list_without_a_head_is_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("/z/x.prototxt ../x.caffemodel\n")
    sources = Sources([str(tmp_path / "l.txt")], "OUT")
    assert sources.rows[0][:2] == ("/z/x.prototxt", str(tmp_path.parent / "x.caffemodel"))
    assert sources.root == "/"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty list"),
        ("model,mean\n", "expected the columns model, weights"),
        ("model,weights,weights\n", "each once"),
        ("model,weights\na,b\na,\n", "l.csv:3: expected a model and its weights"),
        ("model,weights\na,b,c\n", "l.csv:2: expected at most 2 columns, found 3"),
        ('model,weights\n"a\0', None),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str, message: Optional[str]) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        Sources([str(tmp_path / "l.csv")], "OUT")


def test_several_sources_have_their_common_folder_as_root(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.caffemodel", "b/c/y.prototxt", "b/c/y.caffemodel")
    sources = Sources([str(tmp_path / "a"), str(tmp_path / "b/c/y.prototxt")], "OUT")
    assert sources.root == str(tmp_path)
    assert sources.named == {f"{tmp_path}/b/c/y.prototxt": [f"{tmp_path}/b/c/y.caffemodel"]}


def test_what_is_given_twice_is_looked_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "m/x.prototxt", "m/sub/x.caffemodel", "m/.hidden/y.caffemodel", "mm/z.prototxt")
    (tmp_path / "link").symlink_to(tmp_path / "m")
    touched = f"{tmp_path}/m"
    for arguments in (["m", "m"], ["m/sub", "m/", "m/sub"], ["m", "link"], ["m", "m/../link/sub"]):
        sources = Sources([f"{tmp_path}/{source}" for source in arguments], "OUT")
        assert sources.tops == [touched]
        assert sources.root == touched
        assert sources.texts == {touched: [f"{touched}/x.prototxt"]}
        assert sources.weights == {f"{touched}/sub": [f"{touched}/sub/x.caffemodel"]}
    apart = Sources([f"{tmp_path}/{source}" for source in ("m", "m/.hidden", "mm")], "OUT")
    assert len(apart.tops) == 3
    (tmp_path / "l.csv").write_text("m/x.prototxt,m/sub/x.caffemodel\n")
    assert len(Sources([f"{tmp_path}/l.csv", f"{tmp_path}/m/../l.csv"], "OUT").rows) == 1


def test_what_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "x.caffemodel")
    with pytest.raises(UsageError, match="found weights"):
        Sources([str(tmp_path / "x.caffemodel")], "OUT")
    with pytest.raises(UsageError, match="the outputs would be among the inputs"):
        Sources([str(tmp_path)], str(tmp_path))

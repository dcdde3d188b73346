"""Outputs that would harm a file are refused: by inode, whatever links lead there."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import List, Tuple

import pytest

from caffe_merge.command import cli
from caffe_merge.errors import UsageError
from caffe_merge.files import workplace
from caffe_merge.files.outputs import check_outputs
from caffe_merge.files.places import is_of_the_system
from caffe_merge.files.replacement import Replacement
from tests.nets import write_pair
from tests.required import required
from tests.test_bad_input import BLOBS, TEXT

Pair = Tuple[Path, Path]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_pair(tmp_path, TEXT, BLOBS)


def flags(pair: Pair, *more: object) -> List[str]:
    """The command merge on a pair, without validation."""
    return ["merge", "-q", "--validate", "none", *_flags(pair), *map(str, more)]


def _flags(pair: Pair) -> List[str]:
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


def test_names_that_look_temporary_are_names_like_others(pair: Pair, tmp_path: Path) -> None:
    """An input or output of a name that a tool might use itself is neither harmed nor mixed."""
    for number, name in enumerate((".out.prototxt.old", ".out.prototxt.part", ".out.part")):
        model = tmp_path / name
        model.write_bytes(pair[0].read_bytes())
        out = tmp_path / "out.prototxt", tmp_path / ".out.prototxt.part.caffemodel"
        outputs = ["--output-model", out[0], "--output-weights", out[1], "--force"]
        assert cli.main(flags((model, pair[1]), *outputs)) == 0
        assert model.read_bytes() == pair[0].read_bytes(), number
    outputs = ["--output-model", tmp_path / "x", "--output-weights", tmp_path / ".x.part"]
    assert cli.main(flags(pair, *outputs)) == 0
    assert (tmp_path / "x").read_bytes().startswith(b"name:")
    assert not (tmp_path / ".x.part").read_bytes().startswith(b"name:")


def test_planted_links_lead_nowhere(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "net_merged.prototxt", tmp_path / "net_merged.caffemodel"
    before = [path.read_bytes() for path in pair]
    for path in out:
        for suffix in ("part", "old"):
            (tmp_path / f".{path.name}.{suffix}").symlink_to(pair[1])
        (planted,) = [item for item, _ in zip(workplace._paths(str(path)), range(1))]
        Path(planted).symlink_to(tmp_path)
    assert cli.main(flags(pair)) == 0
    assert [path.read_bytes() for path in pair] == before
    assert all(path.is_file() and not path.is_symlink() for path in out)


@pytest.mark.parametrize("flag", ["--output-model", "--output-weights", "--report"])
def test_no_output_is_an_input_or_another_output(
    flag: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hard links, soft links, and the same folder under another name."""
    other = tmp_path / "other"
    other.symlink_to(tmp_path)
    proto = tmp_path / "my.proto"
    proto.write_text("syntax = 'proto2'; message NetParameter {}")
    mean = tmp_path / "mean.npy"
    mean.write_bytes(b"any")
    data = tmp_path / "data.npy"
    data.write_bytes(b"any")
    read = ["--proto", proto, "--mean", f"x={mean}", "--input", f"x={data}"]
    before = {path: path.read_bytes() for path in (*pair, proto, mean, data)}
    for path in before:
        hard, soft = tmp_path / "hard", tmp_path / "soft"
        os.link(path, hard)
        soft.symlink_to(path)
        for output in (path, hard, soft, other / path.name):
            assert cli.main(flags(pair, *read, "--force", flag, output)) == 2
            assert "would overwrite the input" in capsys.readouterr().err
        hard.unlink()
        soft.unlink()
    assert {path: path.read_bytes() for path in before} == before
    for arguments in ("--output-model", "--output-weights"):
        if arguments != flag:
            outputs = [arguments, tmp_path / "o", flag, other / "o"]
            assert cli.main(flags(pair, "--force", *outputs)) == 2
            assert "both outputs have this name" in capsys.readouterr().err


REPORTS = {
    "nothing": b"",
    "a merged text": TEXT.encode(),
    "the word alone": b'{"schema": "caffe_merge.report/1", "files": ',
    "the word in a comment": b"# caffe_merge.report/1\n" + TEXT.encode(),
    "another schema": b'{"schema": "other/1", "of": "caffe_merge.report/1"}',
    "a list": b'["caffe_merge.report/1"]',
    "nested": b'{"schema": "caffe_merge.report/1", "x": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("command", ["merge", "plan"])
@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_replaces_reports_only(
    kind: str, command: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(REPORTS[kind])
    words = [command, *_flags(pair), "--report", str(path), "-q"]
    words += ["--validate", "none", "--force"] if command == "merge" else []
    assert cli.main(words) == 2
    assert "r.json: exists already, and is no report of an earlier run" in capsys.readouterr().err
    assert path.read_bytes() == REPORTS[kind]
    assert len(list(tmp_path.iterdir())) == 3
    path.unlink()
    for _ in range(2):
        assert cli.main(words) == 0
        assert json.loads(path.read_bytes())["schema"] == "caffe_merge.report/1"


@pytest.mark.parametrize("command", ["merge", "plan"])
def test_a_report_of_another_kind_is_refused(
    command: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("r.pdf", "r", "r.json.gz", ".html.txt"):
        assert cli.main([command, *_flags(pair), "--report", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert f"{name}: expected the name of a report, which ends in .html, .htm or .json" in said
    assert len(list(tmp_path.iterdir())) == 2


MISTAKES = {
    "a text that is none": (b"layer {", None, (), "expected"),
    "weights that are none": (None, b"\n\xff\xff\xff\xff\x0f", (), "net.caffemodel"),
    "an unknown target": (None, None, ("--target", "nobody"), "nobody"),
    "an unknown pass": (None, None, ("--skip", "nothing"), "nothing"),
    "an unknown style": (None, None, ("--bn-style", "nobody's"), "nobody's"),
    "an unknown layer": (None, None, ("--keep", "nothing"), "nothing"),
    "a scale that is none": (None, None, ("--scale", "half"), "half"),
    "an image that is not there": (None, None, ("--images", "no.png"), "no.png"),
    "a mean that is not there": (None, None, ("--mean", "no.npy"), "no.npy"),
    "a mean of another number": (None, None, ("--mean", "1,2"), "expected 1 or 3 values"),
    "a scale of another number": (None, None, ("--scale", "1,2"), "expected 1 or 3 values"),
    "no pixels to keep a layer of": (None, None, ("--input-layer",), "there is no --mean"),
    "an input that is none": (None, None, ("--mean", "nothing=1"), "no input"),
    "a shape that does not fit": (None, None, ("--input-shape", "x=1,3,1,1"), "expected shape"),
    "an engine that is not here": (
        None,
        None,
        ("--validate", "pycaffe", "--caffe-python", "no-python"),
        "no-python",
    ),
    "inputs that are none": (None, None, ("--input", "data=no.npy"), "no.npy"),
}


@pytest.mark.parametrize("in_the_way", ["net_merged.prototxt", "r.json"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_what_was_given_comes_before_what_exists(
    mistake: str,
    in_the_way: str,
    pair: Pair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, weights, more, said = MISTAKES[mistake]
    for path, data in zip(pair, (text, weights)):
        if data is not None:
            path.write_bytes(data)
    (tmp_path / in_the_way).write_bytes(b"a user's")
    report = str(tmp_path / "r.json")
    assert cli.main(["merge", *_flags(pair), "--report", report, *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "exists already" not in error
    assert (tmp_path / in_the_way).read_bytes() == b"a user's"


def test_what_is_not_here_is_told_before_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of the files is there, so a file that was read first would be told first."""
    merge = ["merge", "no.prototxt", "no.caffemodel"]
    assert cli.main([*merge, "--validate", "pycaffe", "--caffe-python", "no-python"]) == 2
    assert "cannot run the interpreter no-python" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "x.png").touch()
    assert cli.main([*merge, "--images", str(tmp_path / "x.png")]) == 2
    assert "--images: Pillow is not here" in capsys.readouterr().err


def test_a_page_is_not_in_the_way_of_a_mistake(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    required("jinja2", "html")
    page = pair[0].with_suffix(".html")
    page.write_text("a user's")
    for command in (["show"], ["check", "--target", "ncnn", "--report", str(page)]):
        assert cli.main([*command, *map(str, pair)]) == 2
        assert "exists already, and is no report" in capsys.readouterr().err
    pair[0].write_text("layer {")
    for command in (["show"], ["check", "--target", "ncnn", "--report", str(page)]):
        assert cli.main([*command, *map(str, pair)]) == 2
        assert "exists already" not in capsys.readouterr().err
    assert page.read_text() == "a user's"


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout")
def test_devices_and_open_files_are_never_targets(tmp_path: Path) -> None:
    """Only the check is run: nothing could be written, whatever it says."""
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to("/dev/stdout")
    second.symlink_to("link")
    with open(tmp_path / "open", "wb") as handle:
        number = handle.fileno()
        for path in (
            "/dev/stdout", "/dev/null", "/dev/../dev/stderr", f"/dev/fd/{number}",
            f"/proc/self/fd/{number}", f"/proc/{os.getpid()}/fd/{number}", "/dev/nothing",
            str(link), str(second),
        ):  # fmt: skip
            assert is_of_the_system(path)
            with pytest.raises(UsageError, match="is a device or the like"):
                check_outputs((), (str(tmp_path / "x"), path))
    for path in (str(tmp_path / "open"), "/dev/shm/x", str(tmp_path / "dev" / "x"), "dev"):
        assert not is_of_the_system(path)


def test_what_a_killed_run_left_is_no_input(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = os.fork()
    if child == 0:
        with Replacement(str(tmp_path / "net_merged.caffemodel")) as run:
            run.handles[0].write(pair[1].read_bytes())
            run.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.glob(".caffe_merge.*/new")
    link = tmp_path / "link"
    link.symlink_to(left)
    for path in (left, link):
        assert cli.main(flags((pair[0], path))) == 2
        assert "a run that was killed left this; move it" in capsys.readouterr().err
    os.rename(left, tmp_path / "mine")
    assert cli.main(flags((pair[0], tmp_path / "mine"))) == 0
    assert (tmp_path / "mine").read_bytes() == pair[1].read_bytes()
    assert cli.main(flags(pair)) == 2  # prototxt is there

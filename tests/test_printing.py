"""What a terminal gets: names of files are anything, and nothing in them acts on it."""

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_merge.command.cli import main, merge_bn
from caffe_merge.formats.schema import strings
from caffe_merge.formats.text.values import format_string
from caffe_merge.wording import counted, listed, named, quoted, visible
from tests.nets import write_pair
from tests.seeds import examples

BITS = {
    "\x1b[2J": "\\x1b[2J",
    "\x07": "\\x07",
    "\x9b31m": "\\x9b31m",
    "\r\n": "\\r\\n",
    "\x7f": "\\x7f",
    "\u202e": "\\u202e",
    "\u2066": "\\u2066",
    "\u200b": "\\u200b",
    "\u2028": "\\u2028",
    "\ufeff": "\\ufeff",
    "\0": "\\x00",
    strings.decode(b"\xe9"): "\\xe9",
    "\udce9": "\\xe9",
    "\U000e0041": "\\U000e0041",
    "é卷😀 '\"\\": "é卷😀 '\"\\",
}


@pytest.mark.parametrize("text", BITS)
def test_visible(text: str) -> None:
    assert visible(f"a{text}b") == f"a{BITS[text]}b"
    assert visible(visible(text)) == visible(text)
    assert visible("conv1") == "conv1"


def test_bytes_are_the_same_in_quotes() -> None:
    assert visible(repr(strings.decode(b"caf\xe9"))) == "'caf\\xe9'"
    assert visible(repr("\\U0010ffe9")) == r"'\\U0010ffe9'"  # a name that is these ten letters


@examples(100)
@given(st.text())
def test_whatever_it_is(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)


def test_words() -> None:
    assert [counted(n, "blob") for n in (0, 1, 2, 1000)] == [
        "0 blobs", "1 blob", "2 blobs", "1,000 blobs",
    ]  # fmt: skip
    assert [counted(n, "axis") for n in (1, 2)] == ["1 axis", "2 axes"]
    assert [counted(n, "pair of brackets") for n in (1, 2)] == [
        "1 pair of brackets", "2 pairs of brackets",
    ]  # fmt: skip
    assert listed(["a", "b"]) == "a, b"
    assert named(list("abcdefg")) == "'a', 'b', 'c' and 4 more"
    assert named(["x" * 999]) == quoted("x" * 999)
    assert quoted("x" * 120) == repr("x" * 120)
    assert quoted("x" * 999 + "y") == repr("x" * 60 + "..." + "x" * 59 + "y") + (
        " (1,000 characters)"
    )


EVIL = "\x1b]0;x\x07\x9b2J\u202e\n\r\u2066é\u200b"
TEXT = """name: %(evil)s
input: %(in)s
input_shape { dim: 2 dim: 3 dim: 6 dim: 5 }
layer { name: %(conv)s type: "Convolution" bottom: %(in)s top: %(conv)s param { name: %(w)s }
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: %(bn)s type: "BatchNorm" bottom: %(conv)s top: %(conv)s }
layer { name: %(pool)s type: "Pooling" bottom: %(conv)s top: %(pool)s
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: %(bn2)s type: "BatchNorm" bottom: %(pool)s top: %(bn2)s }
layer { name: %(drop)s type: "Dropout" bottom: %(bn2)s top: %(drop)s }
layer { name: %(odd)s type: %(type)s bottom: %(drop)s top: %(odd)s odd: %(evil)s }
layer { name: %(fc)s type: "InnerProduct" bottom: %(drop)s top: %(fc)s
  inner_product_param { num_output: 3 } }
layer { name: %(bn3)s type: "BatchNorm" bottom: %(fc)s top: %(out)s }
"""
NAMES = ("in", "conv", "w", "bn", "pool", "bn2", "drop", "odd", "type", "fc", "bn3", "out")


def blobs(wrong: float = 0.0) -> Dict[str, List[np.ndarray]]:
    random = np.random.default_rng(0)

    def norm(size: int) -> List[np.ndarray]:
        return [random.standard_normal(size), 1 + random.random(size), np.ones(1)]

    return {
        "conv": [random.standard_normal((4, 3, 3, 3)), random.standard_normal(4)],
        "bn": norm(4),
        "bn2": norm(4),
        "fc": [random.standard_normal((3, 16)), random.standard_normal(3) + wrong],
        "bn3": norm(3),
        "surplus": [np.ones(2)],
    }


def hostile(folder: Path, stem: str = "net", text: str = TEXT, wrong: float = 0.0) -> List[str]:
    """A pair whose every name is hostile, as flags."""
    folder.mkdir(exist_ok=True)
    shown = {name: format_string(name + EVIL) for name in (*NAMES, "evil", "nothing")}
    held = {name + EVIL: arrays for name, arrays in blobs(wrong).items()}
    pair = write_pair(folder, text % shown, held, stem)
    return ["--model", str(pair[0]), "--weights", str(pair[1])]


def printed(capsys: pytest.CaptureFixture) -> str:
    out, err = capsys.readouterr()
    for line in (out + err).split("\n"):
        assert line.isprintable(), repr(line)
    return str(out + err)


RAW_LINES = ("\\x1b]0;x\\x07\\x9b2J\\u202e\\n\\r\\u2066é\\u200b",)


def test_every_command_prints_hostile_names_visibly(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pair = hostile(tmp_path)
    report = str(tmp_path / "r.json")
    for more in ([], ["-v"], ["--report", report]):
        assert main(["plan", *pair, *more]) == 0
        assert "conv\\x1b]0;x" in printed(capsys)
    assert main(["inspect", *pair]) == 0
    table = printed(capsys)
    assert all(f"{name}{RAW_LINES[0]}" in table for name in ("conv", "bn3", "odd", "type"))
    assert len({line.index("  2x") for line in table.split("\n") if "  2x" in line}) == 1
    assert merge_bn([*pair, "-v", "--report", report, "--force"]) == 0
    assert "surplus\\x1b]0;x" in printed(capsys)
    assert main(["validate", *pair, "-v"]) == 0
    assert "out" + RAW_LINES[0] in printed(capsys)
    names = [change["removed"] for change in json.loads(Path(report).read_text())["changes"]]
    assert ["bn" + EVIL] in names  # in JSON they are exact


def test_failures_print_hostile_names_visibly(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pair = hostile(tmp_path)
    other = hostile(tmp_path, "other", wrong=1.0)
    outputs = ["--output-model", other[1], "--output-weights", other[3]]
    assert main(["validate", *pair, *outputs, "-v"]) == 1
    assert "fc\\x1b]0;x" in printed(capsys)
    for old, new in (
        ("bottom: %(pool)s", "bottom: %(nothing)s"),
        ("type: %(type)s", "type: 5"),
        ("kernel_size: 3", "kernel_size: 7"),
        ("num_output: 3", "num_output: 5"),
        ("num_output: 4", "num_output: 4 \x1b"),
        ("num_output: 4", "num_output: '\x1b\u202e'"),
        ("num_output: 4", "\u202e: 4"),
    ):
        bad = hostile(tmp_path, "bad", TEXT.replace(old, new))
        for command in ("inspect", "plan"):
            assert main([command, *bad, *(["-v"] if command == "plan" else [])]) in (0, 2), new
            assert "internal error" not in printed(capsys)


def test_hdf5_names_and_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    h5py = pytest.importorskip("h5py")
    pair = hostile(tmp_path)
    path = tmp_path / f"x{EVIL[:6]}.h5"
    with h5py.File(path, "w") as file:
        file.create_group("data")[EVIL.encode() + b"\xe9"] = h5py.SoftLink("/nothing")
    assert main(["inspect", *pair[:3], str(path)]) == 2
    output = printed(capsys)
    assert "the link '\\x1b]0;x" in output
    assert "\\u200b\\xe9' in '/data' leads to nothing" in output
    assert main(["inspect", "--model", EVIL.replace("\0", "")[:9], "--nothing" + EVIL[:9]]) == 2
    printed(capsys)


def test_a_traceback_too(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("\x1b[2J\nsecond")

    monkeypatch.setattr("caffe_merge.net.loading.load", fail)
    monkeypatch.setattr("caffe_merge.merging.planning.load_as", fail)
    assert main(["plan", *hostile(tmp_path), "-v"]) == 2
    err = printed(capsys)
    assert "Traceback" in err
    assert "internal error, please report it: RuntimeError: \\x1b[2J\\nsecond" in err

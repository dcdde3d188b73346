"""The benchmark of validation's sharpness counts what is found."""

from pathlib import Path

import pytest

from benchmarks import sharpness
from tests.nets import prototxt, write_pair

LINES = (
    "data 1 3 6 6",
    "c: Convolution data -> c { convolution_param { num_output: 4 kernel_size: 3 } }",
    "b: BatchNorm c -> c",
    "t: TanH c -> t",
)


def test_a_pair_is_merged_and_made_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, prototxt(*LINES))
    monkeypatch.setattr("sys.argv", ["sharpness", str(tmp_path), "--places", "2"])
    sharpness.main()
    rows = [line.split("|")[1:6] for line in capsys.readouterr().out.splitlines() if "|" in line]
    actual = {row[0].strip(): [int(cell) for cell in row[1:]] for row in rows[2:]}
    assert actual.pop("right, deviation 1") == actual.pop("right, deviation 128") == [1, 1, 0, 0]
    assert actual[sharpness.EPS] == [1, 0, 1, 0]
    assert actual["one channel by 1 %"] == [2, 0, 2, 0]
    assert set(actual) == {sharpness.EPS, *(kind.name for kind in sharpness.KINDS)}


def test_what_is_too_small_to_be_found_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, prototxt(*LINES))
    kind = sharpness.Kind("one weight by a millionth", 0, False, 1 + 1e-6)
    monkeypatch.setattr(sharpness, "KINDS", (kind,))
    monkeypatch.setattr("sys.argv", ["sharpness", str(tmp_path), "--places", "1"])
    sharpness.main()
    said = capsys.readouterr().out
    assert "| one weight by a millionth | 1 | 1 | 0 | 0 |" in said
    (line,) = (line for line in said.splitlines() if "one weight by a millionth: c, blob 0" in line)
    assert 0 < float(line.rpartition("moves by ")[2]) < 1e-5

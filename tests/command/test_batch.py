"""The command batch: what it prints, its reports, its exit statuses."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

import caffe_merge
from caffe_merge.batching.sources import JOURNAL
from caffe_merge.command.cli import main
from tests.batching.trees import net, pair, training, two_pairs, weights


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return two_pairs(tmp_path / "models")


def run(source: Path, *arguments: str) -> int:
    out = str(source.parent / "OUT")
    return main(["batch", str(source), "--output-dir", out, "--validate", "none", *arguments])


def test_a_line_a_pair_and_a_table(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(source) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "pair"
    assert re.fullmatch(
        r"a/x\.caffemodel  not validated  4 -> 3  \S+ -> \S+  \S+ -> \S+ +\d+\.\d\d",
        re.sub(r"  +", "  ", lines[2]),
    )
    assert lines[4].startswith("2 of 2 pairs in place; layers 8 -> 6; ")
    assert sorted(re.sub(r"\d+\.\d+ s|\[\d/2\] ", "", line) for line in err.splitlines()) == [
        "a/x.caffemodel: not validated, ",
        "b/y.caffemodel: not validated, ",
    ]
    assert run(source, "--resume") == 0
    assert "2 of 2 pairs in place; 2 of them unchanged" in capsys.readouterr().out


def test_the_library_resumes_what_the_command_did(source: Path) -> None:
    assert run(source, "--quiet") == 0
    how = {"output_dir": source.parent / "OUT", "validate": "none", "resume": True}
    results = list(caffe_merge.batch(source, **how))
    assert [result.outcome.status for result in results] == ["unchanged", "unchanged"]


def test_one_bar_on_a_terminal(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(source, "--jobs", "1") == 0
    err = capsys.readouterr().err
    assert "0/2 [" in err
    assert "a/x.caffemodel" in err
    assert "\n" not in err.strip()
    assert run(source, "--force", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_failures_are_named_with_what_to_do(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "a" / "copy.prototxt").write_text(net(4))
    (source / "a" / "x.prototxt").rename(source / "a" / "other.prototxt")
    assert run(source) == 1
    expected = (
        f"failed: a/x.caffemodel: it fits 2 nets in its folder equally well, and no name decides: "
        f"{source}/a/copy.prototxt, {source}/a/other.prototxt; name the pair in a list"
    )
    assert capsys.readouterr().out.splitlines()[-1] == expected
    assert run(source, "--resume", "--quiet") == 1
    assert capsys.readouterr() == ("", expected + "\n")


def test_a_list_is_advised_only_where_it_helps(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (source / "a" / "x.caffemodel").read_bytes()
    (source / "a" / "x.caffemodel").write_bytes(whole[:-20])
    (source / "b" / "y.prototxt").write_text(training(5))
    weights(source / "c", "z", net(6))
    assert run(source, "--report", "-") == 1
    out, err = capsys.readouterr()
    kinds = {entry["name"]: (entry["kind"], entry["advice"]) for entry in json.loads(out)["pairs"]}
    assert kinds == {
        "a/x.caffemodel": ("input", ""),
        "b/y.caffemodel": ("input", ""),
        "c/z.caffemodel": ("pairing", "name the pair in a list"),
    }
    assert "b/y.prototxt fits, but is for training: --deploy makes it one to deploy\n" in err


def test_the_outputs_of_an_earlier_batch_are_no_source(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, "--quiet") == 0
    out = source.parent / "OUT"
    assert main(["batch", str(out), "--output-dir", str(source.parent / "other")]) == 2
    expected = f"{out}: nothing to merge: {out} is left out, the outputs of an earlier batch\n"
    assert capsys.readouterr().err.endswith(expected)


def test_bad_usage(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (("--jobs", "0"), "argument --jobs: expected a whole number of at least 1, found 0"),
        (("--timeout", "-1"), "argument --timeout: expected a number above 0"),
        (("--only", "fold-afine"), "fold-afine"),
        (("--report", str(source / "a" / "x.prototxt")), "the report would overwrite a file of"),
        (("--report", str(source / "b" / "no" / "r.json")), "there is no folder"),
        (("--report", f"{source.parent}/OUT/{JOURNAL}"), "would overwrite the journal"),
        (("--output-dir", __file__), f"{__file__} is not a folder"),
        (("--output-dir", f"{__file__}/sub"), f"{__file__} is not a folder"),
    ):
        assert run(source, *arguments) == 2
        assert message in capsys.readouterr().err
    assert main(["batch", str(source / "none"), "--output-dir", "OUT"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_plan_is_printed_and_nothing_done(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights(source / "c", "z", net(6))
    (source / "solver.prototxt").write_text("base_lr: 1")
    assert run(source, "--plan") == 0
    out = source.parent / "OUT"
    assert capsys.readouterr().out.splitlines() == [
        f"{source}/a/x.caffemodel + {source}/a/x.prototxt: the net in its folder whose layers and "
        "shapes it fits",
        f"  -> {out}/a/x.prototxt, {out}/a/x.caffemodel",
        f"{source}/b/y.caffemodel + {source}/b/y.prototxt: the net in its folder whose layers and "
        "shapes it fits",
        f"  -> {out}/b/y.prototxt, {out}/b/y.caffemodel",
        f"no pair: {source}/c/z.caffemodel: there is no text of a net in its folder or above",
        f"left out: {source}/solver.prototxt: a solver's settings",
        "2 pairs, 1 without a partner",
    ]
    assert run(source, "--plan", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert not out.exists()


def reports(source: Path) -> Tuple[Dict[str, Any], "list[dict[str, str]]"]:
    json_path, csv_path = source.parent / "r.json", source.parent / "r.csv"
    for path in (json_path, csv_path):
        run(source, "--force", "--report", str(path))
    with open(csv_path, newline="") as handle:
        return json.loads(json_path.read_text()), list(csv.DictReader(handle))


def test_what_the_target_does_not_take_is_told_of_each_pair(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f"{name}.caffemodel: for ncnn: it took all layers before, and does now, as far as is known"
        for name in ("a/x", "b/y")
    ]
    assert run(source, "--target", "ncnn") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == lines
    assert run(source, "--target", "ncnn", "--resume", "--report", "-") == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert [f"{entry['name']}: {entry['target']}" for entry in pairs] == lines
    assert {entry["status"] for entry in pairs} == {"unchanged"}


def test_reports(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights(source / "c", "z", net(6))
    result, rows = reports(source)
    assert result["schema"] == "caffe_merge.batch/1"
    assert result["totals"]["pairs"] == 3
    assert result["totals"]["failed"] == 1
    assert [entry["status"] for entry in result["pairs"]] == ["merged", "merged", "failed"]
    assert [row["name"] for row in rows] == [entry["name"] for entry in result["pairs"]]
    assert rows[0]["layers_before"] == "4"
    assert rows[2]["reason"] == result["pairs"][2]["reason"]
    page = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text()
    entries = {*result, *result["totals"], *result["pairs"][0], *rows[0]}
    assert sorted(entry for entry in entries if f"`{entry}`" not in page) == []
    new = source.parent / "new"  # the batch makes it
    assert run(source, "--output-dir", str(new), "--report", str(new / "r.csv")) == 1
    assert (new / "r.csv").read_text().startswith("name,model,")
    reports(source)  # an earlier report is replaced
    capsys.readouterr()
    run(source, "--force", "--report", "-")
    assert json.loads(capsys.readouterr().out)["schema"] == result["schema"]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no SIGINT for a process here")
def test_ctrl_c_stops_the_workers_and_says_what_is_done(source: Path) -> None:
    for number in range(40):
        pair(source / "c", f"n{number}", net(6 + number))
    out = source.parent / "OUT"
    command = [sys.executable, "-m", "caffe_merge", "batch", str(source), "--output-dir", str(out)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a shell ignores it, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    *_, said, last = stderr.splitlines()
    assert last == "caffe-merge: error: interrupted"
    done = re.fullmatch(r"interrupted: ((\d+) of 42 pairs in place.*); --resume goes on.*", said)
    assert done
    _, *lines = (out / "caffe-merge-batch.jsonl").read_text().splitlines()
    in_place = {p.name for p in out.rglob("*.caffemodel")}
    assert 1 <= len(lines) <= len(in_place) == int(done.group(2)) < 42
    assert not any(out.rglob(".*"))
    assert stdout.splitlines()[-1].startswith(done.group(1))


def test_ctrl_c_counts_what_is_in_place_and_was_not_told(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("caffe_merge.batching.batch.Journal.add", interrupted)
    assert run(source, "--jobs", "1") == 130
    out, err = capsys.readouterr()
    count = len([*(source.parent / "OUT").rglob("*.caffemodel")])
    expected = f"{count} of 2 pairs in place ({count} of them put there as it was stopped, and not"
    assert count >= 1
    assert out.splitlines()[-1].startswith(expected)
    assert err.splitlines()[0].startswith(f"interrupted: {expected}")

"""A batch from its sources to what is in OUT, whatever happens meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import caffe_merge
from caffe_merge.batching.sources import JOURNAL
from caffe_merge.errors import FileError, UsageError
from tests.batching.trees import net, pair, two_pairs, weights
from tests.nets import prototxt, seeded, write_pair
from tests.required import required

COMMAND = [sys.executable, "-m", "caffe_merge", "batch"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return two_pairs(tmp_path / "models")


def batch(source: Path, **how: Any) -> Dict[str, Any]:
    result = caffe_merge.batch(source, source.parent / "OUT", **{"validate": "none", **how})
    return {result.name: result for result in result}


def tree(out: Path) -> Dict[str, bytes]:
    """All that is in ``out``, folders too, but for the journal, which tells the time."""
    return {
        str(path.relative_to(out)): path.read_bytes() if path.is_file() else b"/"
        for path in out.rglob("*")
        if path.name != JOURNAL
    }


def journal(out: Path) -> List[Dict[str, Any]]:
    """The lines of pairs that ended."""
    entries = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
    return [entry for entry in entries if "begun" not in entry]


def test_every_pair_is_validated_and_in_place(source: Path) -> None:
    before = tree(source)
    results = batch(source, validate="reference", jobs=2)
    assert sorted(results) == ["a/x.caffemodel", "b/y.caffemodel"]
    out = source.parent / "OUT"
    assert sorted(tree(out)) == ["a", "a/x.caffemodel", "a/x.prototxt",
                                 "b", "b/y.caffemodel", "b/y.prototxt"]  # fmt: skip
    for result in results.values():
        assert result.ok
        assert result.outcome.validation["status"] == "passed"
        assert result.outcome.figures["layers"] == [4, 3]
        alone = source.parent / "alone.prototxt", source.parent / "alone.caffemodel"
        caffe_merge.convert(result.model, result.weights, *alone, validate="none", force=True)
        assert Path(result.output_model).read_bytes() == alone[0].read_bytes()
        assert Path(result.output_weights).read_bytes() == alone[1].read_bytes()
    assert tree(source) == before


def test_a_pair_that_fails_is_named_and_the_rest_goes_on(source: Path) -> None:
    blobs = seeded(net(6))
    blobs["fc"][0][:] = np.nan
    (source / "c").mkdir()
    write_pair(source / "c", net(6), blobs, "z")
    weights(source / "d", "alone", net(7))
    results = batch(source)
    assert {name: result.ok for name, result in results.items()} == {
        "a/x.caffemodel": True,
        "b/y.caffemodel": True,
        "c/z.caffemodel": False,
        "d/alone.caffemodel": False,
    }
    assert results["c/z.caffemodel"].outcome.kind == "input"
    assert "layer 'fc'" in results["c/z.caffemodel"].outcome.reason
    assert not (source.parent / "OUT" / "c").exists()


def test_a_net_that_is_not_finite_leaves_the_journal_json(source: Path) -> None:
    zero = "power_param { scale: 0 }"
    lines = prototxt(f"z: Power out -> z {{ {zero} }}", "l: Log z -> l")  # log(0) is -inf
    pair(source / "c", "z", net(6) + lines)
    assert not batch(source, validate="reference")["c/z.caffemodel"].ok
    for line in (source.parent / "OUT" / JOURNAL).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_outputs_that_exist_are_replaced_on_request_alone(source: Path) -> None:
    batch(source)
    first = tree(source.parent / "OUT")
    with pytest.raises(UsageError, match=r"OUT/a/x.prototxt: exists already \(and 3 others\)"):
        batch(source)
    (source.parent / "OUT" / "a" / "x.prototxt").write_text("damaged")
    results = batch(source, resume=True)
    statuses = {name: result.outcome.status for name, result in results.items()}
    assert statuses == {"a/x.caffemodel": "merged", "b/y.caffemodel": "unchanged"}
    assert tree(source.parent / "OUT") == first
    assert {r.outcome.status for r in batch(source, force=True).values()} == {"merged"}


def test_what_no_batch_made_is_replaced_by_force_alone(source: Path) -> None:
    mine = source.parent / "OUT" / "b" / "y.caffemodel"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    message = r"OUT/b/y.caffemodel: exists already; no earlier batch made it"
    with pytest.raises(UsageError, match=message):
        batch(source, resume=True)
    assert list(tree(source.parent / "OUT")) == ["b", "b/y.caffemodel"]
    assert mine.read_text() == "mine"
    assert not (source.parent / "OUT" / JOURNAL).exists()
    mine.unlink()
    batch(source)
    pair(source / "c", "z", net(6))
    (source.parent / "OUT" / "c").mkdir()
    (source.parent / "OUT" / "c" / "z.prototxt").write_text("mine")
    with pytest.raises(UsageError, match=r"OUT/c/z.prototxt: exists already; no earlier batch"):
        batch(source, resume=True)
    assert all(result.ok for result in batch(source, resume=True, force=True).values())


def test_what_a_batch_had_begun_when_it_was_killed_is_its_own(source: Path) -> None:
    batch(source)
    path = source.parent / "OUT" / JOURNAL
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    assert {result.outcome.status for result in batch(source, resume=True).values()} == {"merged"}


@pytest.mark.parametrize("change", ["input", "labels", "option", "version", "torn"])
def test_what_changed_is_done_anew(
    source: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = source.parent / "labels.txt"
    how: Dict[str, Any] = {}
    if change == "labels":
        required("PIL", "images")
        from PIL import Image

        image = source.parent / "a.bmp"
        Image.new("RGB", (7, 5), (50, 100, 150)).save(image)
        labels.write_text("a.bmp 1\n")
        how = {"images": [str(image)], "labels": str(labels), "validate": "reference"}
    batch(source, **how)
    if change == "labels":
        labels.write_text("a.bmp 0\n")
    elif change == "option":
        how = {"skip": ["merge-serial"]}
    path = source.parent / "OUT" / JOURNAL
    if change == "input":
        weights(source / "a", "x", net(4), seed=7)
    elif change == "version":
        monkeypatch.setattr("caffe_merge.batching.journal.__version__", "9.9.9")
    elif change == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    statuses = [result.outcome.status for result in batch(source, resume=True, **how).values()]
    anew = {"input": 1, "torn": 1}.get(change, 2)
    assert statuses.count("merged") == anew
    assert len(journal(source.parent / "OUT")) == (2 if change == "torn" else 2 + anew)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("skip", ["nonsense"], "no pass is called 'nonsense'"),
        ("scale", "1,x", "scale: expected numbers"),
        ("mean", "missing.npy", "mean: expected numbers or a file"),
        ("validate", "nonsense", "no engine is called 'nonsense'"),
    ],
)
def test_what_fits_no_pair_is_said_before_any(
    source: Path, option: str, value: object, message: str
) -> None:
    with pytest.raises((UsageError, FileError), match=message):
        batch(source, **{option: value})
    assert not (source.parent / "OUT").exists()


def test_fail_fast_stops_at_the_first_failure(source: Path) -> None:
    (source / "a" / "x.caffemodel").write_bytes(b"\xa2\x06\x00" * 2)
    (source / "l.csv").write_text("a/x.prototxt,a/x.caffemodel\nb/y.prototxt,b/y.caffemodel\n")
    results = caffe_merge.batch(
        source / "l.csv", source.parent / "OUT", jobs=1, fail_fast=True, validate="none"
    )
    assert [result.ok for result in results] == [False]


def test_fail_fast_merges_the_pairs_beside_broken_weights(source: Path) -> None:
    (source / "a" / "x.caffemodel").write_bytes(b"\xa2\x06\x00" * 2)
    weights(source / "c", "alone", net(7))
    assert {name: result.ok for name, result in batch(source, fail_fast=True).items()} == {
        "a/x.caffemodel": False,
        "b/y.caffemodel": True,
        "c/alone.caffemodel": False,
    }


def test_two_batches_do_not_write_into_one_folder(source: Path) -> None:
    from caffe_merge.batching.journal import Journal

    message = "another batch is writing"
    with Journal(str(source.parent / "OUT")), pytest.raises(FileError, match=message):
        batch(source)


def test_a_batch_that_is_killed_at_any_moment_and_resumed_ends_the_same(source: Path) -> None:
    """Killed as a whole once a number of pairs are done, and a little later each time."""
    for number in range(4):
        pair(source / "c", f"n{number}", net(6 + number))
    arguments = [str(source), "--validate", "none", "-q", "--jobs", "2", "--output-dir"]
    undisturbed, killed = source.parent / "undisturbed", source.parent / "killed"
    subprocess.run([*COMMAND, *arguments, str(undisturbed)], check=True)
    for lines, later in ((0, 0.0), (0, 0.02), (1, 0.0), (2, 0.01), (4, 0.03), (5, 0.0)):
        command = [*COMMAND, *arguments, str(killed), "--resume"]
        process = subprocess.Popen(command)
        while process.poll() is None and not _reached(killed, lines):
            time.sleep(0.005)
        time.sleep(later)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*COMMAND, *arguments, str(killed), "--resume"], check=True)
    assert tree(killed) == tree(undisturbed)


def _reached(out: Path, lines: int) -> bool:
    path = out / JOURNAL
    return path.exists() and path.read_bytes().count(b'"options"') >= lines

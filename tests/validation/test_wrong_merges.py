"""The mistakes that merges make, each made on purpose in several nets: none of them passes."""

import re
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.validation import Comparison
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.reference_judge import judged
from tests.nets import Weights, load_pair, prototxt, seeded, write_pair

Files = Tuple[str, Weights]  # a text and its blobs

FIRST = (
    "data 1 3 11 9",
    "x: Convolution data -> x { convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }",
    "bx: BatchNorm x -> x",
    "rx: ReLU x -> x",
)
MIDDLE = "m: Convolution x -> m { convolution_param { num_output: %s kernel_size: 3 pad: 1 } }"
NORM = ("bm: BatchNorm m -> m", "sm: Scale m -> m { scale_param { bias_term: true } }")
RELU = "r: ReLU m -> m"
LAST = (
    "p: Pooling %s -> p { pooling_param { pool: AVE global_pooling: true } }",
    "fc: InnerProduct p -> fc { inner_product_param { num_output: 5 } }",
    "prob: Softmax fc -> prob",
)


def net(outputs: str, *more: str, end: str = "m") -> str:
    """A small net in which the layer m is the one that is merged wrongly."""
    middle = (MIDDLE % outputs, *NORM, RELU)
    return prototxt(*FIRST, *middle, *more, LAST[0] % end, *LAST[1:])


NETS = {
    "plain": net("6"),
    "grouped": net("6 group: 2"),
    "depthwise": net("4 group: 4"),
    "residual": net("4", "e: Eltwise x m -> e", end="e"),
    "branches": net(
        "6",
        "n: Convolution x -> n { convolution_param { num_output: 2 kernel_size: 1 } }",
        "c: Concat m n -> c",
        end="c",
    ),
}


def replaced(text: str, old: str, new: str) -> str:
    """The text with ``old`` replaced in the layer m, of which there must be one."""
    begin = text.index('name: "m"')
    assert old in text[begin:]
    return text[:begin] + text[begin:].replace(old, new, 1)


def wrong_stride(text: str, blobs: Weights) -> Files:
    return replaced(text, "pad: 1", "pad: 1 stride: 2"), blobs


def wrong_pad(text: str, blobs: Weights) -> Files:
    return replaced(text, "pad: 1", "pad: 0"), blobs


def missing_bias(text: str, blobs: Weights) -> Files:
    without = {**blobs, "m": blobs["m"][:1]}
    return replaced(text, "pad: 1", "pad: 1 bias_term: false"), without


def swapped_channels(text: str, blobs: Weights) -> Files:
    order = [1, 0, *range(2, len(blobs["m"][0]))]
    return text, {**blobs, "m": [blob[order] for blob in blobs["m"]]}


def dropped_relu(text: str, blobs: Weights) -> Files:
    without = re.sub(r'layer \{\n  name: "r"\n.*?\n\}\n', "", text, flags=re.DOTALL)
    assert without != text
    return without, blobs


def wrong_group(text: str, blobs: Weights) -> Files:
    """Of one group two are made, of several one, with the weights that are there."""
    kernel, bias = blobs["m"]
    if "group" in text:
        widened = np.tile(kernel, (1, 4 // kernel.shape[1], 1, 1))
        return re.sub(r" group: \d", "", text), {**blobs, "m": [widened, bias]}
    return replaced(text, "pad: 1", "pad: 1 group: 2"), {**blobs, "m": [kernel[:, :2], bias]}


AFTER_MERGE: Dict[str, Callable[[str, Weights], Files]] = {
    "stride": wrong_stride,
    "pad": wrong_pad,
    "bias": missing_bias,
    "channels": swapped_channels,
    "relu": dropped_relu,
    "group": wrong_group,
}


def wrong_factor(blobs: Weights) -> Weights:
    """BatchNorm's statistics as if they were not sums: the factor is left out."""
    mean, variance, _ = blobs["bm"]
    return {**blobs, "bm": [mean, variance, np.ones(1)]}


def wrong_eps(text: str) -> str:
    return text.replace('type: "BatchNorm"', 'type: "BatchNorm" batch_norm_param { eps: 0.01 }')


def original(name: str) -> Files:
    """A net and its weights, with a factor that matters."""
    text = NETS[name]
    blobs = seeded(text)
    factor = np.array([999.98])
    for norm in ("bx", "bm"):
        mean, variance, was = blobs[norm]
        blobs[norm] = [mean / was * factor, variance / was * factor, factor]
    return text, blobs


def merge(folder: Path, text: str, blobs: Weights) -> Files:
    """What a pair is merged to."""
    files = load_pair(write_pair(folder, text, blobs, "given"))
    caffe_merge.merge(files)
    pair = folder / "merged.prototxt", folder / "merged.caffemodel"
    caffe_merge.save(files, *map(str, pair), force=True)
    new: Weights = {}
    for layer in load_pair(pair).layers:
        new[layer.name] = [np.array(blob.float64()) for blob in layer.blobs]
    return pair[0].read_text(), new


def verdict(folder: Path, before: Files, after: Files) -> Comparison:
    """What the reference engine says of two pairs."""
    pairs: List[Tuple[str, str]] = []
    for stem, files in (("before", before), ("after", after)):
        text, weights = write_pair(folder, *files, stem)
        pairs.append((str(text), str(weights)))
    *_, comparison = judged(pairs[0], pairs[1], Judging(), 1e-5, 40e9)
    assert isinstance(comparison, Comparison)
    return comparison


@pytest.mark.parametrize("name", NETS)
def test_a_right_merge_passes(name: str, tmp_path: Path) -> None:
    before = original(name)
    after = merge(tmp_path, *before)
    assert "BatchNorm" not in after[0]
    comparison = verdict(tmp_path, before, after)
    assert comparison.ok, comparison.summary()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mistake", AFTER_MERGE)
def test_a_mistake_in_the_merged_pair_is_found(name: str, mistake: str, tmp_path: Path) -> None:
    before = original(name)
    after = AFTER_MERGE[mistake](*merge(tmp_path, *before))
    comparison = verdict(tmp_path, before, after)
    assert comparison.status == "failed", comparison.summary()


@pytest.mark.parametrize("name", NETS)
def test_statistics_that_are_misread_are_found(name: str, tmp_path: Path) -> None:
    text, blobs = original(name)
    without_factor = merge(tmp_path, text, wrong_factor(blobs))
    other_eps = merge(tmp_path, wrong_eps(text), blobs)
    for after in (without_factor, other_eps):
        comparison = verdict(tmp_path, (text, blobs), after)
        assert comparison.status == "failed", comparison.summary()

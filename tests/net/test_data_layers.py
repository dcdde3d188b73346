"""Which blobs of a training net are labels, whatever prepares them; what is left runs in Caffe."""

from pathlib import Path
from typing import Dict, Set, Tuple

import pytest

import caffe_merge
from caffe_merge.errors import NetError
from caffe_merge.net import saving
from caffe_merge.net.data_layers import label_blobs
from tests.nets import load, parse, prototxt
from tests.real_caffe import RealCaffe

FC = "InnerProduct {} -> {} {{ inner_product_param {{ num_output: 3 }} }}"
HDF5 = 'd: HDF5Data  -> {} {{ hdf5_data_param {{ source: "x" batch_size: 4 }} }}'
PYTHON = 'd: Python  -> {} {{ python_param {{ module: "m" layer: "l" }} }}'
SLICE = "cut: Slice labels -> one two { slice_param { axis: 1 slice_point: 1 } }"
HEADS = [
    "a: " + FC.format("data", "a"), "b: " + FC.format("data", "b"),
    "l: SoftmaxWithLoss a one -> l", "m: SoftmaxWithLoss b two -> m",
]  # fmt: skip
CASES: Dict[str, Tuple[Tuple[str, ...], Set[str], str]] = {
    "sliced": ((HDF5.format("data labels"), SLICE, *HEADS), {"labels"}, "d a b a_prob prob"),
    "several": ((HDF5.format("data one two"), *HEADS), {"one", "two"}, "d a b a_prob prob"),
    "sliced and shaped": (
        (HDF5.format("data labels"), SLICE.replace("one two", "u two"),
         "flat: Flatten u -> one", *HEADS),
        {"labels"}, "d a b a_prob prob",
    ),
    "in place": (
        (HDF5.format("data labels"), "p: Power labels -> labels", SLICE, *HEADS),
        {"labels"}, "d a b a_prob prob",
    ),
    "of Python": ((PYTHON.format("data labels"), SLICE, *HEADS), {"labels"}, "d a b a_prob prob"),
    "for a loss and Accuracy": (
        (HDF5.format("data one"), *HEADS[::2], "acc: Accuracy a one -> acc"),
        {"one"}, "d a prob",
    ),
    "data that a loss compares with": (
        (HDF5.format("data"), "flat: Flatten data -> flat", "a: " + FC.format("data", "a"),
         "l: EuclideanLoss a flat -> l"),
        set(), "d a",
    ),
    "the other tower is no label": (
        (HDF5.format("data other sim"), "a: " + FC.format("data", "a"),
         "b: " + FC.format("other", "b"), "l: ContrastiveLoss a b sim -> l"),
        {"sim"}, "d a b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_labels(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    lines, labels, left = CASES[case]
    text = prototxt(*lines)
    assert label_blobs([layer.param for layer in parse(text).layers]) == labels
    shapes = {name: (2, 5) for name in ("data", "other") if name in lines[0]}
    (tmp_path / "net.prototxt").write_text(text, encoding="utf-8")
    path = str(tmp_path / "net.prototxt")
    net = caffe_merge.load(path, None, deploy=True, input_shapes=shapes)
    assert [layer.name for layer in net.layers if layer.name != "flat"] == left.split()
    assert real_caffe.error(saving.text(net).decode()) == ""


def test_a_net_whose_only_data_layer_is_for_training_is_sent_to_deploy(tmp_path: Path) -> None:
    text = prototxt(
        'd: ImageData  -> data label { include { phase: TRAIN } image_data_param { source: "x" } }',
        "r: ReLU data -> r",
    )
    net = load(tmp_path, text, {"r": []})
    with pytest.raises(NetError, match=r": deploy makes it an Input$"):
        caffe_merge.merge(net)
    staged = text.replace("phase: TRAIN", 'phase: TEST stage: "val"')
    with pytest.raises(NetError, match=r"or choose one with stage \(there are 'val'\)$"):
        caffe_merge.merge(load(tmp_path, staged, {"r": []}))

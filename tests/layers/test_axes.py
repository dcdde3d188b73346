"""An axis that is counted from the end is the axis that it is: every pass finds the same."""

from typing import Dict, List

import numpy as np
import pytest

from tests.merger import Merger

IN = "data 2 8 9 7"
CAT = "cat: Concat a b -> cat { concat_param { axis: 1 } }"


def conv(name: str, bottom: str, outputs: int = 4, body: str = "kernel_size: 1") -> str:
    fields = f"convolution_param {{ num_output: {outputs} {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {fields} }}"


def product(name: str, bottom: str, outputs: int = 3) -> str:
    body = f"inner_product_param {{ num_output: {outputs} axis: 1 }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"


SCALE = "s: Scale data -> s { scale_param { bias_term: true } }"
FLAT = "f: Flatten a -> f { flatten_param { axis: 1 } }"
SLICE = "cut: Slice data -> p q { slice_param { axis: 1 } }"

NETS: Dict[str, List[str]] = {
    "merge-concat": [conv("a", "data"), conv("b", "data", 3), CAT, "t: TanH cat -> t"],
    "merge-groups": [SLICE, conv("a", "p"), conv("b", "q"), CAT, "t: TanH cat -> t"],
    "raise-stride": [conv("a", "data"), conv("b", "data", 3, "kernel_size: 3 pad: 1"),
                     "r: TanH a -> a", CAT, conv("c", "cat", 2, "kernel_size: 1 stride: 2")],
    "drop-dead-channels": [conv("z", "data"), "t: TanH z -> a", conv("b", "data"), "u: TanH b -> b",
                           CAT, conv("c", "cat", 2)],
    "drop-crop": [conv("a", "data"), "y: Crop a data -> y { crop_param { axis: 2 } }",
                  "t: TanH y -> t"],
    "fold-forward": [SCALE, conv("c", "s", 4, "kernel_size: 3 axis: 1")],
    "fold-forward into a product": [SCALE, product("c", "s")],
    "fold-permute": [conv("a", "data"), "u: TanH a -> a", FLAT, product("i", "f")],
    "merge-serial": [product("a", "data"), product("b", "a")],
    "merge-serial behind a convolution": [conv("a", "data", 3, "kernel_h: 9 kernel_w: 7"), FLAT,
                                          product("i", "f", 2)],
}  # fmt: skip


def _from_the_end(line: str) -> str:
    rank = 2 if line.startswith(("i:", "b: InnerProduct")) else 4
    return line.replace("axis: 1 ", f"axis: {1 - rank} ").replace("axis: 2 ", "axis: -2 ")


@pytest.mark.parametrize("name", NETS)
def test_from_the_end(merged: Merger, name: str) -> None:
    lines = NETS[name]
    only = [name.split()[0]]
    rows = np.arange(4 * 8).reshape(4, 8, 1, 1) % 7 * (np.arange(4) % 2).reshape(4, 1, 1, 1)
    weights = {"z": [rows, np.zeros(4)]} if name == "drop-dead-channels" else {}
    first = merged(IN, *lines, only=only, weights=weights)
    turned = [_from_the_end(line) for line in lines]
    assert turned != lines
    second = merged(IN, *turned, only=only, weights=weights)
    assert first.report.changes
    assert second.names == first.names
    gone = [[change.removed for change in result.report.changes] for result in (first, second)]
    assert gone[0] == gone[1]


def test_a_flatten_that_a_target_has_not(merged: Merger) -> None:
    """The InnerProduct behind it reads a blob of more axes then, and takes them from the same."""
    lines = [_from_the_end(line) for line in (FLAT.replace(" a ", " data "), product("i", "f"))]
    result = merged(IN, *lines, target="caffe-onnx", skip=["fold-permute"])
    assert result.names == ["i"]
    assert result.layer("i").param.inner_product_param.axis == 1

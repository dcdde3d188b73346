"""What a net costs."""

from typing import Any, Dict

import pytest

from caffe_merge.net.graph import Graph
from caffe_merge.net.measures import activation_bytes
from tests.nets import parse, prototxt

DATA = "data 2 3 8 7"


def measured(*lines: str) -> Any:
    net = parse(prototxt(*lines))
    return activation_bytes(Graph(net.layers, {}))


CASES: Dict[str, Any] = {
    "each blob has its own": ((DATA, "p: ReLU data -> p"), 4 * 2 * 336),
    "a layer in place has none": ((DATA, "p: ReLU data -> data"), 4 * 336),
    "a Reshape shares its bottom's": ((DATA, "f: Flatten data -> f"), 4 * 336),
    "two tops of a Split too": ((DATA, "s: Split data -> a b"), 4 * 336),
    "a Scale in place keeps a copy": ((DATA, "s: Scale data -> data"), 4 * 2 * 336),
    "a BatchNorm has two buffers": ((DATA, "n: BatchNorm data -> data"), 4 * 3 * 336),
    "one shape is not known": ((DATA, "u: Unheard data -> u"), None),
}


@pytest.mark.parametrize("name", CASES)
def test_activation_bytes(name: str) -> None:
    lines, expected = CASES[name]
    assert measured(*lines) == expected

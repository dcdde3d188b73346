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
    "an MVN has one": ((DATA, "n: MVN data -> n"), 4 * 3 * 336),
    "an LRN has one": ((DATA, "n: LRN data -> n"), 4 * 3 * 336),
    "one within a channel three": (
        (DATA, "n: LRN data -> n { lrn_param { norm_region: WITHIN_CHANNEL } }"),
        4 * 5 * 336,
    ),
    "a maximum has its places": (
        (DATA, "p: Pooling data -> p { pooling_param { kernel_size: 1 } }"),
        4 * 3 * 336,
    ),
    "but not where they are a top": (
        (DATA, "p: Pooling data -> p q { pooling_param { kernel_size: 1 } }"),
        4 * 3 * 336,
    ),
    "nor a mean": (
        (DATA, "p: Pooling data -> p { pooling_param { kernel_size: 1 pool: AVE } }"),
        4 * 2 * 336,
    ),
    "an Eltwise too": (
        (DATA, "p: Eltwise data data -> p { eltwise_param { operation: MAX } }"),
        4 * 3 * 336,
    ),
    "one shape is not known": ((DATA, "u: Unheard data -> u"), None),
}


@pytest.mark.parametrize("name", CASES)
def test_activation_bytes(name: str) -> None:
    lines, expected = CASES[name]
    assert measured(*lines) == expected

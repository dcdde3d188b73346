"""pool-first: it fires, it refuses with its reason, and what it writes is right."""

from typing import Dict, List

import pytest

from tests.merger import Merged, Merger
from tests.nets import prototxt

IN = "data 2 6 11 14"
POOLS = {
    "stride": "kernel_size: 2 stride: 2",
    "partial": "kernel_h: 4 kernel_w: 3 stride: 3",
    "overlapping": "kernel_size: 3 stride: 2",
    "rounds down": "kernel_size: 2 stride: 2 round_mode: FLOOR",
    "global": "global_pooling: true",
}


def conv(name: str, bottom: str, body: str = "num_output: 7 kernel_size: 1") -> str:
    return f"{name}: Convolution {bottom} -> {name} {{ convolution_param {{ {body} }} }}"


def pool(name: str, bottom: str, body: str = POOLS["stride"]) -> str:
    return f"{name}: Pooling {bottom} -> {name} {{ pooling_param {{ pool: AVE {body} }} }}"


def order(result: Merged) -> List[str]:
    """The layers left, with what they read."""
    return [f"{layer.param.bottom[0]}:{layer.name}" for layer in result.after.layers[1:]]


@pytest.mark.parametrize("kind", POOLS)
def test_the_pooling_goes_first(merged: Merger, kind: str) -> None:
    result = merged(IN, conv("a", "data"), pool("p", "a", POOLS[kind]), "r: ReLU p -> r")
    assert order(result) == ["data:p", "p_merged:a", "p:r"]
    (change,) = result.report.changes
    assert (change.changed, change.removed, change.added) == (("p",), (), ())
    assert (result.report.after.multiply_adds or 0) < (result.report.before.multiply_adds or 0)


@pytest.mark.parametrize("kind", ["stride", "partial", "overlapping"])
def test_padding_is_exact_without_bias(merged: Merger, kind: str) -> None:
    layer = conv("a", "data", "num_output: 7 kernel_size: 1 bias_term: false")
    result = merged(IN, layer, pool("p", "a", POOLS[kind] + " pad: 1"), "r: ReLU p -> r")
    assert order(result) == ["data:p", "p_merged:a", "p:r"]


def test_a_bias_of_zeros_is_none(merged: Merger) -> None:
    zero = {"a": [merged(IN, conv("a", "data")).blobs("a")[0], [0.0] * 7]}
    padded = pool("p", "a", POOLS["stride"] + " pad: 1")
    result = merged(IN, conv("a", "data"), padded, weights=zero)
    assert order(result) == ["data:p", "p_merged:a"]


def test_groups(merged: Merger) -> None:
    result = merged(IN, conv("a", "data", "num_output: 12 group: 3 kernel_size: 1"), pool("p", "a"))
    assert order(result) == ["data:p", "p_merged:a"]


def test_a_net_output_keeps_its_name_and_what_makes_it_is_told(merged: Merger) -> None:
    result = merged(IN, conv("a", "data"), pool("p", "a"))
    assert result.layer("a").param.top == ["p"]
    assert [note.layer for note in result.report.notes if note.kind == "output-layer"] == ["a"]


def test_before_several_convolutions(merged: Merger) -> None:
    lines = [conv("a", "data"), conv("b", "a", "num_output: 8 kernel_size: 1"), pool("p", "b")]
    result = merged(IN, *lines, only=["pool-first"])
    assert order(result) == ["data:p", "p_merged2:a", "p_merged:b"]


def test_once_a_norm_between_is_folded(merged: Merger) -> None:
    lines = [conv("a", "data"), "n: BatchNorm a -> a", "s: Scale a -> a", pool("p", "a")]
    assert order(merged(IN, *lines)) == ["data:p", "p_merged:a"]


def test_what_the_convolution_reads_may_have_other_readers(merged: Merger) -> None:
    lines = ["r: ReLU data -> r", conv("a", "r"), "s: Sigmoid r -> s", pool("p", "a")]
    assert order(merged(IN, *lines)) == ["data:r", "r:p", "p_merged:a", "r:s"]


def test_in_place_layers_around(merged: Merger) -> None:
    lines = ["q: TanH data -> q", "r: ReLU q -> q", conv("a", "q"), pool("p", "a"),
             "t: TanH p -> p"]  # fmt: skip
    assert order(merged(IN, *lines)) == ["data:q", "q:r", "q:p", "p_merged:a", "p:t"]


def test_shared_weights_stay_shared(merged: Merger) -> None:
    lines = [
        f"{name}: Convolution data -> {name} {{ param {{ name: 'w' }} convolution_param "
        "{ num_output: 7 kernel_size: 1 bias_term: false } }"
        for name in "ab"
    ]
    blobs = merged(IN, *lines).blobs("a")
    weights = {"a": blobs, "b": blobs}
    result = merged(IN, *lines, pool("p", "a"), "s: Sigmoid b -> s", weights=weights)
    assert order(result) == ["data:p", "p_merged:a", "data:b", "b:s"]
    assert [spec.name for spec in result.layer("a").param.param] == ["w"]


REFUSED: Dict[str, List[str]] = {
    "other readers": [conv("a", "data"), "s: Sigmoid a -> s", pool("p", "a")],
    "counts the zeros of its padding": [conv("a", "data"), pool("p", "a", "kernel_size: 3 pad: 1")],
    "save no multiply-adds": [conv("a", "data"), pool("p", "a", "kernel_size: 1")],
    "may hold nothing": [conv("a", "data"), pool("p", "a", "kernel_size: 2 stride: 3")],
    "a fork's field": [
        conv("a", "data"), pool("p", "a", "kernel_size: 2 stride: 2 avg_include_pad: false")],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(merged: Merger, reason: str) -> None:
    merged(IN, *REFUSED[reason], only=["pool-first"]).refused("p", reason)


def test_where_the_pooling_would_cost_more_than_is_saved(merged: Merger) -> None:
    """A quarter of the channels: to pool all that are read takes longer than the products."""
    lines = [conv("a", "data", "num_output: 25 kernel_size: 1"), pool("p", "a")]
    merged("data 2 96 10 10", *lines).refused("p", "save no multiply-adds")


NOT_TRIED: Dict[str, List[str]] = {
    "a kernel": [conv("a", "data", "num_output: 7 kernel_size: 3"), pool("p", "a")],
    "a stride": [conv("a", "data", "num_output: 7 kernel_size: 1 stride: 2"), pool("p", "a")],
    "a padding": [conv("a", "data", "num_output: 7 kernel_size: 1 pad: 1"), pool("p", "a")],
    "a maximum": [conv("a", "data"), "p: Pooling a -> p { pooling_param { kernel_size: 2 } }"],
    "between": [conv("a", "data"), "r: ReLU a -> a", pool("p", "a")],
    "no convolution": ["r: ReLU data -> r", pool("p", "r")],
}


@pytest.mark.parametrize("kind", NOT_TRIED)
def test_what_is_no_such_pair(merged: Merger, kind: str) -> None:
    assert merged(IN, *NOT_TRIED[kind], only=["pool-first"]).report.changes == []


@pytest.mark.parametrize("kept", ["a", "p"])
def test_kept_as_asked(merged: Merger, kept: str) -> None:
    result = merged(IN, conv("a", "data"), pool("p", "a"), keep=[kept])
    assert result.report.changes == []
    result.refused("p", "one of them is kept as asked")


def test_the_text_moves_with_its_comments(merged: Merger) -> None:
    """A whole block, its comments and its fork's fields; the rest of the file is as it was."""
    pooling = pool("p", "a", "kernel_size: 2 stride: 2 engine: CAFFE")
    data, first, second = (prototxt(line) for line in (IN, conv("a", "data"), pooling))
    text = f"# a net\n{data}{first}\n# halves\n{second}\n# the end\n"
    result = merged(text)
    second = second.replace('"a"', '"data"').replace('top: "p"', 'top: "p_merged"')
    first = first.replace('"data"', '"p_merged"').replace('top: "a"', 'top: "p"')
    assert result.text == f"# a net\n{data}\n# halves\n{second}{first}\n# the end\n"

"""The graph: versions of blobs, taking layers out, and what it rejects."""

from typing import Callable, List

import pytest

from caffe_merge.errors import NetError
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph, Version
from tests.nets import parse, prototxt


def graph(*lines: str) -> Graph:
    """The graph of a net of ``lines``, as nets.prototxt takes them."""
    return Graph(parse(prototxt(*lines)).layers, {})


def layer(graph: Graph, name: str) -> Layer:
    """The layer of this name."""
    return next(layer for layer in graph.layers if layer.name == name)


def top(graph: Graph, name: str) -> Version:
    """The first top of the layer of this name."""
    return graph.tops[layer(graph, name)][0]


def reads(graph: Graph) -> List[str]:
    """The net in words: layer, what it reads and writes."""
    return [
        f"{layer.name}: {' '.join(layer.param.bottom)} -> {' '.join(layer.param.top)}"
        for layer in graph.layers
    ]


def test_in_place_chain() -> None:
    """Each write is a version with one producer; readers are of the version, not of the name."""
    net = graph("x 2 3", "a: ReLU x -> y", "b: ReLU y -> y", "c: TanH y -> y", "d: ELU y -> z",
                "e: ELU y -> w")  # fmt: skip
    assert [top(net, name).name for name in "abc"] == ["y", "y", "y"]
    assert [reader.name for reader, _ in top(net, "a").readers] == ["b"]
    assert [reader.name for reader, _ in top(net, "b").readers] == ["c"]
    assert top(net, "b").overwritten
    assert [reader.name for reader, _ in top(net, "c").readers] == ["d", "e"]
    assert not top(net, "c").overwritten
    assert net.first_write(top(net, "c")) is top(net, "a")
    assert net.overwritten_by(top(net, "a")) is None
    assert [version.name for version in net.outputs] == ["z", "w"]
    assert top(net, "x").is_input
    assert not top(net, "a").is_input
    assert top(net, "d").is_output
    net.check()


def test_several_tops_and_readers_of_one_layer() -> None:
    """A layer may read a version twice; tops have their place."""
    net = graph("x 2 4", "s: Slice x -> a b", "e: Eltwise b b a -> c")
    first, second = net.tops[layer(net, "s")]
    assert (first.top, second.top) == (0, 1)
    assert [(reader.name, number) for reader, number in second.readers] == [("e", 0), ("e", 1)]
    assert [version.name for version in net.outputs] == ["c"]


def test_in_place_by_position() -> None:
    """A top is in place only of the bottom of its own number (net.cpp)."""
    net = graph("x 2 3", "y 2 3", "a: Eltwise x y -> x")
    assert [version.name for version in net.outputs] == ["x"]
    with pytest.raises(NetError, match="'a': top 'y' is a top of layer 'y' already"):
        graph("x 2 3", "y 2 3", "a: Eltwise x y -> y")


def test_shapes() -> None:
    """Versions of one name may have different shapes; behind an unknown type none is known."""
    net = graph("x 2 3 4", "f: Flatten x -> f", "m: Mystery f -> m", "r: ReLU m -> m")
    assert top(net, "f").shape == (2, 12)
    assert top(net, "f").rank == 2
    assert top(net, "r").shape is top(net, "r").rank is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x 2 3", "a: ReLU q -> y"], "'a': bottom 'q' is the top of no layer before it"),
        (["x 2 3", "a: ReLU y -> z", "b: ReLU x -> y"], "'a': bottom 'y' is the top of no layer"),
        (["x 2 3", "a: ReLU x -> y", "b: ReLU x -> y"], "'b': top 'y' is a top of layer 'a'"),
        (["x 2 3", "x 2 3"], "top 'x' is a top of layer 'x' already"),
        (["x 2 3", "a: Split x -> y y"], "top 'y' is a top of layer 'a' already"),
        (["x 2 3", "a: TanH x -> a", "b: ReLU x -> x"], "layers 'a', 'b' read 'x', and one of"),
        (["x 2 3", "b: ReLU x -> x", "c: TanH x -> x", "d: TanH x -> y", "e: ELU x -> x"],
         "layers 'd', 'e' read 'x', and one of them writes it in place"),
    ],
)  # fmt: skip
def test_no_net_of_caffes(lines: List[str], message: str) -> None:
    """What Caffe would abort on is a NetError that names layer and blob."""
    with pytest.raises(NetError, match=message):
        graph(*lines)


# Lines of a net, the layer to take out, and the net then.
BYPASSED = {
    "in_place": (["a: TanH x -> a", "d: ReLU a -> a", "b: ELU a -> b"], "a: x -> a|b: a -> b"),
    "takes_its_name": (["a: TanH x -> a", "d: ReLU a -> d", "b: ELU d -> d"],
                       "a: x -> d|b: d -> d"),
    "bottom_has_readers": (["a: TanH x -> a", "d: ReLU a -> d", "b: ELU d -> d", "c: ELU a -> c"],
                           "a: x -> a|b: a -> d|c: a -> c"),
    "bottom_in_place": (["a: TanH x -> a", "c: ELU a -> a", "d: ReLU a -> d", "b: ELU d -> d"],
                        "a: x -> d|c: d -> d|b: d -> d"),
    "input": (["d: ReLU x -> d", "b: ELU d -> b"], "b: x -> b"),
    "output": (["a: TanH x -> a", "d: ReLU a -> d"], "a: x -> d"),
    "output_of_a_chain": (["a: TanH x -> a", "c: ELU a -> a", "d: ReLU a -> d"],
                          "a: x -> d|c: d -> d"),
    "read_twice": (["a: TanH x -> a", "d: ReLU a -> d", "b: Eltwise d d -> b"],
                   "a: x -> d|b: d d -> b"),
    "beside_itself": (["a: TanH x -> a", "d: ReLU a -> d", "b: Eltwise d a -> b"],
                      "a: x -> a|b: a a -> b"),
    "split": (["a: TanH x -> a", "d: Split a -> p q", "b: ELU p -> b", "c: ELU q -> c"],
              "a: x -> a|b: a -> b|c: a -> c"),
}  # fmt: skip


@pytest.mark.parametrize("name", BYPASSED)
def test_bypass(name: str) -> None:
    """Readers read on, and names are right afterwards."""
    lines, expected = BYPASSED[name]
    net = graph("x 2 3", *lines)
    outputs = [version.name for version in net.outputs]
    gone = layer(net, "d")
    assert net.why_not_bypass(gone) is None
    net.bypass(gone)
    net.check()
    assert reads(net)[1:] == expected.split("|")
    assert [version.name for version in net.outputs] == outputs


def test_bypass_under_the_old_name() -> None:
    """Without renaming, the bottom's name is the one that stays."""
    net = graph("x 2 3", "a: TanH x -> a", "d: ReLU a -> d", "b: ELU d -> b")
    net.bypass(layer(net, "d"), rename=False)
    net.check()
    assert reads(net)[1:] == ["a: x -> a", "b: a -> b"]


def test_rename_all() -> None:
    """A whole chain of writes in place changes its name at once."""
    net = graph("x 2 3", "a: TanH x -> a", "b: ReLU a -> a", "c: ELU a -> c")
    net.rename_all(top(net, "b"), "new")
    net.check()
    assert reads(net)[1:] == ["a: x -> new", "b: new -> new", "c: new -> c"]


def _swap_order(net: Graph) -> None:
    net.layers.reverse()


def _lose_a_layer(net: Graph) -> None:
    del net.layers[1]


def _read_another(net: Graph) -> None:
    layer(net, "c").param.bottom[0] = "x"


def _write_another(net: Graph) -> None:
    layer(net, "c").param.top[0] = "other"


def _forget_a_reader(net: Graph) -> None:
    top(net, "a").readers.clear()


def _add_a_reader(net: Graph) -> None:
    top(net, "a").readers.append((layer(net, "c"), 0))


@pytest.mark.parametrize(
    "damage",
    [_swap_order, _lose_a_layer, _read_another, _write_another, _forget_a_reader, _add_a_reader],
)
def test_check_finds_damage(damage: Callable[[Graph], None]) -> None:
    """The invariants: names resolved anew give the very same graph."""
    net = graph("x 2 3", "a: TanH x -> a", "b: ReLU a -> b", "c: ELU b -> c")
    net.check()
    damage(net)
    with pytest.raises(AssertionError):
        net.check()


def test_sharers() -> None:
    """Layers that share a blob by param name, and with whom; a name used once shares nothing."""
    ip = "InnerProduct x -> {0} {{ {1} inner_product_param {{ num_output: 3 }} }}"
    net = graph(
        "x 2 3",
        "a: " + ip.format("a", "param { name: 'w' } param { name: 'v' }"),
        "b: " + ip.format("b", "param { name: 'w' }"),
        "c: " + ip.format("c", "param { } param { name: 'u' }"),
    )
    actual = {
        layer.name: [other.name for other in others] for layer, others in net.sharers().items()
    }
    assert actual == {"a": ["b"], "b": ["a"]}

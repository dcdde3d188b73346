"""What is known to be the same in both nets without being compared."""

from typing import Any, List, Set

from caffe_merge.validation.held import held
from caffe_merge.validation.pairing import Pair, pair
from caffe_merge.validation.run import plan
from tests.nets import parse, prototxt


def names(before: List[Any], after: List[Any], boxes: Set[int], *equal: Pair) -> Any:
    """The last names that hold the same, and the layers that are astray."""
    plans = plan(before), plan(after)
    pairing = pair(before, after, plans, (boxes, boxes))
    same, astray = held(pairing, before, after, {*pairing.sources, *equal}, set(equal))
    ends = [(was, plans[1].final[name]) for name, was in plans[0].final.items()]
    return sorted(was[0] for was, now in ends if (was, now) in same), astray


def layers(*lines: str) -> List[Any]:
    return parse(prototxt("a 1 3 6 6", "b 1 3 6 6", *lines)).layers


TWO = ("u: Mystery a b -> u", "v: Mystery u -> v w")


def test_layers_that_are_the_same_and_read_the_same_make_the_same() -> None:
    net = layers(*TWO)
    assert names(net, net, {2, 3}) == (["a", "b", "u", "v", "w"], [])


def test_bottoms_and_tops_are_the_same_by_their_place() -> None:
    net = layers(*TWO)
    swapped = layers("u: Mystery b a -> u", TWO[1])
    assert names(net, swapped, {2, 3}) == (["a", "b"], [2, 3])
    swapped = layers(TWO[0], "v: Mystery u -> w v")
    assert names(net, swapped, {2, 3}) == (["a", "b", "u"], [])


def test_what_was_compared_is_followed_on() -> None:
    net = layers("r: ReLU a -> r", "u: Mystery r -> u")
    other = layers("r: TanH a -> r", "u: Mystery r -> u")
    assert names(net, other, {3}) == (["a", "b"], [3])
    assert names(net, other, {3}, (("r", 2), ("r", 2))) == (["a", "b", "r", "u"], [])


def test_of_a_layer_that_reads_a_shape_the_shape_is_enough() -> None:
    prior_box = "p: PriorBox r a -> p { prior_box_param { min_size: 3 } }"
    net = layers("r: ReLU a -> r", prior_box)
    other = layers("r: TanH a -> r", prior_box)
    plans = plan(net), plan(other)
    pairing = pair(net, other, plans, ({3}, {3}))
    both = (("r", 2), ("r", 2))
    for shapes, astray in (({both}, []), (set(), [3])):
        actual = held(pairing, net, other, pairing.sources, shapes)
        assert actual.astray == astray
        assert ((("p", 3), ("p", 3)) in actual.same) == (not astray)

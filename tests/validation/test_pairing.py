"""Where two nets must hold the same values: found from their layers alone."""

from typing import Any, Dict, List, Set, Tuple

import numpy as np

from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.layer import Layer
from caffe_merge.validation.pairing import Pairing, pair
from caffe_merge.validation.run import plan
from tests.nets import parse, prototxt

Weights = Dict[str, List[Any]]


def layers(*lines: str, **weights: Any) -> List[Layer]:
    """The layers of ``lines``, with these weights."""
    layers = parse(prototxt("data 1 3 6 6", *lines)).layers
    for layer in layers:
        layer.load_blobs([Dense(np.asarray(blob)) for blob in weights.get(layer.name, ())])
    return layers


def paired(before: List[Layer], after: List[Layer]) -> Pairing:
    """What is found of two nets of which all layers can be run."""
    return pair(before, after, (plan(before), plan(after)), (set(), set()))


def points(pairing: Pairing) -> Set[Tuple[str, str, str, bool, bool]]:
    """Old name, new name, reader, whether it is an output, whether it is firm."""
    return {(p.before[0], p.after[0], p.reader, p.output, p.firm) for p in pairing.points}


CONV = "{ convolution_param { num_output: 4 kernel_size: 3 } }"
BEFORE = (
    f"conv: Convolution data -> conv {CONV}",
    "bn: BatchNorm conv -> bn",
    "relu: ReLU bn -> bn",
    "pool: Pooling bn -> pool { pooling_param { kernel_size: 2 } }",
)


def test_a_layer_that_is_as_it_was_reads_the_same() -> None:
    before = layers(*BEFORE, conv=[np.ones(3)])
    after = layers(BEFORE[0].replace("-> conv", "-> bn"), *BEFORE[2:], conv=[np.zeros(3)])
    actual = paired(before, after)
    assert points(actual) == {
        ("bn", "bn", "relu", False, True),  # before the ReLU wrote over it
        ("bn", "bn", "", False, True),
        ("pool", "pool", "", True, True),
    }
    assert [after[index].name for index in actual.rewritten] == ["conv"]
    assert actual.missing == ()


def test_another_scripts_names_are_paired_by_what_reads_them() -> None:
    """The convolution keeps its top and takes in the ReLU's place: it holds something else."""
    before = layers(*BEFORE)
    after = layers(
        BEFORE[0], "relu: ReLU conv -> conv", BEFORE[3].replace("bn", "conv"), conv=[np.ones(3)]
    )
    actual = points(paired(before, after))
    assert ("bn", "conv", "relu", False, True) in actual
    assert ("bn", "conv", "", False, True) in actual
    assert ("conv", "conv", "", False, False) in actual  # not firm
    assert ("pool", "pool", "", True, True) in actual


def test_what_a_scale_was_moved_through_need_not_read_the_same() -> None:
    """Relu reads other values than before; what it writes stands where the scale's top was."""
    scaled = ("relu: ReLU conv -> r", "scale: Scale r -> s", "out: Power s -> out")
    before = layers(BEFORE[0], *scaled, scale=[np.full(4, 2.0)])
    after = layers(
        BEFORE[0].replace("-> conv", "-> c"),
        "relu: ReLU c -> s",
        scaled[2],
        conv=[np.ones(3)],
    )
    actual = points(paired(before, after))
    assert ("s", "s", "", False, True) in actual
    assert ("conv", "c", "", False, False) in actual  # a witness only where it agrees


def test_a_slice_reads_the_same_only_if_all_of_its_parts_are_the_same() -> None:
    """The second part has lost a channel that nothing reads: the first one is as it was."""
    sliced = "slice: Slice conv -> a b { slice_param { slice_point: 1 } }"
    out = ("x: Power a -> x", "y: Convolution b -> y { convolution_param { num_output: 2 } }")
    before = layers(BEFORE[0], sliced, *out, y=[np.ones((2, 3))])
    after = layers(
        BEFORE[0].replace("4", "3").replace("-> conv", "-> c"),
        sliced.replace("conv -> a b", "c -> a d"),
        out[0],
        out[1].replace("b ->", "d ->"),
        y=[np.ones((2, 2))],
    )
    actual = points(paired(before, after))
    assert ("conv", "c", "", False, False) in actual
    assert ("a", "a", "", False, True) in actual
    kept = points(paired(before, layers(BEFORE[0], sliced, *out, y=[np.ones((2, 3))])))
    assert ("conv", "conv", "", False, True) in kept


def test_a_layer_that_stands_where_anothers_values_were_is_to_be_seen() -> None:
    before = layers(BEFORE[0], "bn: BatchNorm conv -> bn", "out: Power bn -> out")
    after = layers(BEFORE[0].replace("-> conv", "-> bn"), "out: Power bn -> out")
    actual = paired(before, after)
    assert [after[index].name for index in actual.rewritten] == ["conv"]  # though it is as it was
    dropped = layers(BEFORE[0], "drop: Dropout conv -> d", "out: Power d -> out")
    kept = layers(BEFORE[0], "out: Power conv -> out")
    assert paired(dropped, kept).rewritten == ()


def test_parameters_weights_and_types_make_another_layer() -> None:
    old = layers("l: Power data -> l { power_param { scale: 2 } }", l=[])
    for new in (
        layers("l: Power data -> l { power_param { scale: 3 } }"),
        layers("l: ReLU data -> l"),
        layers("m: Power data -> l { power_param { scale: 2 } }"),
    ):
        assert paired(old, new).rewritten == (1,)
    assert paired(old, old).rewritten == ()
    scales = [layers("l: Scale data -> l", l=[np.full(3, value)]) for value in (1, 1 + 1e-6)]
    assert paired(*scales).rewritten == (1,)
    ones = np.ones((3, 2, 2))
    for place in (None, (0, 0, 0), (0, 1, 1), (2, 1, 1)):
        other = ones.copy()
        if place is not None:
            other[place] += 1e-6
        scales = [layers("l: Scale data -> l", l=[blob]) for blob in (ones, other)]
        assert paired(*scales).rewritten == (() if place is None else (1,)), place
    for shape in ((), (1, 4), (0, 3)):
        scales = [layers("l: Scale data -> l", l=[np.full(shape, 2.0)]) for _ in range(2)]
        assert paired(*scales).rewritten == ()


def test_outputs_that_are_gone_are_told() -> None:
    before = layers("a: Power data -> a", "b: ReLU data -> b")
    assert paired(before, layers("a: Power data -> a")).missing == ("b",)


def test_what_both_nets_are_given_is_no_point() -> None:
    actual = paired(layers("a: Power data -> a"), layers("a: Power data -> a"))
    assert points(actual) == {("a", "a", "", True, True)}
    box = layers("u: Mystery data -> u", "a: Power u -> a")
    boxed = pair(box, box, (plan(box), plan(box)), ({1}, {1}))
    assert points(boxed) == {("a", "a", "", True, True)}


def test_two_inputs_are_not_the_same_nor_are_two_tops_of_a_black_box() -> None:
    lines = ("other 1 3 6 6", "u: Mystery data other -> u v", "s: TanH u -> s", "t: TanH v -> t")
    before, unknown = layers(*lines), {2}
    for line, expected in (
        (lines[1], set()),
        (lines[1].replace("data other", "other data"), {("data", "other"), ("other", "data")}),
        (lines[1].replace("u v", "v u"), {("u", "u"), ("v", "v")}),
    ):
        after = layers(lines[0], line, *lines[2:])
        pairing = pair(before, after, (plan(before), plan(after)), (unknown, unknown))
        assert {point[:2] for point in points(pairing)} == {("s", "s"), ("t", "t"), *expected}


def test_what_a_black_box_reads_is_firm_and_of_the_same_shape() -> None:
    """Though what is behind it has changed."""
    before = layers(BEFORE[0], "r: ReLU conv -> r", "u: Mystery r -> u", "o: Power u -> o")
    after = layers(BEFORE[0], "u: Mystery conv -> u", "o: Exp u -> o")
    pairing = pair(before, after, (plan(before), plan(after)), ({3}, {2}), by_name=False)
    (point,) = [point for point in pairing.points if point.before[0] == "r"]
    assert (point.after[0], point.firm, point.exact) == ("conv", True, True)


def test_blobs_of_layers_that_differ_cannot_be_fed() -> None:
    constant = "d: DummyData -> d { dummy_data_param { data_filler { value: %d } } }"
    nets = [layers(constant % value, "s: Eltwise data d -> s") for value in (1, 1, 30)]
    assert paired(*nets[:2]).unlike == frozenset()
    assert paired(nets[0], nets[2]).unlike == {"d"}


def test_outputs_that_are_read_now_are_missing_and_new_ones_are_told() -> None:
    before = layers("a: Power data -> a")
    after = layers("a: Power data -> a", "b: ReLU a -> b")
    actual = paired(before, after)
    assert actual.missing == ("a",)
    assert actual.added == (("b", None),)

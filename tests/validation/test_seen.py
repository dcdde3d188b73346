"""What would move if the weights of a layer were wrong."""

import weakref
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest

from caffe_merge import reference
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.validation.run import Run, program
from caffe_merge.validation.seen import Mutants, _Convolved, wrong_by
from tests.nets import parse, prototxt, seeded

WRONG_BY = wrong_by(1e-5)
DATA = np.random.default_rng(0).standard_normal((1, 3, 6, 6))
CONV = "c: Convolution data -> c { convolution_param { num_output: 4 kernel_size: 3 } }"


def moved(
    lines: Sequence[str], look: str, *, wrong: int = 1, data: np.ndarray = DATA, **weights: Any
) -> Tuple[str, float]:
    """Which blob moves with layer number ``wrong``, and how far; it is looked at in ``look``."""
    text = prototxt("data 1 3 6 6", *lines)
    layers = parse(text).layers
    values: Dict[str, List[Any]] = {**seeded(text), **weights}
    for layer in layers:
        layer.load_blobs([Dense(np.asarray(blob)) for blob in values[layer.name]])
    run = Run(program(layers), {"data": data})
    mutants = Mutants(run, [wrong], WRONG_BY)
    for index, layer in enumerate(layers):
        mutants.step(index, run.step(index))
        if look in layer.param.top:
            mutants.look(look, look, 1e-5, float(np.abs(run.arrays[look]).max()))
    return mutants.best[wrong]


def test_a_linear_layers_mutant_is_what_wrong_weights_would_give() -> None:
    """Each output channel by a hundredth: found without a product, held against one."""
    blob, far = moved([CONV], "c")
    weights = seeded(prototxt("data 1 3 6 6", CONV))["c"]
    spec = LayerSpec(parse(prototxt("data 1 3 6 6", CONV)).layers[1].param)
    right, wrong = (
        reference.forward(spec, [factor * weights[0], weights[1]], [DATA])[0]
        for factor in (1, 1 + WRONG_BY)
    )
    assert blob == "c"
    assert far == pytest.approx(np.abs(wrong - right).max() / np.abs(right).max())


def test_it_is_followed_to_the_first_blob_that_is_compared() -> None:
    lines = [CONV, "s: Sigmoid c -> s", "p: Pooling s -> p { pooling_param { kernel_size: 2 } }"]
    assert moved(lines, "p")[1] > 1e-5
    assert moved(lines, "s")[1] > moved(lines, "p")[1] > 0


def test_a_few_channels_of_a_convolution_that_reads_a_mutant_are_enough_where_they_move() -> None:
    wide = "e: Convolution c -> e { convolution_param { num_output: 20 kernel_size: 1 } }"
    all_of_it = [CONV, wide, "p: Power e -> p"]
    weights, bias = seeded(prototxt("data 1 3 6 6", CONV, wide))["e"]
    weights[17] *= 100  # it moves farthest, and is none of the first ones
    whole = moved(all_of_it, "p", e=[weights, bias])[1]
    assert 1e-5 < moved([CONV, wide], "e", e=[weights, bias])[1] < whole / 10
    weights[:16] = 0
    assert moved([CONV, wide], "e", e=[weights, bias])[1] == pytest.approx(whole, rel=1e-12)


def test_a_mutant_that_was_computed_keeps_neither_bottoms_nor_weights() -> None:
    def compute(channels: int) -> np.ndarray:
        return np.ones((1, channels, 2))

    needed = weakref.ref(compute)
    mutant = _Convolved(compute, 20)
    del compute
    assert needed() is not None
    assert mutant.array().shape == (1, 20, 2)
    assert needed() is None


def test_dead_and_saturated_blobs_see_nothing() -> None:
    dead = [np.zeros((4, 3, 3, 3)), np.full(4, -1.0)]
    relu = [CONV, "r: ReLU c -> r"]
    assert moved(relu, "r", c=dead) == ("", 0.0)
    assert moved([CONV], "c", c=dead) == ("", 0.0)  # weights that are 0 do nothing
    large = [np.ones((4, 3, 3, 3)), np.full(4, 1e3)]
    assert moved([CONV, "s: Sigmoid c -> s"], "s", c=large)[1] < 1e-12
    assert moved([CONV], "c", data=np.zeros_like(DATA)) == ("", 0.0)  # nothing comes in


def test_other_layers_run_with_weights_that_are_wrong_and_without_any_their_tops_are() -> None:
    assert moved(["s: Scale data -> s"], "s")[1] == pytest.approx(WRONG_BY, rel=0.5)
    assert moved(["p: PReLU data -> p"], "p", data=np.abs(DATA)) == ("", 0.0)  # slopes not used
    assert moved(["p: PReLU data -> p"], "p")[1] > 1e-5
    assert moved(["a: AbsVal data -> a"], "a")[1] == pytest.approx(WRONG_BY)


def test_an_in_place_layer_takes_the_mutant_on() -> None:
    assert moved([CONV, "r: ReLU c -> c", "o: TanH c -> o"], "o")[1] > 1e-5

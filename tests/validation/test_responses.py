"""What is wrong by a thousandth, and drowns on any image: found by what few inputs make of it.

Each is wrong in one place, by so little that a blob moves by less than the limit where both nets
run: without impulses all of these would pass.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest

from caffe_merge.validation import Comparison, beyond, limits, response
from caffe_merge.validation.judging import Judging
from caffe_merge.validation.reference_judge import judged
from tests.nets import prototxt, seeded, write_pair
from tests.validation.test_wrong_pairs import merged

Blobs = Dict[str, List[np.ndarray]]
Net = Tuple[str, ...]
F32 = np.float32

CONV = "c: Convolution data -> c { convolution_param { num_output: 5 kernel_size: 3 } }"
BN, SCALE = "bn: BatchNorm c -> c", "s: Scale c -> c { scale_param { bias_term: true } }"
RELU = "r: ReLU c -> c"
PRODUCT = "ip: InnerProduct data -> ip { inner_product_param { num_output: 5 } }"
DECONV = "d: Deconvolution data -> d { convolution_param { num_output: 3 kernel_size: 2 } }"
FOLDED = ("data 2 48 9 9", CONV, BN, SCALE, RELU)
MERGED = ("data 2 48 9 9", CONV, RELU)


def compared(folder: Path, before: Net, was: Blobs, after: Net, now: Blobs) -> Comparison:
    """The verdict on two nets, with no flags."""
    pairs = [
        (str(model), str(weights))
        for model, weights in (
            write_pair(folder, prototxt(*before), was, "before"),
            write_pair(folder, prototxt(*after), now, "after"),
        )
    ]
    *_, comparison = judged(pairs[0], pairs[1], Judging(), 1e-5, 40e9)
    assert isinstance(comparison, Comparison)
    return comparison


def folded(was: Blobs, dtype: Any = np.float64) -> Blobs:
    """The convolution that takes in its BatchNorm and Scale, computed in ``dtype``."""
    weights, bias, mean, variance, gamma, beta = (
        np.asarray(blob, F32).astype(dtype) for blob in (*was["c"], *was["bn"][:2], *was["s"])
    )
    factor = gamma / np.sqrt(variance + dtype(1e-5))
    return {"c": [weights * factor[:, None, None, None], bias * factor + (beta - mean * factor)]}


def shallow(random: np.random.Generator) -> Blobs:
    """Weights of FOLDED, whose third channel is a thousandth as large as the others."""
    was = seeded(prototxt(*FOLDED))
    was["bn"][2][...] = 1
    was["s"][0][2] *= 1e-3
    was["s"][1][2] *= 1e-3
    return was


def same(blobs: Blobs) -> Blobs:
    """The same weights, to be made wrong."""
    return {name: [np.array(blob) for blob in values] for name, values in blobs.items()}


def weight_of_a_product(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    net = ("data 2 600", PRODUCT)
    was = seeded(prototxt(*net))
    now = same(was)
    smaller = np.argsort(np.abs(was["ip"][0][1]))[80]
    now["ip"][0][1, smaller] *= 1.001
    return net, was, net, now


def weight_of_a_deconvolution(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    net = ("data 2 600 2 2", DECONV)
    was = seeded(prototxt(*net))
    now = same(was)
    smaller = np.argsort(np.abs(was["d"][0][:, 1, 0, 1]))[100]
    now["d"][0][smaller, 1, 0, 1] *= 1.001
    return net, was, net, now


def small_channel(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    was = shallow(random)
    now = folded(was)
    now["c"][0][2] *= 1.001
    return FOLDED, was, MERGED, now


def bias_of_a_small_channel(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    was = shallow(random)
    now = folded(was)
    now["c"][1][2] *= 1.001
    return FOLDED, was, MERGED, now


def behind_a_stride_that_moved(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    """A pointwise convolution of stride 2: the new net has the stride in front of the ReLU."""
    pointwise = "p: Convolution %s -> p { convolution_param { num_output: 4 kernel_size: 1 %s } }"
    before = ("data 2 48 9 9", CONV, RELU, pointwise % ("c", "stride: 2"), "t: TanH p -> t")
    strided = CONV.replace("kernel_size: 3", "kernel_size: 3 stride: 2").replace("c {", "e {")
    after = (before[0], strided, "r: ReLU e -> e", pointwise % ("e", ""), before[4])
    was = seeded(prototxt(*before))
    was["c"][0][2] *= 1e-3
    was["c"][1][2] *= 1e-3
    now = same(was)
    now["c"][0][2] *= 1.001
    return before, was, after, now


def bias_behind_a_flatten_that_went(random: np.random.Generator) -> Tuple[Net, Blobs, Net, Blobs]:
    product = "ip: InnerProduct %s -> ip { inner_product_param { num_output: 5 } }"
    before = ("data 2 3 8 8", "f: Flatten data -> f", product % "f")
    was = seeded(prototxt(*before))
    was["ip"][1][...] *= 0.02
    now = same(was)
    now["ip"][1][3] *= 1.001
    return before, was, (before[0], product % "data"), now


def channel_that_relus_let_through_near_0(
    random: np.random.Generator,
) -> Tuple[Net, Blobs, Net, Blobs]:
    """Both nets hold the same behind two ReLUs: the second is open where the first has little."""
    pointwise = (
        "p: Convolution %s -> %s { convolution_param { num_output: 5 kernel_size: 1 group: 5 } }"
    )
    last = "e: Convolution %s -> e { convolution_param { num_output: 3 kernel_size: 1 } }"
    before = ("data 2 12 9 9", CONV, RELU, pointwise % ("c", "p"), "q: ReLU p -> p", last % "p")
    was = seeded(prototxt(*before))
    was["p"][0][2], was["p"][1][2] = -1, 0.2
    after = (
        before[0],
        CONV.replace("-> c", "-> d"),
        "r: ReLU d -> d",
        pointwise % ("d", "o"),
        "q: ReLU o -> o",
        last % "o",
    )
    now = same(was)
    now["c"][0][2], now["c"][1][2] = 2 * was["c"][0][2] * 1.00014, 2 * was["c"][1][2]
    now["p"][0][2] = was["p"][0][2] / 2
    now["p"][0][3], now["p"][1][3] = was["p"][0][3] / 2, was["p"][1][3] / 2
    now["e"][0][:, 3] *= 2
    return before, was, after, now


def tap_at_the_side_of_a_padded_window(
    random: np.random.Generator,
) -> Tuple[Net, Blobs, Net, Blobs]:
    """What it reads is large on few inputs only; the window lies over the border there."""
    before, was, after, now = channel_that_relus_let_through_near_0(random)
    before, after = (
        tuple(
            line.replace("num_output: 3 kernel_size: 1", "num_output: 3 kernel_size: 3 pad: 1")
            for line in net
        )
        for net in (before, after)
    )
    for blobs in (was, now):
        kernel, bias = blobs["e"]
        blobs["e"] = [np.repeat(np.repeat(kernel, 3, axis=2), 3, axis=3), bias]
    now["c"][0][2] /= 1.00014
    now["e"][0][:, 2, 0, 1] *= 1.0006
    return before, was, after, now


def bias_behind_a_flatten_of_a_convolution(
    random: np.random.Generator,
) -> Tuple[Net, Blobs, Net, Blobs]:
    """What the convolution makes goes by two names in the old net, by one in the new."""
    product = "ip: InnerProduct %s -> ip { inner_product_param { num_output: 5 } }"
    before = ("data 2 3 8 8", CONV, "f: Flatten c -> f", product % "f")
    was = seeded(prototxt(*before))
    was["ip"][1][...] *= 0.02
    now = same(was)
    now["ip"][1][3] *= 1.001
    return before, was, (*before[:2], product % "c"), now


KINDS = [
    bias_behind_a_flatten_of_a_convolution,
    tap_at_the_side_of_a_padded_window,
    channel_that_relus_let_through_near_0,
    bias_behind_a_flatten_that_went,
    weight_of_a_product,
    weight_of_a_deconvolution,
    small_channel,
    bias_of_a_small_channel,
    behind_a_stride_that_moved,
]


@pytest.mark.usefixtures("few_sets")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_drowns_on_images_is_found(make: Callable[..., Any], tmp_path: Path) -> None:
    comparison = compared(tmp_path, *make(np.random.default_rng(0)))
    assert comparison.status == "failed"
    assert "few inputs at a time" in comparison.reason, comparison.reason


@pytest.mark.parametrize("seed", range(3))
def test_what_others_fold_in_float32_passes(seed: int, tmp_path: Path) -> None:
    was = seeded(prototxt(*FOLDED), seed)
    was["bn"][2][...] = 1
    assert compared(tmp_path, FOLDED, was, MERGED, folded(was, F32)).ok


def test_a_bias_that_cancels_out_in_float32_passes_by_the_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = seeded(prototxt(*FOLDED))
    was["bn"][2][...] = 1
    was["bn"][0] *= 10  # and taken away again
    exact = folded(was)["c"][1] - was["s"][1]
    was["s"][1] = np.asarray(-exact * (1 + 1e-5), F32)
    assert compared(tmp_path, FOLDED, was, MERGED, folded(was, F32)).ok
    monkeypatch.setattr(beyond, "_NUDGES", 0)
    assert not compared(tmp_path, FOLDED, was, MERGED, folded(was, F32)).ok


def test_noise_is_that_of_the_channels_that_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was dropped may hold a large constant, beside which all noise is small."""
    group = "{ convolution_param { num_output: 5 kernel_size: 3 group: 5 } }"
    lines = (
        *("data 2 3 9 9", CONV, SCALE, "r: ReLU6 c -> c", f"d: Convolution c -> d {group}"),
        "t: Scale d -> d { scale_param { bias_term: true } }",
        *("q: ReLU6 d -> d", CONV.replace("c: Convolution data -> c", "e: Convolution d -> e")),
    )
    was = seeded(prototxt(*lines))
    for name in "st":
        was[name][0][2], was[name][1][2] = 0, -1
    pair = write_pair(tmp_path, prototxt(*lines), was)
    counts: List[int] = []
    real = response.difference

    def recorded(was: Any, now: Any, scaled: bool = False) -> Any:
        counts.extend([was.values.shape[1]] * scaled)
        return real(was, now, scaled)

    monkeypatch.setattr(beyond, "difference", recorded)
    paths = [(str(a), str(b)) for a, b in (pair, merged(tmp_path, pair))]
    list(judged(paths[0], paths[1], Judging(), 1e-9, 40e9))
    assert {*counts} == {4}


@pytest.mark.parametrize("gamma", [0.0, 1e-30, 1e-41])
def test_a_dead_channel_passes(gamma: float, tmp_path: Path) -> None:
    was = seeded(prototxt(*FOLDED))
    was["bn"][2][...] = 1
    was["s"][0][1:3] = gamma
    was["s"][1][2] = 0
    assert compared(tmp_path, FOLDED, was, MERGED, folded(was, F32)).ok


@pytest.mark.usefixtures("few_sets")
def test_rounding_is_worth_what_the_worst_of_several_seeds_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes that nearly tie, for logits of thousands: of one seed the noise may cancel out."""
    first = "a: Convolution data -> a { convolution_param { num_output: 20 kernel_size: 1 } }"
    second = "b: Convolution %s -> b { convolution_param { num_output: 11 kernel_size: 1 } }"
    head, prob = "data 1 6 6 4", "prob: Softmax b -> prob"
    random = np.random.default_rng(69)  # seed 0 of the noise is small here
    was: Blobs = {}
    for name, shape in (("a", (20, 6, 1, 1)), ("b", (11, 20, 1, 1))):
        was[name] = [np.asarray(9 * random.standard_normal(shape), F32), np.zeros(shape[0], F32)]
    second_rows, first_rows = was["b"][0][..., 0, 0], was["a"][0][..., 0, 0]
    product = np.zeros((11, 6), F32)
    for column, row in zip(second_rows.T, first_rows):  # every BLAS adds up in an order of its own
        product += column[:, None] * row
    now = {"b": [product[..., None, None], was["b"][1]]}
    pairs = (head, first, second % "a", prob), was, (head, second % "data", prob), now
    assert compared(tmp_path, *pairs).ok
    monkeypatch.setattr(limits, "SEEDS", 1)
    assert not compared(tmp_path, *pairs).ok


@pytest.mark.parametrize("gamma", [1e-38, 1.3e-41, 1e-45])
def test_a_blob_that_float32_does_not_hold_shows_nothing(gamma: float, tmp_path: Path) -> None:
    was = seeded(prototxt(*FOLDED))
    was["bn"][2][...] = 1
    was["s"][0][...] = gamma
    was["s"][1][...] = 0
    comparison = compared(tmp_path, FOLDED, was, MERGED, folded(was, F32))
    assert comparison.status == "inconclusive"
    assert "all zero but for float32's smallest values" in comparison.reason


@pytest.mark.parametrize("twin", ["Pooling", "Dropout", "Power", "LRN"])
def test_a_layer_is_followed_though_its_top_has_another_name(twin: str, tmp_path: Path) -> None:
    """Channel 1 is alive for values of a pixel's size alone, which this input does not get."""
    twin_line = f"g: {twin} r -> %s" + (
        " { pooling_param { kernel_size: 2 stride: 2 } }" if twin == "Pooling" else ""
    )
    head = (
        "data 1 4 12 12",
        "c: Convolution data -> c { convolution_param { num_output: 3 kernel_size: 3 } }",
        "rc: ReLU c -> r",
    )
    last = "e: Convolution %s -> e { convolution_param { num_output: 3 kernel_size: 1 } }"
    before, after = ((*head, twin_line % name, last % name) for name in ("g", "renamed"))
    was = seeded(prototxt(*before))
    kernel = np.random.default_rng(5).standard_normal((3, 4, 3, 3)) / 360
    was["c"] = [kernel.astype(F32), np.array([0.3, -0.3, 0.2], F32)]
    now = same(was)
    now["e"][0][:, 1] *= 2
    assert compared(tmp_path, before, was, after, was).status != "failed"
    comparison = compared(tmp_path, before, was, after, now)
    assert comparison.status == "failed", comparison.summary()

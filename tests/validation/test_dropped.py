"""Channels that a merge drops: found in blobs, and the layers around them compared by impulses."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.validation.dropped import Kept, constants, kept_channels, kept_response
from caffe_merge.validation.impulses import impulse_response
from caffe_merge.validation.response import Response
from tests.nets import prototxt, seeded
from tests.validation.test_responses import F32, compared, same

LIMIT = 1e-5
BLOB = np.random.default_rng(0).standard_normal((2, 7, 3, 4))


@pytest.mark.parametrize("gone", [[0], [3], [6], [1, 2], [0, 5, 6]])
def test_channels_that_went_are_found(gone: List[int]) -> None:
    kept = np.setdiff1d(np.arange(7), gone)
    after = BLOB[:, kept] * np.linspace(0.999, 1.001, len(kept))[:, None, None]
    channels = kept_channels(BLOB, after, LIMIT)
    assert channels is not None
    np.testing.assert_array_equal(channels, kept)


def changed(place: Tuple[int, ...]) -> np.ndarray:
    after = np.delete(BLOB, 3, axis=1)
    after[place] += 0.1
    return after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BLOB, BLOB),
        (BLOB, BLOB[:, :0]),
        (BLOB, BLOB[:1, 1:]),
        (BLOB, BLOB[:, 1:, :2]),
        (BLOB, BLOB[:, 1:].reshape(2, -1)),
        (BLOB, changed((0, 0, 0, 0))),
        (BLOB, changed((1, 5, 2, 3))),
        (BLOB, BLOB[:, [1, 0, 2]]),
        (np.zeros(BLOB.shape), np.zeros(BLOB.shape)[:, 1:]),
        (np.full(BLOB.shape, np.nan), np.full(BLOB.shape, np.nan)[:, 1:]),
        (BLOB[:, [0, 1, 1, 2]], BLOB[:, [0, 1, 2]]),  # which of two that are alike?
    ],
)
def test_what_is_not_sure_is_not_said(before: np.ndarray, after: np.ndarray) -> None:
    assert kept_channels(before, after, LIMIT) is None


def test_what_is_left_out_is_constant_or_is_said_to_be_none() -> None:
    values = np.random.default_rng(0).standard_normal((5, 4, 1, 1))
    values[:, 1] = 0.7
    kept = constants(Response(("data", -1), (4, 1), values), np.array([0, 3]))
    assert kept is not None
    np.testing.assert_array_equal(kept.constants, [0, 0.7, np.nan, 0])
    wide = np.ones((5, 4, 2, 1))
    assert constants(Response(("data", -1), (4, 1), wide), np.array([0, 3])) is None


KEPT = Kept(np.array([0, 2, 3]), np.array([0, 0.7, 0, 0]))
UNREAD = Kept(np.array([0, 2, 3]), np.array([0, np.nan, 0, 0]))


def layer(text: str) -> Any:
    return text_format.Parse(text, LayerParameter())


CONV = layer('type: "Convolution" convolution_param { num_output: 5 kernel_size: 3 }')
PRODUCT = layer('type: "InnerProduct" inner_product_param { num_output: 5 }')
DEPTHWISE = layer('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 group: 4 }')
GROUPED = layer('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 group: 2 }')
TRANSPOSED = layer('type: "InnerProduct" inner_product_param { num_output: 5 transpose: true }')


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("param", "shape", "rank"), [(CONV, (5, 4, 3, 3), 4), (PRODUCT, (5, 4 * 6), 2)]
)
def test_constants_go_into_the_bias(
    param: Any, shape: Tuple[int, ...], rank: int, bias: bool
) -> None:
    blobs = [weights(*shape), *([weights(5)] if bias else [])]
    channels = blobs[0].reshape(5, 4, -1)
    shift = (weights(5) if bias else 0) + 0.7 * channels[:, 1].sum(axis=1)
    narrow = channels[:, [0, 2, 3]]
    expected = impulse_response(
        param, [narrow.reshape(5, 3, *shape[2:]) if rank == 4 else narrow, shift], rank
    )
    response = kept_response(param, blobs, rank, KEPT)
    assert response is not None
    assert expected is not None
    assert response.taps == expected.taps
    np.testing.assert_allclose(response.values, expected.values, rtol=1e-12, atol=1e-9)


def test_a_channel_of_a_depthwise_convolution_stays_constant() -> None:
    blobs = [weights(4, 1, 3, 3), weights(4)]
    response = kept_response(DEPTHWISE, blobs, 4, KEPT)
    every = impulse_response(DEPTHWISE, blobs, 4)
    assert response is not None
    assert every is not None
    assert response.taps == (9, 3)
    np.testing.assert_array_equal(response.values[:, [0, 2, 3]], every.values[:, [0, 2, 3]])
    np.testing.assert_allclose(
        response.values[:, 1].ravel(), weights(4)[1] + 0.7 * blobs[0][1].sum()
    )


@pytest.mark.parametrize("kept", [KEPT, UNREAD])
def test_a_channel_that_is_not_constant_may_go_where_nothing_reads_it(kept: Kept) -> None:
    read = weights(5, 4, 3, 3)
    assert (kept_response(CONV, [read], 4, kept) is None) == (kept is UNREAD)
    read[:, 1] = 0
    assert kept_response(CONV, [read], 4, kept) is not None


@pytest.mark.parametrize(
    ("param", "shape"),
    [
        (GROUPED, (4, 2, 3, 3)),
        (TRANSPOSED, (24, 5)),
        (CONV, (5, 3, 3, 3)),
        (PRODUCT, (5, 23)),
        (layer('type: "Convolution" convolution_param { num_output: 5 axis: 2 }'), (5, 4, 3, 3)),
    ],
)
def test_other_layers_are_not_followed(param: Any, shape: Tuple[int, ...]) -> None:
    assert kept_response(param, [weights(*shape)], 4, KEPT) is None


WIDE = (
    "a: Convolution data -> a { convolution_param { num_output: 24 kernel_size: 1 } }",
    "ra: ReLU a -> a",
    "d: Convolution a -> d { convolution_param { num_output: 24 kernel_size: 3 group: 24 } }",
    "rd: ReLU d -> d",
    "b: Convolution d -> b { convolution_param { num_output: 10 kernel_size: 1 } }",
    "rb: ReLU b -> b",
)
NARROW = (
    "a: Convolution data -> x { convolution_param { num_output: 22 kernel_size: 1 } }",
    "ra: ReLU x -> x",
    "d: Convolution x -> y { convolution_param { num_output: 22 kernel_size: 3 group: 22 } }",
    "rd: ReLU y -> y",
    "b: Convolution y -> b { convolution_param { num_output: 10 kernel_size: 1 } }",
    "rb: ReLU b -> b",
)
HEAD = "data 2 40 9 9"


def dropped_pair() -> Tuple[Dict[str, List[np.ndarray]], Dict[str, List[np.ndarray]]]:
    """Weights of WIDE and of NARROW: channel 3 is constant, and nothing reads channel 5."""
    was = seeded(prototxt(HEAD, *WIDE))
    was["a"][0][3], was["a"][1][3] = 0, 0.7
    was["b"][0][:, 5] = 0
    now = {name: [np.delete(blob, [3, 5], axis=0) for blob in was[name]] for name in "ad"}
    held = max(0, was["d"][1][3] + 0.7 * was["d"][0][3].astype(np.float64).sum())
    bias = was["b"][1] + held * was["b"][0][:, 3, 0, 0].astype(np.float64)
    now["b"] = [np.delete(was["b"][0], [3, 5], axis=1), bias.astype(F32)]
    return was, now


def test_a_net_without_channels_that_do_nothing_passes(tmp_path: Path) -> None:
    was, now = dropped_pair()
    assert compared(tmp_path, (HEAD, *WIDE), was, (HEAD, *NARROW), now).ok


def test_a_channel_that_a_relu_never_lets_through_may_go(tmp_path: Path) -> None:
    """Channel 2 of b is never positive where what it reads is not negative."""
    e = "e: Convolution b -> e { convolution_param { num_output: 5 kernel_size: 1 } }"
    was, now = dropped_pair()
    was["b"][0][2], was["b"][1][2] = -np.abs(was["b"][0][2]), -1
    was["e"] = seeded(prototxt(HEAD, *WIDE, e))["e"]
    b = [np.delete(blob, 2, axis=0) for blob in was["b"]]
    held = now["b"][1].astype(np.float64) - dropped_pair()[0]["b"][1]  # what channel 3 adds
    now["b"] = [np.delete(b[0], [3, 5], axis=1), (b[1] + np.delete(held, 2)).astype(F32)]
    now["e"] = [np.delete(was["e"][0], 2, axis=1), was["e"][1]]
    narrow = [line.replace("b -> b", "z -> z").replace("-> b", "-> z") for line in NARROW]
    narrow[4] = narrow[4].replace("num_output: 10", "num_output: 9")
    after = (HEAD, *narrow, e.replace("b -> e", "z -> e"))
    comparison = compared(tmp_path, (HEAD, *WIDE, e), was, after, now)
    assert comparison.ok, comparison.reason


@pytest.mark.usefixtures("few_sets")
@pytest.mark.parametrize("factor", [1.00002, 1.00005, 1.0002, 1.001, 1.005])
@pytest.mark.parametrize("blob", [0, 1])
@pytest.mark.parametrize("name", ["a", "d", "b"])
def test_what_is_wrong_between_dropped_channels_is_found(
    name: str, blob: int, factor: float, tmp_path: Path
) -> None:
    """Where it is, if no blob moves beyond its limit, as what comes next hides it."""
    was, now = dropped_pair()
    wrong = same(now)[name]
    wrong[blob].flat[np.abs(wrong[blob]).argmax()] *= factor
    comparison = compared(tmp_path, (HEAD, *WIDE), was, (HEAD, *NARROW), {**now, name: wrong})
    assert comparison.status == "failed"
    place = f"blob '{name}' (as 'r{name}' reads it): its channel"
    differs = ("blob 'b' differs", "blob 'b' (as 'rb' reads it) differs")
    assert comparison.reason.startswith((*differs, place))

"""Text and weights joined as Net::CopyTrainedLayersFrom does it; real Caffe judges each case."""

import tracemalloc
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest

from caffe_merge.errors import NetError, ValidationError, WeightsError
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.layers.fillers import fill
from caffe_merge.net import saving
from caffe_merge.net.loading import Net
from tests.nets import Stored, load, load_pair, stored, write_pair
from tests.real_caffe import RealCaffe

RANDOM = np.random.default_rng(0)
INPUT = """layer { name: "x" type: "Input" top: "x"
  input_param { shape { dim: 2 dim: 4 dim: 5 dim: 6 } } }
"""
BODY = {
    "Convolution": "convolution_param { num_output: 6 kernel_size: 3 group: 2 }",
    "Deconvolution": "convolution_param { num_output: 6 kernel_size: 3 group: 2 }",
    "InnerProduct": "inner_product_param { num_output: 3 }",
    "BatchNorm": "",
    "Scale": "scale_param { bias_term: true }",
    "Bias": "",
    "PReLU": "",
}
expected: Dict[str, List[Tuple[int, ...]]] = {
    "Convolution": [(6, 2, 3, 3), (6,)],
    "Deconvolution": [(4, 3, 3, 3), (6,)],
    "InnerProduct": [(3, 120), (3,)],
    "BatchNorm": [(4,), (4,), (1,)],
    "Scale": [(4,), (4,)],
    "Bias": [(4,)],
    "PReLU": [(4,)],
}


def layer_text(
    kind: str, name: str = "l", body: str = "", bottom: str = "x", top: str = "y"
) -> str:
    """A layer of type ``kind``."""
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" '
        f"{body or BODY.get(kind, '')} }}\n"
    )


def model(layers: Sequence[Tuple[str, Sequence[Stored]]]) -> bytes:
    """A caffemodel with seeded positive values."""
    return stored(layers, RANDOM)


def caffe_takes(caffe: RealCaffe, folder: Path, text: str, weights: bytes) -> bool:
    """Whether real Caffe loads the pair."""
    try:
        caffe.forward_pair(*write_pair(folder, text, weights), {})
    except ValidationError:
        return False
    return True


def notes(net: Net) -> List[Tuple[str, str]]:
    """What was noted of which layers."""
    return [(note.kind, note.layer) for note in net.notes]


@pytest.mark.parametrize("kind", BODY)
def test_shapes_that_fit(kind: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = INPUT + layer_text(kind)
    padded = [Stored((1,) * (4 - len(dims)) + dims, True) for dims in expected[kind]]
    for blobs in ([Stored(dims) for dims in expected[kind]], padded):
        weights = model([("l", blobs)])
        net = load(tmp_path, text, weights)
        assert [blob.shape for blob in net.layers[1].blobs] == expected[kind]
        assert notes(net) == []
        assert caffe_takes(real_caffe, tmp_path, text, weights)


FC = [Stored((3, 120)), Stored((3,))]
MISFITS = {
    "a bias more": (
        "InnerProduct", [*FC, FC[1]], "layer 'l': expected 2 blobs for an InnerProduct, found 3",
    ),
    "no bias": (
        "InnerProduct", FC[:1],
        "layer 'l': expected 2 blobs for an InnerProduct, found 1: there is no bias; set "
        "bias_term: false in inner_product_param",
    ),
    "no blobs": ("InnerProduct", [], "layer 'l': expected 2 blobs for an InnerProduct, found 0"),
    "blobs for none": ("ReLU", [Stored((3,))], "layer 'l': expected 0 blobs for a ReLU, found 1"),
    "transposed": (
        "InnerProduct", [Stored((120, 3)), FC[1]],
        "layer 'l', blob 0: expected shape (3, 120), found (120, 3)",
    ),
    "same count, other rank": (
        "InnerProduct", [Stored((3, 4, 5, 6)), FC[1]],
        "layer 'l', blob 0: expected shape (3, 120), found (3, 4, 5, 6)",
    ),
    "padded, but not legacy": (
        "BatchNorm", [Stored((4,)), Stored((1, 1, 1, 4)), Stored((1,))],
        "layer 'l', blob 1: expected shape (4,), found (1, 1, 1, 4)",
    ),
    "legacy, padded behind": (
        "BatchNorm", [Stored((4,)), Stored((1, 4, 1, 1), True), Stored((1,))],
        "layer 'l', blob 1: expected shape (4,), found (1, 4, 1, 1)",
    ),
    "legacy, not 1 in front": (
        "InnerProduct", [Stored((3, 1, 1, 120), True), FC[1]],
        "layer 'l', blob 0: expected shape (3, 120), found (3, 1, 1, 120)",
    ),
    "group": (
        "Convolution", [Stored((6, 4, 3, 3)), Stored((6,))],
        "layer 'l', blob 0: expected shape (6, 2, 3, 3), found (6, 4, 3, 3)",
    ),
    "a wrong bias": (
        "Convolution", [Stored((6, 2, 3, 3)), Stored((4,))],
        "layer 'l', blob 1: expected shape (6,), found (4,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_names_layer_and_blob(
    case: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    kind, blobs, message = MISFITS[case]
    text, weights = INPUT + layer_text(kind), model([("l", blobs)])
    with pytest.raises(WeightsError) as caught:
        load(tmp_path, text, weights)
    assert str(caught.value) == f"{tmp_path / 'net.caffemodel'}: {message}"
    assert not caffe_takes(real_caffe, tmp_path, text, weights)


def test_what_a_layer_of_a_fork_learns_is_taken_as_it_is(tmp_path: Path) -> None:
    weights = model([("l", [Stored((7,)), Stored((1, 1, 2, 2), True)]), ("e", [Stored((9, 9))])])
    text = INPUT + layer_text("OfAFork") + layer_text("InnerProduct", "e", "of_a_fork { }", top="z")
    net = load(tmp_path, text, weights)
    assert [blob.shape for blob in net.layers[1].blobs] == [(7,), (1, 1, 2, 2)]
    assert [blob.shape for blob in net.layers[2].blobs] == [(9, 9)]


def test_names_match_whatever_the_type_and_order(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = INPUT + layer_text("PReLU", "b", top="y") + layer_text("Bias", "a", bottom="y", top="z")
    weights = model([("a", [Stored((4,))]), ("b", [Stored((4,))])])
    net = load(tmp_path, text, weights)
    assert [layer.record.name for layer in net.layers[1:]] == ["b", "a"]
    x = RANDOM.standard_normal((2, 4, 5, 6)).astype("f4")
    actual = real_caffe.forward_pair(*write_pair(tmp_path, text, weights), {"x": x})
    slope, bias = (layer.blobs[0].float64()[:, None, None] for layer in net.layers[1:])
    np.testing.assert_allclose(actual["z"], np.where(x > 0, x, slope * x) + bias, 1e-5, 1e-6)


def values(net: Net, layer: str) -> List[float]:
    """The values of a layer's first blob."""
    (actual,) = [first for first in net.layers if first.name == layer]
    return list(actual.blobs[0].array().ravel())


def forward_bias(caffe: RealCaffe, folder: Path, text: str, weights: bytes) -> Dict[str, Any]:
    """What Caffe makes of an input of zeros: each blob's first channel-wise value."""
    zeros = np.zeros((2, 4, 5, 6), "f4")
    blobs = caffe.forward_pair(*write_pair(folder, text, weights), {"x": zeros})
    return {name: list(array[0, :, 0, 0]) for name, array in blobs.items()}


def test_of_two_records_of_one_name_the_last_counts(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = INPUT + layer_text("Bias")
    weights = model([("l", [Stored((4,))]), ("l", [Stored((4,))])])
    net = load(tmp_path, text, weights)
    assert notes(net) == [("duplicate-weights", "l")]
    assert values(net, "l") == forward_bias(real_caffe, tmp_path, text, weights)["y"]


def test_of_two_layers_of_one_name_the_first_is_meant(
    tmp_path: Path, real_caffe: RealCaffe
) -> None:
    text = INPUT + layer_text("Bias") + layer_text("Bias", bottom="x", top="z")
    weights = model([("l", [Stored((4,))])])
    net = load(tmp_path, text, weights)
    outputs = forward_bias(real_caffe, tmp_path, text, weights)
    assert [list(layer.blobs[0].array()) for layer in net.layers[1:]] == [
        outputs["y"],
        outputs["z"],
    ]
    assert notes(net) == [("filler-weights", "l")]
    assert net.layers[2].filled


def test_two_layers_of_one_name_by_phase(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = (
        INPUT
        + layer_text("InnerProduct", body=BODY["InnerProduct"] + " include { phase: TRAIN }")
        + layer_text("Bias", body="include { phase: TEST }")
    )
    weights = model([("l", [Stored((4,))])])
    net = load(tmp_path, text, weights)
    assert [layer.type for layer in net.layers] == ["Input", "Bias"]
    assert values(net, "l") == forward_bias(real_caffe, tmp_path, text, weights)["y"]


def test_weights_without_a_layer_are_noted_and_left_out(tmp_path: Path) -> None:
    text = INPUT + layer_text("Bias") + layer_text("Bias", "t", "include { phase: TRAIN }", top="z")
    weights = model(
        [("l", [Stored((4,))]), ("t", [Stored((4,))]), ("gone", [Stored((9,))]), ("y_split", [])]
    )
    net = load(tmp_path, text, weights)
    assert notes(net) == [("surplus-weights", "gone")]
    saving.save(net, str(tmp_path / "p"), str(tmp_path / "w"))
    written = NetParameter.FromString((tmp_path / "w").read_bytes())
    assert [layer.name for layer in written.layer] == ["l", "t"]  # t: another phase's, kept


CONSTANT = "{ type: 'constant' value: 0.5 }"
FILLED = {
    "PReLU": ("", [0.25]),
    "Scale": ("scale_param { bias_term: true }", [1, 0]),
    "Scale by its filler": (
        "scale_param { filler { value: 2 } bias_term: true bias_filler { value: 3 } }", [2, 3],
    ),
    "Bias": ("", [0]),
    "BatchNorm": ("batch_norm_param { use_global_stats: true }", [0, 0, 0]),
    "InnerProduct": (
        f"inner_product_param {{ num_output: 3 weight_filler {CONSTANT} bias_filler {CONSTANT} }}",
        [0.5, 0.5],
    ),
    "InnerProduct by default": ("inner_product_param { num_output: 3 }", [0, 0]),
    "Convolution": (
        f"convolution_param {{ num_output: 6 kernel_size: 3 bias_filler {CONSTANT} }}", [0, 0.5],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILLED)
def test_fillers_that_are_not_random(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    body, constants = FILLED[case]
    text = INPUT + layer_text(case.split()[0], body=body)
    net = load(tmp_path, text, model([("x", [])]))
    layer = net.layers[1]
    assert layer.filled
    assert not layer.missing
    assert notes(net) == [("filler-weights", "l")]
    assert [set(blob.array().ravel()) for blob in layer.blobs] == [{c} for c in constants]  # type: ignore[attr-defined]
    assert [blob.shape for blob in layer.blobs] == real_caffe.blob_shapes(text)["l"]


UPSAMPLE = "convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 bias_term: false "


def test_bilinear_upsampling_runs_on_its_filler(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = INPUT + layer_text(
        "Deconvolution", body=UPSAMPLE + "weight_filler { type: 'bilinear' } }"
    )
    net = load(tmp_path, text, model([("x", [])]))
    (blob,) = net.layers[1].blobs
    expected = fill(net.layers[1].param.convolution_param.weight_filler, (4, 1, 4, 4))
    np.testing.assert_array_equal(blob.array(), expected)
    ones = np.ones((2, 4, 5, 6), "f4")
    outputs = real_caffe.forward_pair(
        tmp_path / "net.prototxt", tmp_path / "net.caffemodel", {"x": ones}
    )
    assert outputs["y"][0, 0, 4, 4] == pytest.approx(1)
    # Written only once it is changed: Caffe would fill it all the same.
    assert [entry.name for entry in saving.entries(net)] == ["x"]


@pytest.mark.parametrize("kind", ["xavier", "gaussian", "of_a_fork"])
def test_random_fillers_are_told_and_not_made_up(kind: str, tmp_path: Path) -> None:
    body = f"inner_product_param {{ num_output: 3 weight_filler {{ type: '{kind}' }} }}"
    net = load(tmp_path, INPUT + layer_text("InnerProduct", body=body), model([("x", [])]))
    assert net.layers[1].missing
    assert net.layers[1].blobs == ()
    assert notes(net) == [("missing-weights", "l")]


def test_an_absurd_filler_takes_no_memory(tmp_path: Path) -> None:
    body = "inner_product_param { num_output: 1200000 }"
    with pytest.raises(NetError, match="'l': expected fillers that make at most 134,217,728 val"):
        load(tmp_path, INPUT + layer_text("InnerProduct", body=body), model([("x", [])]))
    assert load_pair((tmp_path / "net.prototxt", None)).layers[1].missing


def test_the_fillers_of_a_whole_net_are_bounded(tmp_path: Path) -> None:
    """Each alone has room; where it is there, what is the same takes no memory."""

    def text(number: int) -> str:
        body = "inner_product_param { num_output: 100000 weight_filler { value: 2 } }"
        layers = [layer_text("InnerProduct", f"l{n}", body=body) for n in range(number)]
        return INPUT + "".join(layers)

    tracemalloc.start()
    fits = load(tmp_path, text(4), model([("x", [])]))
    with pytest.raises(NetError, match="at most 134,217,728 values in the whole net"):
        load(tmp_path, text(40), model([("x", [])]))
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    assert fits.layers[4].parameters > 4_000_000
    assert set(fits.layers[4].blobs[0].rows(slice(99, 101)).ravel()) == {2}


def test_the_weights_of_another_net_are_told(tmp_path: Path) -> None:
    weights = model([("conv1", [Stored((4,))]), ("conv2", [Stored((4,))])])
    with pytest.raises(WeightsError) as caught:
        load(tmp_path, INPUT + layer_text("Bias"), weights)
    assert str(caught.value) == (
        f"{tmp_path / 'net.caffemodel'}: the weights of another net? It has weights for 0 of the "
        "1 layer that need some (it has 'conv1', 'conv2', the text 'l'): give the caffemodel that "
        "was trained with this text"
    )


def test_a_net_that_has_learned_nothing_can_be_saved_and_read(tmp_path: Path) -> None:
    text = INPUT + layer_text("Dropout", "d") + layer_text("ReLU", "r", bottom="y", top="z")
    net = load(tmp_path, text, model([("d", [])]))
    net.all_layers.remove(net.layers[1])
    net.layers[1].param.bottom[0] = "x"
    saving.save(net, str(tmp_path / "p"), str(tmp_path / "w"))
    again = load_pair((tmp_path / "p", tmp_path / "w"))
    assert [layer.record.name for layer in again.layers] == ["x", "r"]


def test_a_text_without_weights(tmp_path: Path) -> None:
    prototxt, _ = write_pair(
        tmp_path, INPUT + layer_text("Bias") + layer_text("InnerProduct", "f", top="z"), b""
    )
    net = load_pair((prototxt, None))
    assert notes(net) == []
    assert [layer.filled or layer.missing for layer in net.layers] == [False, True, True]


def test_weights_of_many_layers_without_a_place_are_one_line(tmp_path: Path) -> None:
    text = INPUT + layer_text("Bias")
    names = ["l", *(f"other{n}" for n in range(83))]
    net = load(tmp_path, text, model([(name, [Stored((4,))]) for name in names]))
    (note,) = net.notes
    assert (note.kind, note.layer) == ("surplus-weights", "")
    assert note.text.startswith(
        "the weights of 83 layers unused: is this the right pair? ('other0'"
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ('type: "Reshape" top: "y" dim: 0', "at least 1 bottom, found 0"),
        ('type: "ReLU" bottom: "x" bottom: "x" top: "y" new: 1', "at most 1 bottom, found 2"),
        ('type: "ReLU" bottom: "x" top: "y" top: "z" new: 1', "at most 1 top, found 2"),
        ('type: "Bias" bottom: "x" top: "y" param { } param { }', "at most 1 param, .* found 2"),
    ],
)
def test_counts_are_checked_whatever_the_fields(
    layer: str, message: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    text = INPUT + f'layer {{ name: "l" {layer} }}'
    assert real_caffe.error(text.replace("new: 1", "").replace("dim: 0", ""))
    with pytest.raises(NetError, match=message):
        load(tmp_path, text, model([("l", [Stored((4,))] if "Bias" in layer else [])]))

"""What a text and its weights mean is what real Caffe makes of them, before and after a merge."""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import WeightsError
from caffe_merge.layers.layer import Layer, shares_memory
from caffe_merge.net.joining import layer_of_name
from tests.merger import assert_equal
from tests.nets import Stored, load_pair, parse, parse_layer, prototxt, stored, write_pair
from tests.real_caffe import RealCaffe

RANDOM = np.random.default_rng(3)
CONV = "{ convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: 'constant' "
CONV += "value: 0.1 } } }"
BIASED = "{ scale_param { bias_term: true } }"
Records = List[Tuple[str, List[Tuple[int, ...]]]]


def model(records: Records) -> bytes:
    """A caffemodel of records in this order, names repeated or not, of positive values."""
    return stored([(name, [*map(Stored, shapes)]) for name, shapes in records], RANDOM)


def merge_as_caffe(
    caffe: RealCaffe, folder: Path, text: str, weights: bytes, name: str = "x"
) -> Tuple[str, Dict[str, np.ndarray]]:
    """The merged text; Caffe must make of the merged pair what it makes of the old one."""
    pair = write_pair(folder, text, weights)
    net = load_pair(pair)
    caffe_merge.merge(net)
    new = folder / "new.prototxt", folder / "new.caffemodel"
    caffe_merge.save(net, str(new[0]), str(new[1]))
    load_pair(new)
    data = RANDOM.standard_normal((2, 3, 4, 5)).astype("f4")
    before = caffe.forward_pair(*pair, {name: data})
    assert_equal(before, caffe.forward_pair(*new, {name: data}), 1e-5)
    return new[0].read_text(encoding="utf-8"), before


TWINS = prototxt(
    "x 2 3 4 5", f"c: Convolution x -> a {CONV}", "r: ReLU a -> a", f"c: Convolution a -> b {CONV}"
)
FOLDED = TWINS + prototxt(f"s: Scale b -> b {BIASED}")
KERNEL = ("c", [(3, 3, 1, 1), (3,)])
TWIN_CASES: Dict[str, Tuple[str, Records, bool]] = {
    "nothing of the second changes": (TWINS, [KERNEL], False),
    "the second takes a Scale in": (FOLDED, [KERNEL, ("s", [(3,), (3,)])], True),
    "two records": (FOLDED, [KERNEL, ("s", [(3,), (3,)]), KERNEL], True),
    "the first goes": (
        prototxt("x 2 3 4 5", f"f: Convolution x -> a {CONV}", f"c: Scale a -> a {BIASED}",
                 f"c: Scale a -> b {BIASED}", "r: ReLU b -> d"),
        [("f", [(3, 3, 1, 1), (3,)]), ("c", [(3,), (3,)])], False,
    ),
    "of two types": (
        prototxt("x 2 3 4 5", "c: Eltwise x x -> a", f"c: Convolution a -> b {CONV}",
                 f"s: Scale b -> d {BIASED}"),
        [("c", []), ("s", [(3,), (3,)])], True,
    ),
    "three": (
        FOLDED + prototxt("q: ReLU b -> d", f"c: Convolution d -> e {CONV}",
                          f"t: Scale e -> e {BIASED}"),
        [KERNEL, ("s", [(3,), (3,)]), ("t", [(3,), (3,)])], True,
    ),
    "the new name is taken": (
        FOLDED + prototxt("c_2: AbsVal b -> d"), [KERNEL, ("s", [(3,), (3,)])], True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TWIN_CASES)
def test_layers_of_one_name(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    text, records, is_renamed = TWIN_CASES[case]
    merged, _ = merge_as_caffe(real_caffe, tmp_path, text, model(records))
    names = [layer.name for layer in parse(merged).layers]
    assert any(name.startswith("c_") and name not in text for name in names) == is_renamed


def test_a_layer_that_is_written_under_another_name_is_told(tmp_path: Path) -> None:
    net = load_pair(write_pair(tmp_path, FOLDED, model([KERNEL, ("s", [(3,), (3,)])])))
    caffe_merge.merge(net)
    caffe_merge.save(net, str(tmp_path / "p"), str(tmp_path / "w"))
    (note,) = [note for note in net.notes if note.kind == "renamed"]
    assert note.layer == "c"
    assert "'c_2'" in note.text


def test_from_hdf5_the_last_of_a_name_takes_the_weights() -> None:
    layers = parse(TWINS).layers
    assert layer_of_name(layers, last=False)["c"] is layers[1]
    assert layer_of_name(layers, last=True)["c"] is layers[3]


INPUT = prototxt("x 2 3 4 5")
CHAIN = prototxt(f"c: Convolution x -> a {CONV}", f"s: Scale a -> a {BIASED}", "r: ReLU a -> b")
SHAPE = "input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }\n"
LAYERS = CHAIN.split("layer {")
INPUT_CASES = {
    "without a shape, of an Input layer's name": 'input: "x"\n' + INPUT + CHAIN,
    "without a shape, of another name": 'input: "y"\n' + INPUT + CHAIN,
    "without a shape, behind the layers": INPUT + CHAIN + 'input: "x" input: "z"\n',
    "behind the layers": CHAIN + 'input: "x"\n' + SHAPE,
    "behind the layers, dims": CHAIN + 'input: "x" input_dim: [2, 3, 4, 5]',
    "between the layers": f"layer {{{LAYERS[1]}input: 'x' layer {{{LAYERS[2]}{SHAPE}"
    f"layer {{{LAYERS[3]}",
    "around the layers": 'input: "x"\n' + CHAIN + SHAPE,
    "the shape before": SHAPE + CHAIN + 'input: "x"\n',
}


@pytest.mark.parametrize("case", INPUT_CASES)
def test_inputs_stand_anywhere(case: str, tmp_path: Path, real_caffe: RealCaffe) -> None:
    weights = model([("c", [(3, 3, 1, 1), (3,)]), ("s", [(3,), (3,)])])
    text, _ = merge_as_caffe(real_caffe, tmp_path, INPUT_CASES[case], weights)
    assert '"s"' not in text


@pytest.mark.parametrize("case", list(INPUT_CASES)[3:])
def test_a_new_layer_behind_inputs_anywhere(
    case: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    """The Scale that a BatchNorm becomes is a new layer, behind the last input."""
    text = INPUT_CASES[case].replace('"c"', '"bn"').replace('"Convolution"', '"BatchNorm"')
    text = text.replace(CONV[2:-2], "")
    weights = model([("bn", [(3,), (3,), (1,)]), ("s", [(3,), (3,)])])
    merge_as_caffe(real_caffe, tmp_path, text, weights)


BLOBS = {
    "shape": "blobs { shape { dim: 3 dim: 3 dim: 1 dim: 1 } %s } blobs { shape { dim: 3 } %s }",
    "legacy": "blobs { num: 3 channels: 3 height: 1 width: 1 %s } blobs { shape { dim: 3 } %s }",
}
NUMBERS = " ".join(f"data: {0.25 * n - 1}" for n in range(9)), "data: [1, -2, 0.5]"


def text_blobs(form: str, more: str = "") -> str:
    """A Convolution whose weights are in the text, and a Scale."""
    body = "convolution_param { num_output: 3 kernel_size: 1 } " + BLOBS[form] % NUMBERS + more
    return prototxt(
        "x 2 3 4 5", f"c: Convolution x -> a {{ {body} }}", f"s: Scale a -> a {BIASED}",
        "r: ReLU a -> b",
    )  # fmt: skip


@pytest.mark.parametrize("form", BLOBS)
@pytest.mark.parametrize(
    "records",
    [
        [("s", [(3,), (3,)])],
        [("s", [(3,), (3,)]), ("c", [(3, 3, 1, 1), (3,)])],
        [("c", [(3, 3, 1, 1), (3,)])],
    ],
    ids=["not in the file", "in the file too", "the Scale on fillers"],
)
def test_blobs_in_the_text(
    form: str, records: Records, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    merged, _ = merge_as_caffe(real_caffe, tmp_path, text_blobs(form), model(records))
    assert "blobs" not in merged
    assert '"s"' not in merged


def test_blobs_in_the_text_of_a_layer_that_shares_them(
    tmp_path: Path, real_caffe: RealCaffe
) -> None:
    text = text_blobs("shape", ' param { name: "w" }') + prototxt(
        "d: Convolution b -> d { param { name: 'w' } convolution_param { num_output: 3 "
        "kernel_size: 1 } }"
    )
    merge_as_caffe(real_caffe, tmp_path, text, model([("s", [(3,), (3,)])]))


def test_blobs_in_the_text_that_nothing_changes(tmp_path: Path, real_caffe: RealCaffe) -> None:
    text = text_blobs("shape").split('layer {\n  name: "s"')[0]
    merge_as_caffe(real_caffe, tmp_path, text, model([("x", [])]))


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ("blobs { shape { dim: 3 } data: [1, 2] }", "layer 'c', blob 0: in the text: shape"),
        ("blobs { shape { dim: 3 } data: [1, 2, 3] }", "layer 'c': expected 2 blobs"),
        (BLOBS["shape"].replace("dim: 1 ", "dim: 2 ", 1) % (f"{NUMBERS[0]} {NUMBERS[0]}", ""),
         "layer 'c', blob 1: in the text: shape"),
        (BLOBS["shape"].replace("dim: 3 dim: 3", "dim: 9 dim: 1") % NUMBERS,
         "layer 'c', blob 0: expected shape"),
    ],
)  # fmt: skip
def test_blobs_in_the_text_that_do_not_fit(
    blobs: str, message: str, tmp_path: Path, real_caffe: RealCaffe
) -> None:
    text = text_blobs("shape").replace(BLOBS["shape"] % NUMBERS, blobs)
    assert real_caffe.error(text)
    with pytest.raises(WeightsError, match=message):
        load_pair(write_pair(tmp_path, text, model([("s", [(3,), (3,)])])))


@pytest.mark.parametrize(
    ("order", "shares"),
    [("0 1 2", True), (None, True), ("0", True), ("0x0 01", True), ("1", False), ("0 2", False)],
)
def test_a_permute_that_changes_nothing_shares_its_blob(order: Optional[str], shares: bool) -> None:
    layer = Layer(parse_layer('type: "Permute"', name="p", bottom=["x"], top=["y"]))
    layer.extra = {"permute_param": ""}
    if order is not None:
        layer.extra["permute_param.order"] = order
    assert shares_memory(layer) is shares


def test_a_fold_behind_a_permute_that_shares_its_blob_is_refused(tmp_path: Path) -> None:
    """The blob is written in place for both its names, as behind a Reshape that does nothing."""
    last = prototxt("n: Power b -> n { power_param { scale: 3 } }", "o: Sigmoid a -> o")
    kept = []
    for body in (
        "b: Permute a -> b { permute_param { order: 0 order: 1 } }",
        "b: Reshape a -> b { reshape_param { shape { dim: 0 dim: 0 } } }",
        "b: Permute a -> b { permute_param { order: 1 } }",
    ):
        text = prototxt(
            "x 1 4",
            "a: TanH x -> a",
            body,
            "s: Scale b -> b { scale_param { filler { value: 2 } } }",
        )
        text += last
        net = load_pair(write_pair(tmp_path, text, model([("x", [])])))
        caffe_merge.merge(net)
        kept.append("n" in [layer.name for layer in net.layers])
    assert kept == [True, True, False]

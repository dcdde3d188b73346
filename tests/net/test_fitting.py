"""Weights that do not fit the text: one line, with what to do about it."""

from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import pytest

from caffe_merge.command.cli import main
from caffe_merge.errors import CaffeMergeError, NetError, WeightsError
from caffe_merge.net.loading import Net
from caffe_merge.wording import with_article
from tests.nets import load, load_pair, prototxt, seeded, write_pair

CONV = "c: Convolution data -> c { convolution_param { num_output: 4 kernel_size: 3 %s } }"
BIAS = {
    "Scale": "c: Scale data -> c",
    "Convolution": CONV % "bias_term: false",
    "InnerProduct": "c: InnerProduct data -> c "
    "{ inner_product_param { num_output: 4 bias_term: false } }",
}


def message(folder: Path, text: str, weights: Dict[str, List[np.ndarray]]) -> str:
    """The error of a pair, without the file's name."""
    with pytest.raises(WeightsError) as caught:
        load(folder, text, weights)
    return str(caught.value).replace(f"{folder / 'net.caffemodel'}: ", "")


def load_text(folder: Path, text: str) -> Net:
    """The net of a text without weights."""
    (folder / "net.prototxt").write_text(text)
    return load_pair((folder / "net.prototxt", None))


@pytest.mark.parametrize("kind", BIAS)
def test_a_bias_that_the_text_does_not_have(kind: str, tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 7", BIAS[kind])
    weights = seeded(text)
    weights["c"].append(np.ones(len(weights["c"][0])))
    block = {"Scale": "scale", "Convolution": "convolution", "InnerProduct": "inner_product"}[kind]
    assert message(tmp_path, text, weights) == (
        f"layer 'c': expected 1 blob for {with_article(kind)}, found 2: the last one is a bias; "
        f"set bias_term: true in {block}_param"
    )


def test_a_bias_that_the_file_does_not_have(tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 7", CONV % "")
    assert message(tmp_path, text, {"c": seeded(text)["c"][:1]}) == (
        "layer 'c': expected 2 blobs for a Convolution, found 1: there is no bias; set "
        "bias_term: false in convolution_param"
    )


def test_channels_that_are_last(tmp_path: Path) -> None:
    weights = seeded(prototxt("data 1 3 22 24", CONV % ""))
    assert message(tmp_path, prototxt("data 1 22 24 3", CONV % ""), weights) == (
        "layer 'c', blob 0: expected shape (4, 22, 3, 3), found (4, 3, 3, 3); input 'data' has "
        "shape (1, 22, 24, 3), as if channels were last: Caffe has batch, channels, height, "
        "width: 1,3,22,24"
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("p: Pooling data -> p { pooling_param { kernel_size: 9 } }", "no negative dimension"),
        (CONV.replace("kernel_size: 3", "kernel_size: 9") % "", "no negative dimension"),
        (CONV.replace("kernel_size: 3", "kernel_size: 4") % "", "no empty top"),
        ("r: Reorg data -> r { reorg_param { stride: 2 } }", "a height and width that stride 2"),
    ],
)
def test_sizes_that_come_of_channels_that_are_last(line: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(NetError, match=f"expected {fault}.*as if channels were last: .* 1,3,22,24"):
        load_text(tmp_path, prototxt("data 1 22 24 3", line))
    net = load_text(tmp_path, prototxt("data 1 22 24 3", "t: TanH data -> t"))
    assert [note.kind for note in net.notes] == ["channels-last"]


@pytest.mark.parametrize(
    ("dims", "line"),
    [
        ("1 3 4 4", "p: Pooling data -> p { pooling_param { kernel_size: 9 } }"),
        ("1 22 24 3", "p: Pooling data -> p { pooling_param { kernel_size: 0 } }"),
        ("1 22 24 3", CONV % "group: 3"),
    ],
)
def test_what_does_not_come_of_channels_that_are_last(dims: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(NetError) as caught:
        load_text(tmp_path, prototxt(f"data {dims}", line))
    assert "channels were last" not in str(caught.value)


@pytest.mark.parametrize("dims", ["1 5 3 3", "2 3 4 5", "1 60", "1 9 5 9"])
def test_other_shapes_are_no_sign_of_channels_last(dims: str, tmp_path: Path) -> None:
    line = message(tmp_path, prototxt(f"data {dims}", BIAS["Scale"]), {"c": [np.ones(99)]})
    assert line.endswith("found (99,)")


def chain(*names: str) -> str:
    """A net of Biases of these names behind another."""
    tops = ["data", *names]
    return prototxt("data 1 3 4 5", *(f"{b}: Bias {a} -> {b}" for a, b in zip(tops, names)))


def test_many_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    weights = {name: [np.ones(3 if name == "b" else 7)] for name in "abcd"}
    assert message(tmp_path, chain(*"abcd"), weights) == (
        "layer 'a', blob 0: expected shape (3,), found (7,) (3 of the 4 layers in the file "
        "do not fit): is this the right pair?"
    )


@pytest.mark.parametrize(("fits", "lacks", "refused"), [(0, 1, True), (1, 9, True), (1, 8, False)])
def test_a_pair_of_which_nearly_nothing_fits(
    fits: int, lacks: int, refused: bool, tmp_path: Path
) -> None:
    """A name or two are alike by chance; and a layer without weights is in most nets."""
    names = [f"l{n}" for n in range(fits + lacks)]
    weights: Dict[str, Sequence[np.ndarray]] = {n: [np.ones(3)] for n in (*names[:fits], "x", "y")}
    text = chain(*names)
    pair = write_pair(tmp_path, text, {"data": [], **weights})
    if not refused:
        assert len(load_pair(pair).layers) == fits + lacks + 1
        return
    with pytest.raises(WeightsError) as caught:
        load_pair(pair)
    layers = "1 layer" if fits + lacks == 1 else f"{fits + lacks} layers"
    assert str(caught.value).startswith(
        f"{pair[1]}: the weights of another net? It has weights for {fits} of the {layers} that "
        f"need some (it has 'x', 'y', the text 'l{fits}'"
    )
    assert str(caught.value).endswith(": give the caffemodel that was trained with this text")


def test_layers_without_weights_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "abcdefg"
    pair = write_pair(tmp_path, chain(*names), {name: [np.ones(3)] for name in "abc"})
    flags = ["--model", str(pair[0]), "--weights", str(pair[1])]
    assert main(["plan", *flags]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no weights" in line]
    assert line == (
        "note: the file has no weights for 4 layers ('d', 'e' and 2 more); they run on their "
        "fillers, as in Caffe: is this the right pair?"
    )
    assert main(["plan", *flags, "-v"]) == 0
    assert capsys.readouterr().out.count("the file has no weights for this Bias") == 4


def test_a_shape_that_the_user_gave_is_named_as_the_cause(tmp_path: Path) -> None:
    text = prototxt("data 1 3 6 7", CONV % "")
    pair = write_pair(tmp_path, text, seeded(text))
    for shape, fault in (((1, 2, 6, 7), "expected shape"), ((1, 3, 6, 2), "found shape")):
        with pytest.raises(CaffeMergeError, match=fault) as caught:
            load_pair(pair, input_shapes={"data": shape})
        ending = f"; with input_shape data={','.join(map(str, shape))}"
        assert str(caught.value).endswith(ending)
        assert caught.value.text(lambda name: f"--{name}").endswith(ending.replace("inp", "--inp"))

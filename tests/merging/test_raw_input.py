"""Nets that take raw pixels: the new net on pixels is the old one on what was made of them."""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import pytest

import caffe_merge
from caffe_merge.errors import UsageError
from caffe_merge.merging.report import Report
from caffe_merge.net.loading import Net
from caffe_merge.validation import validate
from caffe_merge.validation.workers import find_caffe_python
from tests.merger import assert_equal, run
from tests.nets import load_pair, prototxt, write_pair
from tests.real_caffe import RealCaffe

IN = "data 2 3 9 11"
MEAN = [104.0, 117.5, 123.0]
IMAGE = np.random.default_rng(5).uniform(80, 150, (3, 9, 11))


def conv(name: str, body: str = "kernel_size: 3", bottom: str = "data") -> str:
    body = f"convolution_param {{ num_output: 6 {body} }}"
    return f"{name}: Convolution {bottom} -> {name} {{ {body} }}"


def fc(name: str, bottom: str = "data", body: str = "") -> str:
    body = f"inner_product_param {{ num_output: 5 {body} }}"
    return f"{name}: InnerProduct {bottom} -> {name} {{ {body} }}"


class RawMerge(NamedTuple):
    """A merged net as read from disk, and the report."""

    net: Net
    report: Report
    text: str

    @property
    def names(self) -> List[str]:
        """The layers left, inputs apart."""
        return [layer.name for layer in self.net.layers if layer.type != "Input"]


class Maker:
    """Merges nets with their preprocessing, and compares them in float64 and in real Caffe."""

    def __init__(self, folder: Path, caffe: Optional[RealCaffe]) -> None:
        self.folder = folder
        self.caffe = caffe

    def __call__(self, *lines: str, **options: Any) -> RawMerge:
        """Merge the net of ``lines``, or of the text that is their only one."""
        text = prototxt(*lines) if len(lines) > 1 else lines[0]
        pair = write_pair(self.folder, text)
        net = load_pair(pair)
        report = caffe_merge.merge(net, **options)
        new = self._saved(net, "merged")
        again = load_pair(new)
        assert caffe_merge.merge(again).changes == [], "not idempotent"
        assert [saved_layer.read_bytes() for saved_layer in self._saved(again, "again")] == [
            item.read_bytes() for item in new
        ]
        self._compare(pair, new, options)
        return RawMerge(load_pair(new), report, new[0].read_text())

    def _saved(self, net: Net, stem: str) -> Tuple[Path, Path]:
        out = self.folder / f"{stem}.prototxt", self.folder / f"{stem}.caffemodel"
        caffe_merge.save(net, str(out[0]), str(out[1]), force=True)
        return out

    def _compare(
        self, old: Tuple[Path, Path], new: Tuple[Path, Path], options: Dict[str, Any]
    ) -> None:
        before, after = load_pair(old), load_pair(new)
        raw, fed = {}, {}
        for layer in before.layers:
            if layer.type != "Input":
                continue
            (top,), (shape,) = layer.param.top, layer.param.input_param.shape
            random = np.random.default_rng([3, *top.encode()])
            raw[top] = fed[top] = random.uniform(0, 255, tuple(shape.dim)).astype(np.float32)
        fed["data"] = _preprocessed(raw["data"], options)
        results = [run(before, fed), run(after, raw)]
        if self.caffe is not None:
            results += [self.caffe.forward_pair(*old, fed), self.caffe.forward_pair(*new, raw)]
        for was, now, limit in zip(results[::2], results[1::2], (2e-6, 1e-4)):
            assert_equal({n: v for n, v in was.items() if n != "data"}, now, limit)


def _preprocessed(raw: np.ndarray, options: Dict[str, Any]) -> np.ndarray:
    """As pycaffe's Transformer: channels first, then the mean, then the scale."""
    x = raw[:, ::-1] if options.get("swap_rgb") else raw
    mean, scale = (np.asarray(options.get(name, off)) for name, off in (("mean", 0), ("scale", 1)))
    mean = mean.reshape(-1, 1, 1) if mean.ndim == 1 else mean
    return ((x - mean) * scale.reshape(-1, 1, 1)).astype(np.float32)


@pytest.fixture
def merge_raw(tmp_path: Path, request: pytest.FixtureRequest) -> Maker:
    expected = find_caffe_python()
    return Maker(tmp_path, request.getfixturevalue("real_caffe") if expected else None)


FOLDED: Dict[str, Tuple[List[str], Dict[str, Any]]] = {
    "all": ([conv("c")], {"mean": MEAN, "scale": [0.02, 0.0078125, 0.5], "swap_rgb": True}),
    "mean": ([conv("c")], {"mean": MEAN}),
    "one_mean": ([conv("c")], {"mean": 127.5, "scale": 0.0078125}),
    "grouped": ([conv("c", "kernel_size: 3 group: 3")], {"mean": MEAN, "scale": 0.5}),
    "several": (
        [conv("c"), conv("d", "kernel_size: 1"), fc("e")],
        {"mean": MEAN, "scale": 0.017, "swap_rgb": True},
    ),
    "product": ([fc("c")], {"mean": MEAN, "scale": 0.017, "swap_rgb": True}),
    "padded_scale": ([conv("c", "kernel_size: 3 pad: 1 stride: 2")], {"scale": [0.5, 0.25, 2.0]}),
    "padded_swap": (
        [conv("c", "kernel_size: 3 pad: 1")], {"swap_rgb": True, "scale": [0.5, 0.25, 2.0]}
    ),
    "image": ([fc("c")], {"mean": IMAGE, "scale": [0.5, 0.25, 2.0], "swap_rgb": True}),
    "image_of_one_batch": ([fc("c")], {"mean": IMAGE[np.newaxis]}),
    "flat_image": (
        [conv("c")], {"mean": np.broadcast_to(np.reshape(MEAN, (3, 1, 1)), (3, 9, 11))}
    ),
    "a_batch_norm": (
        ["bn: BatchNorm data -> b", "s: Scale b -> b { scale_param { bias_term: true } }",
         conv("c", bottom="b")],
        {"mean": MEAN, "scale": 0.017, "swap_rgb": True},
    ),
    "in_place": (
        ["bn: BatchNorm data -> data", conv("c", bottom="data")],
        {"mean": MEAN, "scale": 0.017, "swap_rgb": True},
    ),
    "dropout": (["d: Dropout data -> d", conv("c", bottom="d")], {"mean": MEAN}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_it_is_in_the_weights(merge_raw: Maker, name: str) -> None:
    """No layer is left of it, and the report says what the net takes now."""
    lines, options = FOLDED[name]
    result = merge_raw(IN, *lines, "t: ReLU c -> t", **options)
    assert not [layer for layer in result.names if layer.startswith("data")]
    assert {"bn", "s", "d"}.isdisjoint(result.names) or name == "several"
    report = result.report.to_json()["input"]
    assert (report["name"], report["layers"]) == ("data", [])
    assert report["swap_rgb"] == options.get("swap_rgb", False)
    assert report["scale"] == np.broadcast_to(options.get("scale", 1), 3).tolist()
    if np.ndim(options.get("mean", 0)) < 2:
        assert report["mean"] == np.broadcast_to(options.get("mean", 0), 3).tolist()
    (note,) = (note for note in result.report.notes if note.kind == "raw-input")
    assert note.text.startswith("the input 'data' takes raw pixels now: (x - mean) * scale")


PADDED = conv("c", "kernel_size: 3 pad: 1")
LEFT: Dict[str, Tuple[List[str], Dict[str, Any], str, List[str]]] = {
    "padded_mean": ([PADDED], {"mean": MEAN}, "it pads with 0, .*keeps a Scale", ["data_mean"]),
    "padded": (
        [PADDED], {"mean": MEAN, "scale": 0.017, "swap_rgb": True},
        "Convolution 'c' reads it: it pads with 0, .*keeps a Scale", ["data_scale"],
    ),
    "another_reader": (
        [conv("c"), "u: TanH data -> u"], {"scale": 0.017}, "TanH 'u' reads it", ["data_scale"]
    ),
    "deconvolution": (
        ["c: Deconvolution data -> c { convolution_param { num_output: 6 kernel_size: 3 } }"],
        {"mean": MEAN, "scale": 0.017, "swap_rgb": True}, "so a shift is no bias", ["data_scale"],
    ),
    "grouped": (
        [conv("c", "kernel_size: 3 group: 3")], {"swap_rgb": True},
        "it is grouped, .*keeps a Convolution", ["data_swap"],
    ),
    "grouped_and_padded": (
        [conv("c", "kernel_size: 3 pad: 1 group: 3")],
        {"mean": MEAN, "scale": 0.017, "swap_rgb": True}, "it is grouped", ["data_swap"],
    ),
    "image": (
        [conv("c")], {"mean": IMAGE, "scale": 0.017},
        r"has several places, .*keeps a Scale .*mean 11\d\.\d+,11\d\.\d+,11\d\.\d+$",
        ["data_mean"],
    ),
    "image_swapped": (
        [PADDED], {"mean": IMAGE, "scale": [1.0, 0.5, 0.25], "swap_rgb": True},
        "has several places", ["data_mean"],
    ),
    "a_net_output": (
        [conv("c"), "u: Power data -> u"], {"mean": MEAN}, "Power 'u' reads it", ["data_mean"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_folded_is_left_if_that_is_asked_for(merge_raw: Maker, name: str) -> None:
    lines, options, reason, left = LEFT[name]
    lines = [IN, *lines, "t: ReLU c -> t"]
    with pytest.raises(UsageError, match=reason) as error:
        merge_raw(*lines, **options)
    assert len(str(error.value).splitlines()) == 1
    assert "input 'data': " in str(error.value)
    result = merge_raw(*lines, **options, input_layer=True)
    assert [layer for layer in result.names if layer.startswith("data")] == left
    assert result.report.to_json()["input"]["layers"] == left
    (note,) = (note for note in result.report.notes if note.kind == "raw-input")
    assert note.text.endswith(f" and in {result.net.layers[1].type} {left[0]!r} on the input")


def test_an_image_is_a_scale_of_ones_over_all_its_axes(merge_raw: Maker) -> None:
    """No merge writes a Bias, which many readers of Caffe files do not know."""
    result = merge_raw(IN, conv("c"), mean=IMAGE, input_layer=True)
    layer = result.net.layers[1]
    assert (layer.type, layer.param.scale_param.num_axes) == ("Scale", 3)
    assert [blob.shape for blob in layer.blobs] == [(3, 9, 11)] * 2
    assert (layer.blobs[0].array() == 1).all()


def test_a_scale_that_is_there_takes_the_rest_in(merge_raw: Maker) -> None:
    """It stays as it must, and there is one layer as before."""
    lines = ["s: Scale data -> s { scale_param { bias_term: true } }", PADDED.replace("data", "s")]
    result = merge_raw(IN, *lines, mean=MEAN, scale=0.017, swap_rgb=True)
    assert result.names == ["s", "c"]


def test_the_text_of_the_layer_is_in_the_files_own_style(merge_raw: Maker) -> None:
    """It stands behind the input, also where that is a net-level field."""
    text = prototxt(PADDED).replace('"', "'").replace("\n  ", "\n\t")
    head = "name: 'n'\ninput: 'data'  # pixels\ninput_dim: 2\ninput_dim: 3\n"
    head += "input_dim: 9\ninput_dim: 11  # wide\n"
    result = merge_raw(head + text, mean=MEAN, input_layer=True)
    block = (
        "layer {\n\tname: 'data_mean'\n\ttype: 'Scale'\n\tbottom: 'data'\n\ttop: 'data_mean'\n"
        "\tscale_param {\n\t\tbias_term: true\n\t}\n}\n"
    )
    assert result.text == head + block + text.replace("bottom: 'data'", "bottom: 'data_mean'")


def test_names_that_are_taken(merge_raw: Maker) -> None:
    lines = [conv("data_mean", "kernel_size: 3 pad: 1"), "data_mean2: TanH data_mean -> t"]
    result = merge_raw(IN, *lines, mean=MEAN, input_layer=True)
    assert result.names == ["data_mean3", "data_mean", "data_mean2"]


def test_nothing_to_do(merge_raw: Maker) -> None:
    """A mean of 0 and a scale of 1 are pixels as they are."""
    assert merge_raw(IN, PADDED, mean=0, scale=1).names == ["c"]


def test_passes_that_do_not_run(merge_raw: Maker) -> None:
    with pytest.raises(UsageError, match="no pass that was asked for takes it in"):
        merge_raw(IN, conv("c"), mean=MEAN, skip=["fold-forward"])


TWO = [IN, "more 2 3 9 11", conv("c"), conv("d", bottom="more")]


def test_the_input_is_named_where_there_are_several(merge_raw: Maker) -> None:
    with pytest.raises(UsageError, match=r"'data', 'more'\).*mean NAME=104,117,123"):
        merge_raw(*TWO, mean=MEAN)
    text = prototxt(*TWO)
    pair = write_pair(merge_raw.folder, text)
    for options in ({"mean": "more=1,2,3"}, {"scale": "more=2"}, {"swap_rgb": "more"}):
        report = caffe_merge.merge(load_pair(pair), **options)  # type: ignore[arg-type]
        assert report.to_json()["input"]["name"] == "more"


def test_one_image_among_other_inputs_is_meant(merge_raw: Maker) -> None:
    lines = ["info 2 5", "f: InnerProduct info -> f { inner_product_param { num_output: 2 } }"]
    assert merge_raw(*lines, IN, conv("c"), mean=MEAN).report.to_json()["input"]["name"] == "data"


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([IN, conv("c")], {"mean": "dat=1"}, r"no input 'dat' \(its inputs: 'data'\)"),
        (["data 2 3", fc("c")], {"mean": 1}, "which input takes pixels is not clear"),
        (["data 2 3", fc("c")], {"mean": "data=1"}, "'data' has no shape of 4 axes"),
        (["data 2 4 9 11", conv("c")], {"swap_rgb": True}, "has 4 channels, not 3"),
        (["data 2 1 9 11", conv("c")], {"swap_rgb": True}, "has 1 channel, not 3"),
        (["data 2 1 9 11", conv("c")], {"scale": [1, 2]}, "scale: expected 1 value, found 2"),
        (
            [
                "d: DummyData -> d { dummy_data_param { shape { dim: 1 dim: 3 } } }",
                "u: TanH d -> u",
            ],
            {"mean": 1},
            "no input takes pixels: data layers make their own, deploy has Input",
        ),
        ([IN, conv("c")], {"mean": [1, 2]}, r"expected 1 or 3 values, or an image of \(3, 9, 11\)"),
        ([IN, conv("c")], {"scale": [1, 2]}, "scale: expected 1 or 3 values, found 2"),
        ([IN, conv("c")], {"scale": 0}, "expected values other than 0"),
        ([IN, "u: TanH data -> data"], {"mean": 1}, "'data' is a net output too"),
    ],
)
def test_what_does_not_fit_the_net(
    merge_raw: Maker, lines: List[str], options: Dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        merge_raw(*lines, **options)


def test_validation_feeds_each_net_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Pixels to the new one; a net that takes them for what it took before fails."""
    from caffe_merge.net.pixels import pixel_options

    engines = ["reference"]
    if find_caffe_python():
        monkeypatch.setenv("CAFFE_MERGE_CAFFE_PYTHON", request.getfixturevalue("real_caffe").python)
        engines.append("pycaffe")
    text = prototxt(IN, conv("c"), "t: ReLU c -> t", fc("f", "t"))
    old = write_pair(tmp_path, text)
    net = load_pair(old)
    caffe_merge.merge(net, mean=MEAN, scale=0.017, swap_rgb=True)
    new = tmp_path / "m.prototxt", tmp_path / "m.caffemodel"
    caffe_merge.save(net, str(new[0]), str(new[1]))
    raw = pixel_options(MEAN, 0.017, True)
    for engine in engines:
        actual = validate(old, new, engine, raw=raw)
        assert actual.ok, actual.summary()
        assert [blob.name for blob in actual.blobs] == ["c", "t", "f"]
        assert [net_input.note for net_input in actual.inputs] == ["raw pixels"]
        assert re.search(r"input 'data': 2x3x9x11, raw pixels", actual.summary())
        assert not any(blob.remark for blob in actual.blobs)
        assert not validate(old, new, engine).ok
        assert not validate(old, new, engine, raw=pixel_options(MEAN, 0.017, False)).ok

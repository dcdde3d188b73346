"""Any text that is read, with any weights, under any options: a pair, or a CaffeMergeError.

Nets are mutated: fields dropped, doubled and moved, numbers and names exchanged, fields that no
schema has, blobs of other sizes. Whatever is accepted is merged, written, and read again.
"""

import re
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import caffe_merge
from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.norms import STYLES
from caffe_merge.options import DECLARED
from caffe_merge.passes import PASSES
from tests.nets import Weights, load_pair, prototxt, seeded, write_pair
from tests.seeds import examples

_CONV = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 2 bias_term: false }"
_LEARNED = (
    "a: Convolution data -> a { convolution_param { num_output: 3 kernel_size: 2 } }",
    "n: BatchNorm a -> a",
    "f: InnerProduct a -> f { inner_product_param { num_output: 2 } }",
)
NETS = (
    prototxt(
        "data 2 4 7 6",
        f"a: Convolution data -> a {{ {_CONV} }}",
        "n: BatchNorm a -> a { batch_norm_param { eps: 0.001 use_global_stats: true } }",
        "s: Scale a -> a { scale_param { bias_term: true axis: 1 num_axes: 1 } }",
        "r: ReLU a -> a { relu_param { negative_slope: 0.1 } }",
        "p: Pooling a -> p { pooling_param { kernel_size: 2 stride: 2 pool: AVE } }",
        "f: InnerProduct p -> f { inner_product_param { num_output: 3 axis: 1 } }",
        "d: Dropout f -> f { dropout_param { dropout_ratio: 0.5 } }",
        "o: Softmax f -> o { softmax_param { axis: 1 } }",
    ),
    prototxt(
        "data 1 4 9 8",
        f"a: Convolution data -> a {{ {_CONV} param {{ name: 'w' lr_mult: 1 }} }}",
        f"b: Convolution data -> b {{ {_CONV} param {{ name: 'w' lr_mult: 1 }} }}",
        "e: Eltwise a b -> e { eltwise_param { operation: SUM coeff: 1 coeff: -1 } }",
        "q: PReLU e -> e",
        "c: Concat e data -> c { concat_param { axis: 1 } }",
        "l: Slice c -> l m { slice_param { axis: 1 slice_point: 5 } }",
        "w: Power l -> w { power_param { power: 1 scale: 2 shift: 1 } }",
        "k: Convolution w -> k { convolution_param { num_output: 2 kernel_size: 1 stride: 2 } }",
        "u: Deconvolution m -> u { convolution_param { num_output: 3 kernel_size: 2 stride: 2 } }",
        "i: Bias u -> i { bias_param { axis: 1 } }",
    ),
    prototxt(
        "data 1 6 8 8",
        "x: Flatten data -> x { flatten_param { axis: 1 end_axis: -1 } }",
        "y: Reshape x -> y { reshape_param { shape { dim: 0 dim: 6 dim: 8 dim: 8 } } }",
        "g: ConvolutionDepthwise y -> g { convolution_param { num_output: 6 kernel_size: 3 } }",
        "n: BN g -> g { bn_param { eps: 0.001 } }",
        "t: Permute g -> t { permute_param { order: 0 order: 2 order: 3 order: 1 } }",
        "z: Crop g y -> z { crop_param { axis: 2 offset: 1 } }",
        "v: Split z -> v vv",
        "j: Eltwise v vv -> j { eltwise_param { operation: PROD } }",
    ),
    prototxt(
        "data: Data  -> data label { transform_param { crop_size: 8 mean_value: 3 } "
        "data_param { batch_size: 2 source: 'x' } }",
        *_LEARNED,
        "l: SoftmaxWithLoss f label -> l { loss_weight: 1 }",
        "c: Accuracy f label -> c { accuracy_param { top_k: 1 } include { phase: TEST } }",
    ),
)
DEPLOYED = {NETS[-1]: prototxt("data 2 3 8 8", *_LEARNED)}  # with a shape for the weights' sake
NUMBERS = ("0", "-1", "1", "2", "3", "7", "2147483647", "-2147483648", "4294967295", "0.5", "1e39",
           "nan", "9" * 40, "true", "AVE", "'text'")  # fmt: skip
UNKNOWN = ("odd: 3", "odd { inner: 'x' }", "pad_l: 1", "hole: 2", "ceil_mode: false",
           "blobs { shape { dim: 2 } data: 1 data: 2 }", "include { phase: TRAIN }",
           "param { name: 'w' }", "loss_weight: 1", "bottom: 'data'", "top: 'more'",
           "input: 'data'", "propagate_down: true")  # fmt: skip
ENTRY = re.compile(r"\b[a-z_]+: *('[^']*'|\"[^\"]*\"|[^\s{}]+)")
VALUE = re.compile(r"(?<=: )[-\w.+]+")
NAME = re.compile(r"\"[^\"]*\"")
LAYER = re.compile(r"layer \{\n(?:  .*\n)*\}\n")


def _choice(data: st.DataObject, choices: Any) -> Any:
    return data.draw(st.sampled_from(list(choices)))


def _replaced(text: str, match: "re.Match[str]", new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def _mutated(data: st.DataObject, text: str) -> str:
    """``text`` with one thing about it changed."""
    kind = data.draw(st.integers(0, 8))
    pattern = (VALUE, NAME, ENTRY, ENTRY, ENTRY, LAYER, LAYER, LAYER, NAME)[kind]
    matches = list(pattern.finditer(text))
    if not matches:
        return text
    match, other = _choice(data, matches), _choice(data, matches)
    actual = match.group()
    if kind == 0:
        return _replaced(text, match, _choice(data, NUMBERS))
    if kind == 1:
        return _replaced(text, match, other.group())
    if kind == 2:
        return _replaced(text, match, "")
    if kind == 3:
        return _replaced(text, match, f"{actual} {actual}")
    if kind == 4:
        return _replaced(text, match, f"{actual} {_choice(data, UNKNOWN)}")
    if kind == 5:
        return _replaced(text, match, "")
    if kind == 6:
        return _replaced(text, match, actual + other.group())
    if kind == 7:
        return _replaced(text, match, actual.replace("layer {", "layer [ {", 1)[:-2] + "} ]\n")
    return _replaced(text, match, f'"{_choice(data, CATALOGUE)}"')


def _spoiled(data: st.DataObject, weights: Weights) -> bool:
    """Have up to three blobs of ``weights`` changed, gone or too many; whether any are."""
    times = data.draw(st.integers(0, 3))
    for _ in range(times):
        name = _choice(data, weights)
        blobs: List[np.ndarray] = weights[name]
        kind = data.draw(st.integers(0, 5))
        if kind == 0:
            blobs.append(np.ones((2, 3)))
        elif kind == 1:
            del weights[name]
        elif blobs:
            at = data.draw(st.integers(0, len(blobs) - 1))
            blob = np.atleast_1d(blobs[at])
            odd = (blob[:-1], blob.reshape(-1), blob * np.nan, np.zeros(()))
            blobs[at] = odd[kind - 2]
        if not weights:
            break
    return times > 0


def _options(data: st.DataObject) -> Dict[str, Any]:
    """A few options, each with a value that may make sense or not."""
    names = [a_pass.name for a_pass in PASSES]
    values: Dict[str, Any] = {
        "only": st.lists(st.sampled_from(names), max_size=3),
        "skip": st.lists(st.sampled_from(names), max_size=3),
        "keep": st.lists(st.sampled_from(["a", "n", "k", "nobody"]), max_size=2),
        "mean": st.sampled_from(["1", "data=1,2,3,4", "1,2", "x=3", "nan", "٣", "no.npy", ""]),
        "scale": st.sampled_from(["2", "1,2,3,4", "0", "data=", "1e400"]),
        "swap_rgb": st.sampled_from([True, "data", "nobody"]),
        "bn_style": st.sampled_from([*(style.name for style in STYLES), "none"]),
        "input_shapes": st.sampled_from([{"data": (1, 4, 5, 5)}, {"data": (0,)}, {"b": (2,)}]),
    }
    for name, declared in DECLARED.items():
        if name not in values:
            values[name] = st.sampled_from(declared.choices or [True, False])
    chosen = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3, unique=True))
    return {name: data.draw(values[name]) for name in chosen}


@examples(150)
@given(data=st.data())
def _any_pair(data: st.DataObject) -> None:
    text = base = _choice(data, NETS)
    for _ in range(data.draw(st.integers(0, 4))):
        text = _mutated(data, text)
    weights = seeded(DEPLOYED.get(base, base))
    whole = not _spoiled(data, weights)
    options = _options(data)
    deploy = data.draw(st.booleans())
    note(f"{options}, deploy={deploy}\n{text}")
    with tempfile.TemporaryDirectory() as folder:
        pair = write_pair(Path(folder), text, weights)
        out = Path(folder, "out.prototxt"), Path(folder, "out.caffemodel")
        try:
            net = load_pair(pair, deploy=deploy)
            caffe_merge.merge(net, **options)
            caffe_merge.save(net, str(out[0]), str(out[1]))
        except CaffeMergeError as error:
            wrong = str(error)
        else:
            wrong = ""
            if whole:  # else a layer that is kept may keep a blob that is no longer hidden
                load_pair(out)
        assert "\n" not in wrong
        assert any(path.exists() for path in out) == (not wrong), "half a pair"


@pytest.mark.hypothesis
def test_any_pair() -> None:
    """A pair that is read, or one line that says what is wrong; nothing else."""
    _any_pair()


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize("field", ["top", "bottom"])
def test_layers_that_read_or_write_nothing(field: str, deploy: bool, tmp_path: Path) -> None:
    """Of a training file each layer in turn has none of these fields."""
    text = NETS[-1]
    for layer in LAYER.findall(text):
        without = re.sub(rf"  {field}: .*\n", "", layer)
        pair = write_pair(tmp_path, text.replace(layer, without), seeded(DEPLOYED[text]))
        try:
            caffe_merge.merge(load_pair(pair, deploy=deploy))
        except CaffeMergeError as error:
            wrong = str(error)
            assert wrong.startswith(str(tmp_path)) or "layer" in wrong

"""OpenCV as an engine: it judges what it runs as Caffe does, and nothing else."""

import importlib
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import numpy as np
import pytest

from caffe_merge.errors import UsageError, decoded, spelled
from caffe_merge.validation import forward, validate
from caffe_merge.validation.opencv_net import MEASURED
from caffe_merge.validation.opencv_worker import OpenCVNet
from caffe_merge.validation.registry import ENGINES
from tests.nets import Pair, prototxt, seeded, write_pair
from tests.real_caffe import RealCaffe
from tests.reference.cases import Case, Judged
from tests.required import required
from tests.validation.nets import AFTER, pairs, weights

TABLES = ("activation", "arrange", "combine", "convolution", "normalise", "pooling")
CASES: Dict[str, List[Case]] = {
    table: [
        case
        for case in importlib.import_module(f"tests.reference.test_{table}").CASES
        if case.bottoms
    ]
    for table in TABLES
}
# What OpenCV is not asked for: its faults, what it refuses, and types that it has not.
FAULTS = {
    "concat_dim", "dense_transpose", "log_base", "lrn", "lrn_param", "mvn_across", "prelu_shared",
    "scale_by_bias", "scale_to_end", "swish", "three_d", "up_dilation", "up_sides",
}  # fmt: skip


SIX_GROUPS = "convolution_param { num_output: 6 group: 6 kernel_size: 3 }"


@pytest.fixture(autouse=True)
def opencv() -> None:
    required("cv2", "opencv")


def run(pair: Pair, inputs: Dict[str, np.ndarray], folder: Path) -> Dict[str, Tuple[Any, str]]:
    """Every blob after a forward pass, or None and why it is not judged."""
    import cv2

    paths = {}
    for number, (name, array) in enumerate(inputs.items()):
        paths[name] = str(folder / f"{number}.npy")
        np.save(paths[name], array)
    net = OpenCVNet(cv2)
    list(net.handle({"do": "open", "prototxt": str(pair[0]), "weights": str(pair[1])}))
    frames = list(net.handle({"do": "forward", "inputs": paths}))
    return {
        header["name"]: (array, decoded(header.get("unjudged", ())))
        for header, array in frames[:-1]
    }


def assert_same(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Equal values, NaN included; OpenCV has no blobs of one axis."""
    largest = max(float(np.nanmax(np.abs(expected))), 1e-30)
    actual, expected = actual.ravel() / largest, expected.ravel() / largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("table", TABLES)
def test_what_it_judges_is_what_caffe_computes(
    real_caffe: RealCaffe, tmp_path: Path, table: str
) -> None:
    cases = CASES[table]
    judged = Judged(real_caffe, cases)
    text = "".join(case.input_text() + case.text() for case in cases)
    blobs = {name: arrays for name, arrays in judged.blobs.items() if arrays}
    inputs = {
        f"{name}_x{number}": array
        for name, arrays in judged.inputs.items()
        for number, array in enumerate(arrays)
    }
    actual = run(write_pair(tmp_path, text, blobs or {"none": []}), inputs, tmp_path)
    right: Set[str] = set()
    for case in cases:
        for top in case.top_names():
            array, reason = actual[top]
            if array is None:
                assert case.name in reason
                continue
            assert_same(array, judged.outputs[top], case.name)
            right.add(case.name)
    assert not FAULTS & right
    assert 4 * len(right) > len(cases)


def test_types_of_forks_and_batch_norm(forks_caffe: RealCaffe, tmp_path: Path) -> None:
    def text(depthwise: str) -> str:
        return prototxt(
            "data 2 6 7 5",
            "a: BatchNorm data -> a { batch_norm_param { eps: 0.01 } }",
            "b: ReLU6 a -> b",
            "c: Permute b -> c { permute_param { order: 0 order: 2 order: 3 order: 1 } }",
            f"d: {depthwise} b -> d {{ {SIX_GROUPS} }}",
        )

    random = np.random.default_rng(0)
    inputs = {"data": random.standard_normal((2, 6, 7, 5)) * 4}
    weights = seeded(text("Convolution"))
    # That Caffe crashes at a ConvolutionDepthwise without a GPU; this is what it stands for.
    expected = forks_caffe.forward(text("Convolution"), weights, inputs)
    pair = write_pair(tmp_path, text("ConvolutionDepthwise"), weights)
    for name, (array, reason) in run(pair, inputs, tmp_path).items():
        assert reason == ""
        assert_same(array, expected[name], name)


LINES = [("Convolution", (1, 5)), ("Convolution", (4, 1)), ("ConvolutionDepthwise", (1, 1))]


@pytest.mark.parametrize(("kind", "size"), LINES)
def test_a_depthwise_convolution_of_one_line_is_not_judged(
    tmp_path: Path, kind: str, size: Tuple[int, int]
) -> None:
    """OpenCV 4.14 is wrong at 3x3 with a border; a convolution that is not depthwise is right.

    The size is that of the input that it is given, not what the text has.
    """
    text = prototxt(
        "data 2 6 9 8",
        f"deep: {kind} data -> deep "
        "{ convolution_param { num_output: 6 group: 6 kernel_size: 3 pad: 1 } }",
        "full: Convolution data -> full "
        "{ convolution_param { num_output: 6 group: 3 kernel_size: 3 pad: 1 } }",
    )
    inputs = {"data": np.random.default_rng(0).standard_normal((2, 6, *size))}
    actual = run(write_pair(tmp_path, text), inputs, tmp_path)
    assert actual["deep"][1].endswith(
        "differs from Caffe in a depthwise convolution of one row or column"
    )
    assert actual["full"][0] is not None


def test_every_type_that_it_runs_is_measured() -> None:
    types = {case.body.split('"')[1] for cases in CASES.values() for case in cases}
    assert set(MEASURED) - types <= {"BatchNorm", "ConvolutionDepthwise", "Permute", "ReLU6"}


def test_a_right_merge_passes_and_a_wrong_one_fails(tmp_path: Path) -> None:
    before, after = pairs(tmp_path)
    comparison = validate(before, after, "opencv")
    assert comparison.ok, comparison.summary()
    assert {"scale", "pool", "fc", "prob"} <= {blob.name for blob in comparison.blobs}
    blobs = weights()[1]
    blobs["conv"][0][1] *= 1.01
    wrong = validate(before, write_pair(tmp_path, AFTER, blobs, "wrong"), "opencv")
    assert wrong.status == "failed"


BEHIND = prototxt(
    "data 2 3 6 5",
    "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }",
    "relu: ReLU conv -> conv",
    "bias: Bias conv -> bias",
    "after: Sigmoid bias -> after",
    "beside: TanH conv -> beside",
)


def test_what_is_behind_a_layer_that_it_lacks_is_not_judged(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, BEHIND)
    array = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    actual = forward(pair, {"data": array}, "opencv", outputs_only=False)
    assert list(actual) == ["data", "conv", "beside"]
    expected = forward(pair, {"data": array}, "reference", outputs_only=False)
    for name, values in actual.items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-5)


def test_what_it_refuses_by_itself_is_found(tmp_path: Path) -> None:
    text = prototxt(
        "data 2 3 6 5",
        "relu: ReLU data -> relu",
        "odd: Flatten relu -> odd { flatten_param { axis: 2 end_axis: 1 } }",
        "even: TanH relu -> even",
        "last: Sigmoid odd -> last",
    )
    array = np.ones((2, 3, 6, 5), np.float32)
    actual = run(write_pair(tmp_path, text, {"x": []}), {"data": array}, tmp_path)
    assert actual["even"][0] is not None
    assert actual["last"][1].startswith("layer 'odd' (Flatten): ")


PYTHON = "py: Python  -> data label"
CONV = "conv: Convolution data -> conv { convolution_param { num_output: 4 kernel_size: 3 } }"
HALF = "half: Power conv -> conv { power_param { scale: 0.5 } }"


def halved(folder: Path, *lines: str) -> Tuple[Pair, Pair]:
    """A pair that begins with ``lines``, then CONV and HALF, and the same with HALF merged."""
    blobs = {"conv": [np.full((4, 3, 3, 3), 0.5), np.arange(4.0)]}
    after = {"conv": [blob / 2 for blob in blobs["conv"]]}
    return (
        write_pair(folder, prototxt(*lines, CONV, HALF), blobs, "before"),
        write_pair(folder, prototxt(*lines, CONV), after, "after"),
    )


def test_a_data_layer_is_given_its_values_or_says_how(tmp_path: Path) -> None:
    pairs = halved(tmp_path, PYTHON)
    without = validate(*pairs, "opencv")
    assert without.status == "inconclusive"
    reason = spelled(without.reason, lambda option: f"--{option}")
    assert "its data are not here: give --input_shape data=... --input_shape label=..." in reason
    comparison = validate(*pairs, "opencv", shapes={"data": (2, 3, 7, 5)})
    assert comparison.ok, comparison.summary()
    assert [blob.shape for blob in comparison.blobs] == [(2, 4, 5, 3)]


def test_inputs_with_and_without_a_shape_of_their_own(tmp_path: Path) -> None:
    pairs = halved(tmp_path, "other 2 3 6 5", PYTHON, "relu: ReLU other -> relu")
    comparison = validate(*pairs, "opencv", shapes={"data": (2, 3, 7, 5)})
    assert comparison.ok, comparison.summary()
    assert {blob.name for blob in comparison.blobs} == {"conv", "relu"}
    arrays = {"data": np.ones((2, 3, 7, 5)), "other": np.ones((2, 3, 6, 5))}
    assert list(forward(pairs[0], arrays, "opencv")) == ["relu", "conv"]


def test_memory_that_caffe_shares(tmp_path: Path) -> None:
    """Caffe shows an in-place layer's work under the names that share its memory."""
    text = prototxt(
        "data 2 3 4 4",
        "tanh: TanH data -> a",
        "flat: Flatten a -> b",
        "relu: ReLU b -> b",
    )
    pair = write_pair(tmp_path, text, {"x": []})
    array = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    actual = forward(pair, {"data": array}, "opencv", outputs_only=False)
    assert sorted(actual) == ["b", "data"]
    np.testing.assert_allclose(actual["b"], np.maximum(np.tanh(array), 0).reshape(2, -1), atol=1e-6)


def test_two_layers_of_one_name_and_a_split(tmp_path: Path) -> None:
    text = prototxt(
        "data 2 3 4 4",
        "x: TanH data -> a",
        "s: Split a -> b c",
        "x: ReLU b -> d",
        "x: Sigmoid c -> e",
    )
    pair = write_pair(tmp_path, text, {"none": []})
    array = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    actual = forward(pair, {"data": array}, "opencv", outputs_only=False)
    np.testing.assert_allclose(actual["d"], np.maximum(np.tanh(array), 0), atol=1e-6)
    np.testing.assert_allclose(actual["e"], 1 / (1 + np.exp(-np.tanh(array))), atol=1e-6)


def test_weights_that_it_cannot_read_are_given_to_it(tmp_path: Path) -> None:
    before, after = pairs(tmp_path)
    array = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "after.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for layer, blobs in weights()[1].items():
            for number, blob in enumerate(blobs):
                file[f"data/{layer}/{number}"] = blob.astype(np.float32)
    actual = forward((after[0], path), {"data": array}, "opencv")
    expected = forward(before, {"data": array}, "reference")
    np.testing.assert_allclose(actual["prob"], expected["prob"], atol=1e-5)


def test_without_opencv_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"no OpenCV here: pip install caffe_merge\[opencv\]"):
        ENGINES["opencv"].command(None)

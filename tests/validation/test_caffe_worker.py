"""The worker under real Caffe, and the promise that it runs on Python 2.7."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe_merge.errors import ValidationError
from caffe_merge.validation import caffe_worker
from caffe_merge.validation.workers import Worker, caffe_command
from tests.real_caffe import RealCaffe
from tests.validation.nets import INPUT

SOURCE = Path(caffe_worker.__file__)
TWO_READERS = (
    INPUT
    + """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
layer { name: "a" type: "AbsVal" bottom: "conv" top: "a" }
layer { name: "b" type: "Power" bottom: "conv" top: "b" power_param { shift: 1 } }
"""
)
KERNEL = np.arange(6.0).reshape(2, 3, 1, 1) - 2


def test_the_source_is_python_2() -> None:
    source = SOURCE.read_text(encoding="ascii")  # Python 2 wants a coding line for more
    tree = ast.parse(source)
    newer = (ast.JoinedStr, ast.AnnAssign, ast.YieldFrom, ast.Nonlocal, ast.NamedExpr)
    for node in ast.walk(tree):
        assert not isinstance(node, newer), f"line {node.lineno}: {type(node).__name__}"
        assert not (isinstance(node, ast.Raise) and node.cause), f"line {node.lineno}: raise from"
        if isinstance(node, (ast.List, ast.Set, ast.Tuple)):  # f(*args) is all that 2.7 has
            assert not any(isinstance(item, ast.Starred) for item in node.elts), node.lineno
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None, f"line {node.lineno}: annotation"
            assert not node.args.kwonlyargs, f"line {node.lineno}: keyword-only"
            assert not node.args.posonlyargs, f"line {node.lineno}: positional-only"
            assert not any(arg.annotation for arg in node.args.args), f"line {node.lineno}"


def test_python_2_itself_compiles_it() -> None:
    python = shutil.which("python2.7")
    if not python or subprocess.call([python, "-c", ""], stderr=subprocess.DEVNULL):
        pytest.skip("no python2.7 on PATH")
    code = f"compile(open({str(SOURCE)!r}).read(), 'worker', 'exec')"
    assert subprocess.call([python, "-c", code]) == 0


def test_it_imports_numpy_and_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"importlib", "json", "numpy", "os", "re", "resource", "sys", "time"}
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert froms == {"typing"}  # for mypy, never run


FAKE_CAFFE = """
import os, resource, sys
TEST = 1
class Net:
    def __init__(self, *arguments):
        # What the worker has set up for Caffe, as an error that the test can read.
        raise ValueError("core {} glog {} path {} {}".format(
            resource.getrlimit(resource.RLIMIT_CORE), os.environ["GLOG_minloglevel"],
            [path for path in sys.path if path.endswith("validation")], arguments))
"""


def test_caffe_finds_no_core_files_no_chatter_and_none_of_our_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "caffe.py").write_text(FAKE_CAFFE)
    # numpy may come from anywhere, and so may caffe.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    with Worker(caffe_command(sys.executable), 60) as worker:
        for weights, arguments in (("w", "('n', 'w', 1)"), (None, "('n', 1)")):
            with pytest.raises(ValidationError) as caught:
                worker.call({"do": "open", "prototxt": "n", "weights": weights})
            assert str(caught.value) == f"core (0, 0) glog 2 path [] {arguments}"


def test_forward_gives_every_blob_but_caffes_own_copies(real_caffe: RealCaffe) -> None:
    data = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    blobs = real_caffe.forward(TWO_READERS, {"conv": [KERNEL]}, {"data": data})
    assert list(blobs) == ["data", "conv", "a", "b"]
    conv = np.einsum("oi,nihw->nohw", KERNEL[:, :, 0, 0], data)
    np.testing.assert_allclose(blobs["conv"], conv, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(blobs["a"], abs(conv), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(blobs["b"], conv + 1, rtol=1e-4, atol=1e-5)


def test_a_split_that_the_user_wrote_is_no_copy_of_caffes(real_caffe: RealCaffe) -> None:
    tops = ["x_0_split_0", "x_0_split_1"]
    split = 'layer { name: "x_0_split" type: "Split" bottom: "data" top: "%s" top: "%s" }'
    assert list(real_caffe.top_shapes(INPUT + split % tuple(tops))) == ["data", *tops]


def test_a_blob_that_is_called_like_a_copy_is_none(real_caffe: RealCaffe) -> None:
    text = (
        INPUT
        + """
layer { name: "x_0_split" type: "AbsVal" bottom: "data" top: "x_0_split_0" }
layer { name: "y" type: "AbsVal" bottom: "x_0_split_0" top: "y" }
"""
    )
    assert list(real_caffe.top_shapes(text)) == ["data", "x_0_split_0", "y"]


def test_an_input_of_another_shape_reshapes_the_net(real_caffe: RealCaffe) -> None:
    blobs = real_caffe.forward(TWO_READERS, {"conv": [KERNEL]}, {"data": np.ones((1, 3, 5, 9))})
    assert blobs["a"].shape == (1, 2, 5, 9)


def test_shapes_and_resave(real_caffe: RealCaffe, tmp_path: Path) -> None:
    assert real_caffe.blob_shapes(TWO_READERS) == {"conv": [(2, 3, 1, 1)]}
    path, out = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    random = 'bias_term: false weight_filler { type: "xavier" }'
    path.write_text(TWO_READERS.replace("bias_term: false", random))
    real_caffe.resave(path, None, out)
    data = {"data": np.ones((2, 3, 8, 8))}
    # The random filler is seeded, so a net without weights is the same net each time.
    np.testing.assert_array_equal(
        real_caffe.forward_pair(path, out, data)["a"],
        real_caffe.forward_pair(path, None, data)["a"],
    )


def test_an_abort_is_quoted_and_the_next_net_works(real_caffe: RealCaffe) -> None:
    assert real_caffe.error(TWO_READERS) == ""
    assert "Unknown bottom blob 'nix'" in real_caffe.error(
        TWO_READERS.replace('bottom: "data"', 'bottom: "nix"')
    )
    assert 'no field named "nme"' in real_caffe.error(TWO_READERS.replace("name:", "nme:"))
    assert real_caffe.error(TWO_READERS) == ""


def test_an_input_the_net_does_not_have_is_one_line(real_caffe: RealCaffe) -> None:
    with pytest.raises(ValidationError, match=r"^the net has no input 'nix'$"):
        real_caffe.forward(TWO_READERS, {"conv": [KERNEL]}, {"nix": np.ones(1)})


def test_repeated_passes_are_timed_and_give_the_same_numbers(
    real_caffe: RealCaffe, tmp_path: Path
) -> None:
    path = tmp_path / "n.prototxt"
    in_place = (
        'layer { name: "p" type: "Power" bottom: "data" top: "data" power_param { scale: 2 } }'
    )
    path.write_text(INPUT + in_place)
    np.save(tmp_path / "data.npy", np.ones((2, 3, 8, 8), np.float32))
    job = {"do": "forward", "inputs": {"data": str(tmp_path / "data.npy")}, "repeat": 3}
    with Worker(caffe_command(real_caffe.python), 60) as worker:
        worker.call({"do": "open", "prototxt": str(path), "weights": None})
        frames = list(worker.ask(job))
    assert [frame.header.get("name") for frame in frames] == ["data", None]
    np.testing.assert_array_equal(frames[0].array, 2)
    assert 0 < frames[1].header["seconds"] <= frames[1].header["median"]

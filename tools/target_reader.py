"""Runs a pair in one of the readers of the table of targets, in the environment that has it.

Usage: python target_reader.py READER MODEL WEIGHTS INPUTS.npz OUTPUTS.npz

INPUTS.npz has the inputs by name; OUTPUTS.npz gets all outputs that the reader gives, by its names,
and `version`. It needs numpy and the reader, no caffe_merge; errors and crashes are the caller's to
see by the exit status.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from importlib import metadata
from typing import Any, Callable, Dict
from unittest.mock import MagicMock

import numpy as np

Arrays = Dict[str, Any]


def opencv(model: str, weights: str, inputs: Arrays) -> Arrays:
    """OpenCV's dnn, as it is: with fusion."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(model, weights)
    for name, array in inputs.items():
        net.setInput(array, name)
    names = net.getUnconnectedOutLayersNames()
    return {**dict(zip(names, net.forward(names))), "version": cv2.__version__}


def mnn(model: str, weights: str, inputs: Arrays) -> Arrays:
    """MNN's converter and its CPU. Its command mnnconvert reports usage, and is not called."""
    import _tools
    import MNN

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.mnn")
        words = ["", "-f", "CAFFE", "--modelFile", weights, "--prototxt", model, "--MNNModel", path]
        _tools.mnnconvert([*words, "--bizCode", "x"])
        net = MNN.Interpreter(path)
    session = net.createSession()
    for name, array in inputs.items():
        net.getSessionInput(session, name).copyFrom(_mnn_tensor(MNN, array))
    net.runSession(session)
    outputs = {}
    for name, tensor in net.getSessionOutputAll(session).items():
        host = _mnn_tensor(MNN, np.zeros(tensor.getShape(), np.float32))
        tensor.copyToHostTensor(host)
        outputs[name] = np.array(host.getData()).reshape(tensor.getShape())
    return {**outputs, "version": MNN.version()}


def _mnn_tensor(module: Any, array: Any) -> Any:
    kind, order = module.Halide_Type_Float, module.Tensor_DimensionType_Caffe
    return module.Tensor(tuple(array.shape), kind, np.ascontiguousarray(array), order)


def tpu_mlir(model: str, weights: str, inputs: Arrays) -> Arrays:
    """tpu-mlir's converter to its top dialect, which its interpreter runs in float32."""
    _start_again_for_tpu_mlir()
    sys.meta_path.append(_StandIn())
    torch = importlib.import_module("torch")
    torch.tensor = _Tensor  # type: ignore[attr-defined]
    from tools.model_runner import mlir_inference
    from tools.model_transform import CaffeTransformer

    # The system's C library first: the wheel's own, which it puts there, is of another loader.
    inherited = os.environ["LD_LIBRARY_PATH"]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(("/lib/x86_64-linux-gnu", "/lib64", inherited))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        transformer = CaffeTransformer("net", model, weights, [], [], {})
        transformer.model_transform("net.mlir")
        outputs = mlir_inference(dict(inputs), "net.mlir", dump_all=False)
    return {**outputs, "version": metadata.version("tpu_mlir")}


def _start_again_for_tpu_mlir() -> None:
    """Have its own libraries and modules found, as its commands do; they are read at the start."""
    spec = importlib.util.find_spec("tpu_mlir")
    if spec is None or spec.origin is None or "TPUC_ROOT" in os.environ:
        return
    root = os.path.dirname(spec.origin)
    paths = [f"{root}/python", f"{root}/python/tools", os.path.dirname(root)]
    os.environ.update(TPUC_ROOT=root, LD_LIBRARY_PATH=f"{root}/lib", GLOG_minloglevel="2")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    os.execv(sys.executable, [sys.executable, *sys.argv])


class _StandIn:
    """Stands in for what is not installed: tpu-mlir imports gigabytes for other formats."""

    ROOTS = (
        *("cv2", "graphviz", "onnx", "onnxruntime", "onnxruntime_extensions", "onnxsim", "plotly"),
        *("pycocotools", "sklearn", "torch", "torchvision", "transformers"),
    )

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Those of ``ROOTS`` are here."""
        if name.split(".")[0] not in self.ROOTS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> Any:
        """A module that has all names."""
        return MagicMock(__spec__=spec, __path__=[])

    def exec_module(self, module: Any) -> None:
        """There is nothing in it."""


class _Tensor:
    """What the converter calls of torch: tensor(values).permute(order)."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def permute(self, order: Any) -> Any:
        """The array with its axes in this order."""
        return np.ascontiguousarray(self.values.transpose(order))


def rknn(model: str, weights: str, inputs: Arrays) -> Arrays:
    """RKNN-Toolkit2's converter and its simulator, in float16 as the chip computes."""
    from rknn.api import RKNN

    toolkit = RKNN(verbose=False)
    toolkit.config(target_platform="rk3588")
    if toolkit.load_caffe(model=model, blobs=weights):
        raise SystemExit("load_caffe failed")
    if toolkit.build(do_quantization=False) or toolkit.init_runtime():
        raise SystemExit("build failed")
    arrays = [
        array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in inputs.values()
    ]
    results = toolkit.inference(inputs=arrays, data_format=["nhwc"] * len(arrays))
    outputs: Arrays = {str(number): result for number, result in enumerate(results)}
    return {**outputs, "version": metadata.version("rknn-toolkit2")}


def caffe2onnx(model: str, weights: str, inputs: Arrays) -> Arrays:
    """caffe2onnx and, for what it writes, onnxruntime."""
    import onnxruntime
    from caffe2onnx.src.caffe2onnx import Caffe2Onnx
    from caffe2onnx.src.load_save_model import loadcaffemodel

    graph, params = loadcaffemodel(model, weights)
    onnx = Caffe2Onnx(graph, params, "net").createOnnxModel()
    session = onnxruntime.InferenceSession(
        onnx.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    fed = {blob.name: array for blob, array in zip(session.get_inputs(), inputs.values())}
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, fed)))
    return {**outputs, "version": metadata.version("caffe2onnx")}


READERS: Dict[str, Callable[[str, str, Arrays], Arrays]] = {
    "opencv": opencv,
    "mnn": mnn,
    "tpu-mlir": tpu_mlir,
    "rknn": rknn,
    "caffe2onnx": caffe2onnx,
}


def main() -> None:
    """Run one reader on one pair."""
    reader, model, weights, source, target = sys.argv[1:]
    with np.load(source) as arrays:
        inputs = {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
    np.savez(target, **READERS[reader](os.path.abspath(model), os.path.abspath(weights), inputs))


if __name__ == "__main__":
    main()

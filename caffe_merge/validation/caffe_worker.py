"""Runs a net in real Caffe, on behalf of workers.py; also the loop that every worker shares.

Caffe aborts the whole process on bad input, and often lives in an old interpreter of the user's
own: this file therefore runs by itself, under Python 2.7 or newer, with numpy and caffe only.

Jobs come as JSON, one a line, on stdin; the end of stdin ends the worker. Each is answered on
stdout by frames: one line of JSON, followed by raw little-endian bytes where the line has a
"shape". The last frame of an answer has "done" or "error". The jobs, told apart by "do":

    open      prototxt, weights (or null),    -> {"inputs", "outputs", "blobs"}: names and shapes;
              state {phase, level, stages},      of our own and OpenCV's also "feedable", the tops
              bn_style                           of data layers, of our own "told", known shapes
    forward   inputs {name: .npy path},       -> a frame with data for every blob, in net order, or
                                                 "unjudged", why there are none (errors.encoded);
              repeat, outputs_only,              "seconds" and "median" of the forward passes
              only [name],                       these blobs alone
              weights {layer: [.npy path]}       run with these in place of the layer's own blobs
    shapes                                    -> {"params": [[layer, [shape, ...]], ...]}
    resave    path                            -> the open net written by Caffe itself
    about                                     -> {"version", "types"}: of layers that it can run
"""
# Python 2.7 has neither f-strings nor annotations.
# ruff: noqa: UP032

import importlib
import json
import os
import re
import sys
import time

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple  # noqa: F401

    Frames = Iterator[Tuple[Dict[str, Any], Optional[np.ndarray]]]


def serve(handle):
    # type: (Callable[[Dict[str, Any]], Frames]) -> None
    """Answer jobs with ``handle(job)``'s frames until stdin ends; an exception is one frame."""
    # Caffe and its Python layers print; what they print must not land between our frames.
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _send(frames, {"ready": True}, None)
    frames.flush()
    jobs = getattr(sys.stdin, "buffer", sys.stdin)
    for line in iter(jobs.readline, b""):
        try:
            for header, array in handle(json.loads(line.decode("utf-8"))):
                _send(frames, header, array)
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            failed = {"error": text, "kind": type(error).__name__}  # type: Dict[str, Any]
            parts = getattr(error, "parts", ())  # of an error of caffe_merge's own: see errors.py
            failed["parts"] = [[str(part), type(part).__name__ == "OptionName"] for part in parts]
            failed["path"] = getattr(error, "path", None) if parts else None
            _send(frames, failed, None)
        frames.flush()


def _send(frames, header, array):
    # type: (Any, Dict[str, Any], Optional[np.ndarray]) -> None
    if array is not None:
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        header = dict(header, shape=array.shape, dtype=array.dtype.str)
    frames.write(json.dumps(header).encode("ascii") + b"\n")
    if array is not None and array.size:
        frames.write(array.data if sys.version_info[0] > 2 else array.tobytes())


def _native(text):
    # type: (str) -> str
    """``text`` as Caffe's bindings take it: in Python 2, JSON's unicode as bytes."""
    return text if sys.version_info[0] > 2 else text.encode("utf-8")  # type: ignore[return-value]


def _text(name):
    # type: (Any) -> str
    """A name from Caffe as text; its bytes are UTF-8 in Python 2."""
    return str(name) if sys.version_info[0] > 2 else name.decode("utf-8")


class CaffeNet:
    """The one net that is open, and the jobs on it."""

    def __init__(self, caffe):
        # type: (Any) -> None
        self.caffe = caffe
        self.net = None  # type: Any

    def handle(self, job):
        # type: (Dict[str, Any]) -> Frames
        """The frames that answer ``job``; what is wrong with it raises."""
        return getattr(self, "do_" + job["do"])(job)  # type: ignore[no-any-return]

    def do_about(self, _job):
        # type: (Dict[str, Any]) -> Frames
        types = getattr(self.caffe, "layer_type_list", None)  # since 2015
        header = {
            "done": True,
            "version": str(getattr(self.caffe, "__version__", "of no version")),
            "types": [_text(name) for name in types()] if types else None,
        }
        yield header, None

    def do_open(self, job):
        # type: (Dict[str, Any]) -> Frames
        self.net = None  # the old net's memory goes before the new one's comes
        if hasattr(self.caffe, "set_random_seed"):  # a random filler: the same in every process
            self.caffe.set_random_seed(0)
        prototxt = _native(job["prototxt"])
        weights = _native(job["weights"]) if job.get("weights") else None
        state = job.get("state") or {"phase": 1, "level": 0, "stages": []}
        if state["level"] or state["stages"]:  # an old pycaffe knows neither
            self.net = self.caffe.Net(
                prototxt,
                state["phase"],
                level=state["level"],
                stages=[_native(stage) for stage in state["stages"]],
                weights=weights,
            )
        elif weights:
            self.net = self.caffe.Net(prototxt, weights, state["phase"])
        else:
            self.net = self.caffe.Net(prototxt, state["phase"])
        blobs = self.net.blobs
        header = {
            "done": True,
            "inputs": [[_text(n), list(blobs[n].data.shape)] for n in self.net.inputs],
            "outputs": [_text(n) for n in self.net.outputs],
            "blobs": [[_text(n), list(blobs[n].data.shape)] for n in self._names()],
        }
        yield header, None

    def do_forward(self, job):
        # type: (Dict[str, Any]) -> Frames
        inputs = [(_native(n), np.load(path)) for n, path in sorted(job["inputs"].items())]
        for name, array in inputs:
            if name not in self.net.inputs:
                raise ValueError("the net has no input {!r}".format(name))
            if self.net.blobs[name].data.shape != array.shape:
                self.net.blobs[name].reshape(*array.shape)
        self.net.reshape()  # Caffe of before 2015 does not while it runs
        times = []  # type: List[float]
        replaced = self._replace(job.get("weights") or {})
        for _ in range(job.get("repeat", 1)):
            for name, array in inputs:  # a layer in place on an input overwrote it
                self.net.blobs[name].data[...] = array
            start = time.time()
            self.net.forward()
            times.append(time.time() - start)
        for blob, values in replaced:
            blob.data[...] = values
        names = self.net.outputs if job.get("outputs_only") else self._names()
        if job.get("only") is not None:
            names = [_native(name) for name in job["only"]]
        for name in names:
            yield {"name": _text(name)}, self.net.blobs[name].data
        yield {"done": True, "seconds": min(times), "median": float(np.median(times))}, None

    def do_shapes(self, _job):
        # type: (Dict[str, Any]) -> Frames
        params = [
            [_text(layer), [list(blob.data.shape) for blob in blobs]]
            for layer, blobs in self.net.params.items()
        ]
        yield {"done": True, "params": params}, None

    def do_resave(self, job):
        # type: (Dict[str, Any]) -> Frames
        save = self.net.save_hdf5 if job["path"].endswith(".h5") else self.net.save
        save(_native(job["path"]))
        yield {"done": True}, None

    def _replace(self, weights):
        # type: (Dict[str, List[str]]) -> List[Tuple[Any, np.ndarray]]
        """Set the blobs of layers; return each blob with what it held."""
        replaced = []
        for layer, paths in weights.items():
            for blob, path in zip(self.net.params[_native(layer)], paths):
                replaced.append((blob, blob.data.copy()))
                blob.data[...] = np.load(path).reshape(blob.data.shape)
        return replaced

    def _names(self):
        # type: () -> List[Any]
        """The blobs' names, without the copies that Caffe makes for each reader of a blob."""
        layers = zip(self.net._layer_names, self.net.layers)
        splits = set(name for name, layer in layers if layer.type == "Split")  # noqa: C401
        kept = []
        for name in self.net.blobs:
            inserted = re.match(r"(.+_\d+_split)_\d+$", name)
            if name in self.net.outputs or not inserted or inserted.group(1) not in splits:
                kept.append(name)
        return kept


def main():
    # type: () -> None
    """Serve jobs until stdin ends."""
    # Our neighbours (inputs.py, compare.py) are not modules for the user's Python layers.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    if resource:  # an abort must not leave a core file in the user's folder
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.setdefault("GLOG_minloglevel", "2")
    worker = CaffeNet(importlib.import_module("caffe"))
    serve(worker.handle)


if __name__ == "__main__":
    main()

"""Runs a net in OpenCV's reader of Caffe files, by the protocol of caffe_worker.py.

OpenCV reads the weights from the user's file; the text it gets is that of the layers that it is
known to run as Caffe does (opencv_net.py), without fusion, so that every blob is there to compare.
A layer at which it gives up with an error is left out too: it and what depends on it is "unjudged".
"""

from __future__ import annotations

import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.arrays import Shape
from caffe_merge.errors import ValidationError, encoded
from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.state import State
from caffe_merge.net import loading
from caffe_merge.validation.caffe_worker import serve
from caffe_merge.validation.opencv_net import (
    MEASURED,
    Assembled,
    Version,
    assemble,
)
from caffe_merge.validation.run import feedable, input_shapes, outputs

Frames = Iterator[Tuple[Dict[str, Any], Optional[np.ndarray]]]
Weights = Mapping[str, Sequence[str]]  # layer -> .npy files, in place of its own blobs


class OpenCVNet:
    """The one net that is open, and the jobs on it; ``cv2`` is the module."""

    def __init__(self, cv2: Any) -> None:
        self.cv2 = cv2
        self.layers: Sequence[Layer] = ()
        self.weights = ""
        self.in_place = False  # whether OpenCV can read the weights' file itself
        self.net: Any = None
        self.refused: Dict[int, str] = {}  # layers, by index, at which OpenCV gave up
        self.fed: Mapping[str, Shape] = {}  # the shapes of blobs that are given, as last run
        self.bottoms: Sequence[Optional[Shape]] = ()  # the first of each layer, likewise

    def handle(self, job: Dict[str, Any]) -> Frames:
        """The frames that answer ``job``; what is wrong with it raises."""
        jobs = {"open": self._open, "forward": self._forward, "about": self._about}
        return jobs[job["do"]](job)

    def _about(self, job: Dict[str, Any]) -> Frames:
        types = sorted({*MEASURED, "Split"})
        yield {"done": True, "version": self.cv2.__version__, "types": types}, None

    def _open(self, job: Dict[str, Any]) -> Frames:
        state = State(**job["state"]) if job.get("state") else None
        net = loading.load(job["prototxt"], job["weights"], state)
        self.net, self.layers, self.weights = net, net.layers, job["weights"]
        self.refused = {}
        self.in_place = net.index is not None and net.index.has_bytes
        params = [layer.param for layer in self.layers]
        names = dict.fromkeys(top for param in params for top in param.top)
        header = {
            "done": True,
            "inputs": list(input_shapes(params)),
            "feedable": feedable(params),
            "outputs": outputs(params),
            "blobs": [[name, None] for name in names],
        }
        yield header, None

    def _forward(self, job: Dict[str, Any]) -> Frames:
        inputs = {name: np.load(path) for name, path in job["inputs"].items()}
        names = job.get("only")
        if job.get("outputs_only"):
            names = outputs([layer.param for layer in self.layers])
        self.fed = {name: array.shape for name, array in inputs.items()}
        self.bottoms = _bottoms(self.net, self.fed)
        model = self._model(job.get("weights") or {})
        final, arrays, seconds = self._run(model, inputs, names)
        for name in final if names is None else names:
            reason = encoded(final[name].reason or "")
            yield {"name": name, "unjudged": reason}, arrays.get(name)
        yield {"done": True, "seconds": seconds, "median": seconds}, None

    def _run(
        self, model: np.ndarray, inputs: Mapping[str, np.ndarray], names: Optional[Sequence[str]]
    ) -> Tuple[Dict[str, Version], Dict[str, np.ndarray], float]:
        """The blobs ``names``, or all; a layer that OpenCV refuses is left out from then on."""
        while True:
            assembled = self._assembled()
            requested = {n: v for n, v in assembled.final.items() if names is None or n in names}
            start = time.perf_counter()
            try:
                arrays = self._blobs(assembled, model, inputs, requested)
            except self.cv2.error as error:
                index = self._first_refused(model, inputs)
                layer = self.layers[index]
                reason = f"layer {layer.name!r} ({layer.type}): {_said(error)}"
                if index in self.refused:
                    raise ValidationError(reason) from None
                self.refused[index] = reason
                continue
            return assembled.final, arrays, time.perf_counter() - start

    def _assembled(self, most: Optional[int] = None) -> Assembled:
        return assemble(self.layers, self.bottoms, self.fed, self.refused, most)

    def _first_refused(self, model: np.ndarray, inputs: Mapping[str, np.ndarray]) -> int:
        """The index of the first layer that OpenCV does not run, found by halving."""
        runs, fails = 0, len(self.layers)  # how many layers at the front run, how many do not
        while fails - runs > 1:
            middle = (runs + fails) // 2
            assembled = self._assembled(middle)
            try:
                self._blobs(assembled, model, inputs, assembled.final)
                runs = middle
            except self.cv2.error:
                fails = middle
        return runs

    def _blobs(
        self,
        assembled: Assembled,
        model: np.ndarray,
        inputs: Mapping[str, np.ndarray],
        requested: Mapping[str, Version],
    ) -> Dict[str, np.ndarray]:
        """Build and run the net; its blobs by their names in Caffe."""
        fed = {top: np.asarray(inputs[n], np.float32) for n, top in assembled.inputs.items()}
        arrays = {n: fed[version.name] for n, version in requested.items() if version.name in fed}
        sources = {
            name: assembled.sources[version.name]
            for name, version in requested.items()
            if version.name in assembled.sources
        }
        if not sources:
            return arrays
        net = self.cv2.dnn.readNetFromCaffe(_bytes(assembled.text.encode("ascii")), model)
        net.enableFusion(False)
        if hasattr(net, "enableWinograd"):  # since 4.7; it rounds otherwise
            net.enableWinograd(False)
        for name in assembled.read:
            net.setInput(fed[assembled.inputs[name]], assembled.inputs[name])
        # OpenCV calls a Convolution by its top. All in one call: what it is not asked for it may
        # write over.
        layers: Dict[str, int] = {}
        place = {}
        for name, source in sources.items():
            blob = source.layer if net.getLayerId(source.top) < 0 else source.top
            place[name] = layers.setdefault(blob, len(layers)), source.position
        tops = net.forwardAndRetrieve(list(layers))
        arrays.update((name, tops[layer][position]) for name, (layer, position) in place.items())
        return arrays

    def _model(self, replaced: Weights) -> np.ndarray:
        """The caffemodel: the user's own file, or one of our making where that will not do."""
        if self.in_place and not replaced:
            return np.fromfile(self.weights, np.uint8)
        message = NetParameter()
        for layer in self.layers:
            blobs: List[np.ndarray] = [blob.array() for blob in layer.blobs]
            if layer.name in replaced:
                blobs = [np.load(path) for path in replaced[layer.name]]
            record = message.layer.add(name=layer.name, type=layer.type)
            for blob in blobs:
                proto = record.blobs.add()
                proto.shape.dim.extend(blob.shape)
                proto.data.extend(np.asarray(blob, np.float32).ravel())
        return _bytes(message.SerializeToString())


def _bottoms(net: loading.Net, shapes: Mapping[str, Shape]) -> List[Optional[Shape]]:
    """The shape of each layer's first bottom, if it has one and it is known, for these inputs."""
    bottoms = net.graph(shapes).bottoms
    return [bottoms[layer][0].shape if bottoms[layer] else None for layer in net.layers]


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _said(error: Exception) -> str:
    """What OpenCV says of an error, without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].partition("error: ")[2] or lines[0]


def main() -> None:
    """Serve jobs until stdin ends."""
    import cv2

    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise SystemExit(
            f"OpenCV {cv2.__version__} cannot read Caffe's files: expected a version from 4.5 to "
            "below 5"
        )
    serve(OpenCVNet(cv2).handle)


if __name__ == "__main__":
    main()

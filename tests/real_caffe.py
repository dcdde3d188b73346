"""Real Caffe as a judge: builds nets, runs them, and says what it made of them."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.errors import ValidationError
from caffe_merge.validation.workers import Worker, caffe_command
from tests.nets import write_pair


class RealCaffe:
    """Real Caffe in one long-lived worker process, started anew after each abort."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = python
        self._folder = folder
        self._worker: Optional[Worker] = None

    def forward(
        self,
        text: str,
        blobs: Mapping[str, Sequence[np.ndarray]],
        inputs: Mapping[str, np.ndarray],
    ) -> Dict[str, np.ndarray]:
        """Every blob of the net ``text`` with weights ``blobs``, after a forward pass."""
        return self.forward_pair(*write_pair(self._folder, text, dict(blobs)), inputs)

    def forward_pair(
        self, prototxt: Path, weights: Optional[Path], inputs: Mapping[str, np.ndarray]
    ) -> Dict[str, np.ndarray]:
        """Every blob of the pair on disk, after a forward pass on ``inputs``."""
        self._open(prototxt, weights)
        paths = {}
        for index, (name, array) in enumerate(inputs.items()):
            paths[name] = str(self._folder / f"input{index}.npy")
            np.save(paths[name], array)
        frames = self._running().ask({"do": "forward", "inputs": paths})
        return {f.header["name"]: f.array for f in frames if f.array is not None}

    def blob_shapes(self, text: str) -> Dict[str, List[Tuple[int, ...]]]:
        """Layer name -> shapes of the weights that Caffe gives it."""
        self._open(self._write(text), None)
        params = self._running().call({"do": "shapes"})["params"]
        return {layer: [tuple(shape) for shape in shapes] for layer, shapes in params}

    def top_shapes(self, text: str) -> Dict[str, Tuple[int, ...]]:
        """Blob name -> shape, for every blob of the net that Caffe builds from ``text``."""
        return {name: tuple(shape) for name, shape in self._open(self._write(text), None)["blobs"]}

    def error(self, text: str) -> str:
        """Why Caffe does not build ``text``, in one line; '' when it does."""
        try:
            self._open(self._write(text), None)
        except ValidationError as error:
            return str(error)
        return ""

    def resave(self, prototxt: Path, weights: Path, out: Path) -> None:
        """Load a pair and save its weights as Caffe itself writes them."""
        self._open(prototxt, weights)
        self._running().call({"do": "resave", "path": str(out)})

    def close(self) -> None:
        """End the worker process."""
        if self._worker:
            self._worker.close()
        self._worker = None

    def _write(self, text: str) -> Path:
        path = self._folder / "net.prototxt"
        path.write_bytes(text.encode())
        return path

    def _open(self, prototxt: Path, weights: Optional[Path]) -> Dict[str, Any]:
        if self._worker and not self._worker.alive:
            self.close()
        job = {"do": "open", "prototxt": str(prototxt), "weights": weights and str(weights)}
        try:
            return self._running().call(job)
        except ValidationError:
            self.close()
            self._running()  # the next one starts while the test goes on
            raise

    def _running(self) -> Worker:
        if not self._worker:
            self._worker = Worker(caffe_command(self.python), limit=300)
        return self._worker

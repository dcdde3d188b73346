"""One pair in a worker process: all that a comparison asks of an engine.

An engine opens a pair, runs it forward on given inputs, and gives out its blobs by name; and it
runs it forward with other weights for some layers, so that it can be seen what would move if they
were wrong. See workers.py for the process and caffe_worker.py for the protocol.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.errors import ValidationError
from caffe_merge.files.temporary import temporary_folder
from caffe_merge.layers.state import State
from caffe_merge.validation.workers import Frame, Worker

Pair = Tuple[Union[str, "os.PathLike[str]"], Union[str, "os.PathLike[str]"]]
Paths = Tuple[str, str]


class Session:
    """One pair in a worker process of its own; use it in a ``with``.

    The process starts at once, so that two of them start side by side; `opened` waits for it.
    """

    def __init__(
        self,
        pair: Pair,
        command: List[str],
        time_limit: Optional[float] = None,
        state: Optional[State] = None,
        bn_style: Optional[str] = None,
    ) -> None:
        self._paths = paths(pair)
        self.path = self._paths[0]
        self._worker = Worker(command, time_limit)
        self.inputs: Dict[str, Tuple[int, ...]] = {}
        self.feedable: List[str] = []
        self.known_shapes: Dict[str, Tuple[int, ...]] = {}
        self.outputs: List[str] = []
        self.blobs: List[str] = []
        self.seconds = 0.0
        job = {
            "do": "open",
            "prototxt": self._paths[0],
            "weights": self._paths[1],
            "state": (state or State()).to_json(),
            "bn_style": bn_style,
        }
        self._opening = self._worker.ask(job)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def opened(self) -> None:
        """Wait until the pair is loaded: until then nothing is known of the net.

        ``feedable`` are blobs of data layers. They take an input if the user gives one or its
        shape, or if its shape follows from text and weights (``known_shapes``).
        """
        with self._naming():
            (header, _), *_ = self._opening
        self.inputs = {name: tuple(shape) for name, shape in header["inputs"]}
        self.feedable = header.get("feedable", [])
        self.known_shapes = {name: tuple(shape) for name, shape in header.get("told", [])}
        self.outputs = header["outputs"]
        self.blobs = [name for name, _ in header["blobs"]]

    def forward(
        self,
        files: Mapping[str, str],
        outputs_only: bool = False,
        *,
        only: Optional[Sequence[str]] = None,
        weights: Optional[Mapping[str, Sequence[str]]] = None,
    ) -> Iterator[Frame]:
        """Start a forward pass on .npy ``files``; return its blobs as they come.

        ``only`` names the blobs to return, if not all. ``weights`` are .npy files of all blobs of
        some layers: this one pass runs with them in place of the net's own.
        """
        with self._naming():
            job = {"do": "forward", "inputs": dict(files), "outputs_only": outputs_only}
            job.update(only=only, weights={n: list(paths) for n, paths in (weights or {}).items()})
            return self._frames(self._worker.ask(job))

    def _frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        with self._naming():
            for frame in frames:
                if "done" in frame.header:
                    self.seconds = frame.header["seconds"]
                else:
                    yield frame

    def _naming(self) -> contextlib.AbstractContextManager[None]:
        return naming(self.path)


Sessions = Tuple[Session, Session]


def paths(pair: Pair) -> Paths:
    """The two paths of a pair as strings."""
    return os.fspath(pair[0]), os.fspath(pair[1])


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Have an error that names no file name ``path``."""
    try:
        yield
    except ValidationError as error:
        if error.path is not None:
            raise
        raise error.of(path) from error


@contextlib.contextmanager
def input_files(arrays: Mapping[str, np.ndarray]) -> Iterator[Dict[str, str]]:
    """Arrays as .npy files for the workers: names may be anything, so files are numbered."""
    with temporary_folder() as folder:
        files = {}
        for index, (name, array) in enumerate(arrays.items()):
            files[name] = os.path.join(folder, f"{index}.npy")
            np.save(files[name], np.asarray(array, np.float32))
        yield files

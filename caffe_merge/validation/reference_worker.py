"""Runs nets in caffe_merge's own float64 layers: a worker, by the protocol of caffe_worker.py.

Beside the jobs of every worker it has ``judge``: both pairs in one process, compared where they are
made, so that no blob has to go through a pipe.
"""

from __future__ import annotations

import base64
import pickle
import time
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import __version__, reference
from caffe_merge.errors import encoded
from caffe_merge.layers import norms, standard
from caffe_merge.layers.shapes.forks import NORMALISED
from caffe_merge.layers.state import State
from caffe_merge.net import loading
from caffe_merge.validation.caffe_worker import serve
from caffe_merge.validation.run import feedable, input_shapes, outputs, run
from caffe_merge.validation.threads import Task

Frames = Iterator[Tuple[Dict[str, Any], Optional[np.ndarray]]]


class ReferenceNet:
    """The one net that is open, and the jobs on it."""

    def __init__(self) -> None:
        self.layers: Sequence[Any] = ()

    def handle(self, job: Dict[str, Any]) -> Frames:
        """The frames that answer ``job``; what is wrong with it raises."""
        jobs = {
            "open": self._open,
            "forward": self._forward,
            "judge": self._judge,
            "about": about,
        }
        return jobs[job["do"]](job)

    def _open(self, job: Dict[str, Any]) -> Frames:
        state = State(**job["state"]) if job.get("state") else None
        net = loading.load(job["prototxt"], job["weights"], state)
        self.layers = net.layers
        norms.choose_style(self.layers, job.get("bn_style"))
        params = [layer.param for layer in self.layers]
        names = dict.fromkeys(top for param in params for top in param.top)
        header = {
            "done": True,
            "inputs": list(input_shapes(params)),
            "feedable": feedable(params),
            "told": [[name, list(shape)] for name, shape in net.input_shapes.items()],
            "outputs": outputs(params),
            "blobs": [[name, None] for name in names],
        }
        yield header, None

    def _forward(self, job: Dict[str, Any]) -> Frames:
        inputs = {name: np.load(path) for name, path in job["inputs"].items()}
        names = outputs([layer.param for layer in self.layers]) if job.get("outputs_only") else None
        seconds, start = 0.0, time.perf_counter()
        for name, array, reason in run(self.layers, inputs):
            seconds += time.perf_counter() - start
            if names is None or name in names:
                yield {"name": name, "unjudged": encoded(reason)}, array
            start = time.perf_counter()  # what the reader of our frames takes is not ours
        yield {"done": True, "seconds": seconds, "median": seconds}, None

    def _judge(self, job: Dict[str, Any]) -> Frames:
        from caffe_merge.validation.reference_judge import judged

        for done in judged(*pickle.loads(base64.b64decode(job["call"]))):
            if isinstance(done, tuple):
                yield {"progress": done}, None
            else:
                comparison = base64.b64encode(pickle.dumps(done)).decode("ascii")
                yield {"done": True, "comparison": comparison}, None


def about(_job: Dict[str, Any]) -> Frames:
    """The version, and the types that the reference runs, without one that no prototxt has."""
    types = sorted((reference.SUPPORTED | standard.RESTATED) - {NORMALISED})
    yield {"done": True, "version": __version__, "types": types}, None


def main() -> None:
    """Serve jobs until stdin ends."""
    # Where this process is a copy, each page that it writes of the memory that it began with is
    # copied first, and the threads of both nets wait for that.
    task = Task(lambda: serve(ReferenceNet().handle))
    task.start()
    task.finish()


if __name__ == "__main__":
    main()

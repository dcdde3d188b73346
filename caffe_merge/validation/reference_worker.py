"""Runs a net in caffe_merge's own float64 layers: ``python -m``, protocol of caffe_worker.py.

Blobs are executed by name, in layer order, as Caffe does it: an in-place layer overwrites, and what
it writes is seen under every name that shares the memory (Flatten, Reshape, Split). What a layer
unknown to the reference makes, and all that depends on it, is "unjudged"; the rest goes on.
"""

import itertools
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import reference
from caffe_merge.errors import CaffeMergeError, ShapeError, ValidationError, WeightsError
from caffe_merge.layers import norms, standard
from caffe_merge.layers.layer import shares_memory
from caffe_merge.layers.state import State
from caffe_merge.net import loading
from caffe_merge.notes import Reason
from caffe_merge.validation.caffe_worker import serve
from caffe_merge.wording import counted

Answer = Iterator[Tuple[Dict[str, Any], Optional[np.ndarray]]]
Forward = Callable[[Any, Sequence[np.ndarray], Sequence[np.ndarray]], List[np.ndarray]]


class ReferenceNet:
    """The one net that is open, and the jobs on it."""

    def __init__(self) -> None:
        self.layers: Sequence[Any] = ()

    def handle(self, job: Dict[str, Any]) -> Answer:
        """The frames that answer ``job``; what is wrong with it raises."""
        jobs = {"open": self._open, "forward": self._forward}
        return jobs[job["do"]](job)

    def _open(self, job: Dict[str, Any]) -> Answer:
        state = State(**job["state"]) if job.get("state") else None
        net = loading.load(job["prototxt"], job["weights"], state)
        self.layers = net.layers
        norms.choose_style(self.layers, job.get("bn_style"))
        params = [layer.param for layer in self.layers]
        names = dict.fromkeys(top for param in params for top in param.top)
        header = {
            "done": True,
            "inputs": list(input_shapes(params)),
            "feedable": [
                top for p in params if not p.bottom and p.type != "Input" for top in p.top
            ],
            "told": [[name, list(shape)] for name, shape in net.input_shapes.items()],
            "outputs": outputs(params),
            "blobs": [[name, None] for name in names],
        }
        yield header, None

    def _forward(self, job: Dict[str, Any]) -> Answer:
        inputs = {name: np.load(path) for name, path in job["inputs"].items()}
        names = outputs([layer.param for layer in self.layers]) if job.get("outputs_only") else None
        seconds, start = 0.0, time.perf_counter()
        for name, array, reason in run(self.layers, inputs):
            seconds += time.perf_counter() - start
            if names is None or name in names:
                yield ({"name": name, "unjudged": reason} if reason else {"name": name}), array
            start = time.perf_counter()  # what the reader of our frames takes is not ours
        yield {"done": True, "seconds": seconds, "median": seconds}, None


def input_shapes(params: Iterable[Any]) -> Iterator[Tuple[str, List[int]]]:
    """Name and shape of every top of an Input layer; one shape may serve all its tops."""
    for param in params:
        if param.type != "Input":
            continue
        shapes = [list(shape.dim) for shape in param.input_param.shape]
        for index, top in enumerate(param.top):
            yield top, shapes[min(index, len(shapes) - 1)] if shapes else []


def outputs(params: Iterable[Any]) -> List[str]:
    """The blobs that nobody reads after they were last written: what Caffe calls net outputs."""
    unread: Dict[str, None] = {}
    for param in params:
        for bottom in param.bottom:
            unread.pop(bottom, None)
        unread.update(dict.fromkeys(param.top))
    return list(unread)


def run(
    layers: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    forward: Optional[Forward] = None,
) -> Iterator[Tuple[str, Optional[np.ndarray], str]]:
    """Execute ``layers``; yield (name, array, "") or (name, None, why not) for every blob.

    Each name comes once, with what it holds in the end, as soon as that is known. An array is
    dropped after its last reader, a layer's float64 weights after the layer.
    """
    memory, ready, needed = _plan(layers)
    arrays: Dict[str, np.ndarray] = {}
    reasons: Dict[str, str] = {}
    for index, layer in enumerate(layers):
        tops, reason = _execute(layer, inputs, arrays, reasons, forward or reference.forward)
        for position, top in enumerate(layer.param.top):
            value = tops[position] if position < len(tops) else None
            names = {top, *(memory[index].get(top, ()))}
            for name in names:
                shape = arrays[name].shape if name in arrays and name != top else None
                arrays.pop(name, None)
                reasons.pop(name, None)
                if value is None:
                    reasons[name] = reason
                else:
                    arrays[name] = value if shape is None else value.reshape(shape)
            del value
        del tops
        for name in ready.get(index, ()):
            yield name, arrays.get(name), reasons.get(name, "")
        for name in [name for name in arrays if needed[name] <= index]:
            del arrays[name]


def _plan(
    layers: Sequence[Any],
) -> Tuple[List[Dict[str, List[str]]], Dict[int, List[str]], Dict[str, int]]:
    """What Caffe's shared memory means for names: an in-place write shows under all that share it.

    For each layer, the other names that each of its in-place tops is seen under; for each layer,
    the names whose value is final after it; for each name, the layer after which nobody needs it.
    """
    memory = itertools.count()
    root: Dict[str, int] = {}  # the memory that a name has now
    seen: List[Dict[str, List[str]]] = []
    written: Dict[int, int] = {}  # memory -> the layer that writes it last
    defined: Dict[str, int] = {}
    needed: Dict[str, int] = {}
    for index, layer in enumerate(layers):
        bottoms, tops = list(layer.param.bottom), list(layer.param.top)
        also: Dict[str, List[str]] = {}
        for position, top in enumerate(tops):
            if position < len(bottoms) and bottoms[position] == top and top in root:
                also[top] = [name for name in root if root[name] == root[top] and name != top]
            elif shares_memory(layer) and bottoms[0] in root:
                root[top] = root[bottoms[0]]
            else:
                root[top] = next(memory)
            written[root[top]] = defined[top] = index
        needed.update(dict.fromkeys([*bottoms, *tops], index))
        seen.append(also)
    ready: Dict[int, List[str]] = {}
    for name, index in defined.items():
        last = max(index, written[root[name]])
        ready.setdefault(last, []).append(name)
        needed[name] = max(needed[name], last)
    return seen, ready, needed


def _execute(
    layer: Any,
    inputs: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    reasons: Mapping[str, str],
    forward: Forward,
) -> Tuple[Sequence[Optional[np.ndarray]], str]:
    """The layer's tops, and the reason why some or all are missing."""
    param = layer.param
    name = f"layer {param.name!r} ({param.type})"
    if not param.bottom and any(top in inputs for top in param.top):
        fed = [inputs[top].astype(np.float64) if top in inputs else None for top in param.top]
        return fed, f"{name}: no input is given for it"
    for bottom in param.bottom:
        if bottom in reasons:
            return [], reasons[bottom]
        if bottom not in arrays:
            raise ValidationError(f"layer {param.name!r} reads {bottom!r}, which nothing produces")
    form = standard.standard(layer)
    if isinstance(form, Reason):
        return [], f"{name}: {form}"
    param, stored = form
    try:
        blobs = [np.asarray(blob.array(), np.float64) for blob in stored]
        with np.errstate(all="ignore"):  # what is not finite is the comparison's to tell
            tops = forward(param, blobs, [arrays[bottom] for bottom in param.bottom])
    except ShapeError as error:  # a fork's rule may be another
        return [], str(error)
    except reference.Unsupported as error:
        hint = ""
        if not param.bottom:
            flags = " ".join(f"--input-shape {top}=..." for top in param.top)
            hint = f"; its data are not here: give {flags}, or use --validate none"
        return [], f"{error}{hint}"
    except WeightsError as error:
        if not layer.extra:  # what a fork's fields make of blobs is not for us to refuse
            raise
        return [], f"{name}: {error}"
    except CaffeMergeError:
        raise
    except (ArithmeticError, LookupError, ValueError) as error:
        raise ValidationError(f"{name}: {error}") from error
    return tops, f"{name}: it has {counted(len(param.top), 'top')}"


def main() -> None:
    """Serve jobs until stdin ends."""
    serve(ReferenceNet().handle)


if __name__ == "__main__":
    main()

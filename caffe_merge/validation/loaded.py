"""One side of a comparison: a net as it is loaded from its two files, and what it has to be fed."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Sequence, Set

import numpy as np

from caffe_merge.errors import CaffeMergeError, OptionName, ValidationError
from caffe_merge.layers import norms
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.net import loading
from caffe_merge.net.graph import Graph
from caffe_merge.validation import black_boxes, sizes
from caffe_merge.validation.judging import Judging, Shapes
from caffe_merge.validation.pairing import Pairing
from caffe_merge.validation.run import Run, feedable, input_shapes, program
from caffe_merge.validation.sessions import Paths

Values = Dict[int, List[Optional[np.ndarray]]]


class Net:
    """One side: its layers as loaded from its two files, and what it is fed."""

    def __init__(self, paths: Paths, judging: Judging) -> None:
        self.path = os.fspath(paths[0])
        try:
            net = loading.load(paths[0], paths[1], judging.state)
            Graph(net.layers)  # Caffe refuses what this refuses
        except CaffeMergeError as error:
            raise error.of(self.path) from error
        self.layers: Sequence[Any] = net.layers
        norms.choose_style(self.layers, judging.bn_style)
        self.program = program(self.layers)
        params = [layer.param for layer in self.layers]
        self.inputs: Shapes = {name: tuple(shape) for name, shape in input_shapes(params)}
        self.data_shapes: Shapes = dict(net.input_shapes)
        self.data = feedable(params)
        self.boxes: Set[int] = black_boxes.unknown(self.program)

    @property
    def names(self) -> List[str]:
        """All its blobs."""
        return list(dict.fromkeys(top for layer in self.layers for top in layer.param.top))

    def cost(self) -> sizes.Cost:
        """What it costs to run it, by the shapes of its inputs."""
        specs = [spec_of(layer) for layer in self.layers]
        return sizes.Cost(specs, {**self.inputs, **self.data_shapes})

    def run(self, fed: Dict[str, np.ndarray], boxes: Values, weights: Any = None) -> Run:
        """A run of it, from the start."""
        run = Run(self.program, fed, boxes, weights=weights)
        run.path = self.path
        return run


def cost_of_both(old: Net, new: Net, pairing: Pairing) -> sizes.CostOfBoth:
    """What it costs to run two nets that are compared, where both allow it."""
    versions = [(point.before, point.after) for point in pairing.points]
    changed = [
        net.layers[place] for net, places in zip((old, new), pairing.changed) for place in places
    ]
    return sizes.CostOfBoth(old.cost(), new.cost(), versions, changed)


def check_inputs(before: Shapes, after: Shapes, judging: Judging) -> None:
    """Raise ValidationError where two nets do not have the same inputs, but for the batch."""
    if set(before) != set(after):
        was, now = (", ".join(map(repr, names)) or "none" for names in (before, after))
        raise ValidationError(f"the inputs differ: {was} before, {now} after")
    named = {**(judging.shapes or {}), **(judging.files or {})}
    for name, shape in before.items():
        new_shape = after[name]
        is_other = len(shape) != len(new_shape) or shape[1:] != new_shape[1:]
        if is_other and shape and new_shape and name not in named:
            old_size, new_size = ("x".join(map(str, side)) for side in (shape, new_shape))
            raise ValidationError(
                f"input {name!r} is {old_size} before, {new_size} after: ",
                *(OptionName("input_shape"), f" {name}=... compares the nets at one shape"),
            )


def declared(old: Net, judging: Judging, cost: Any) -> Shapes:
    """The inputs that need values: declared, of data layers, or given by the user."""
    named = {**(judging.shapes or {}), **(judging.files or {})}
    extra: Shapes = {name: () for name in old.data if name in named}
    return {**old.inputs, **extra, **singly(old.inputs, old.data_shapes, cost)}


def singly(declared: Shapes, data_shapes: Shapes, cost: Any) -> Shapes:
    """The shapes ``data_shapes`` of data layers, with one sample for a batch if layers allow it."""
    single = {name: (1, *shape[1:]) for name, shape in data_shapes.items()}
    allowed = cost is not None and cost({**declared, **single}) is not None
    return single if allowed else data_shapes

"""The proof of a path: layers that follow one another, the first of them perhaps linear.

Where a path has many channels a sample of them is run: the first, the last, some between, whole
groups of a grouped layer, all with the weights as they will be written. The patch is as small as
the kernel allows and crosses the border where the layer pads.
"""

from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import reference
from caffe_merge.arrays import Float64 as Values
from caffe_merge.arrays import count
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, linear_param
from caffe_merge.layers.standard import Standard, standard
from caffe_merge.notes import Reason
from caffe_merge.proof.sampling import (
    GROUPS,
    SAMPLE,
    Changes,
    Reading,
    Step,
    absolute,
    changed,
    check_size,
    columns,
    difference,
    exact,
    noise,
    rounded,
    spread,
    thin_channels,
)
from caffe_merge.schema.messages import copied
from caffe_merge.weights.blobs import Blob


def prove(path: Sequence[Layer], changes: Changes, rank: Optional[int]) -> Optional[str]:
    """Run ``path`` as it is and as ``changes`` make it; what disagrees, or None if they agree.

    Layers of the path without changes are gone. ``rank`` is the number of axes of the path's
    input, None if it is not known. Raises CaffeMergeError where it cannot be run on a patch.
    """
    was: Dict[Layer, Standard] = {}
    now: Dict[Layer, Standard] = {}
    for layer in path:
        for side, known in ((was, standard(layer)), (now, changed(layer, changes))):
            if isinstance(known, Reason):
                return f"layer {layer.name!r} cannot be run: {known}"
            if known is not None:
                side[layer] = known
    linear = path[0].type in LINEAR_TYPES
    plan = _Linear(path, was, rank) if linear else _PerChannel(was, now, rank)
    old = [plan.step(layer, *was[layer], exact) for layer in path]
    new = [plan.step(layer, *now[layer], rounded) for layer in path if layer in now]
    check_size(count(plan.shape))
    patch = noise(plan.shape)
    before, after = _run(old, patch), _run(new, patch)
    terms = _run([absolute(step) for step in new], np.abs(patch))
    return difference(before, after, terms)


def _run(steps: Sequence[Step], patch: Values) -> Values:
    for step in steps:
        patch = reference.forward(step.param, step.blobs, [patch])[0]
    return patch


def _blob_axes(layers: Iterable[Standard], rank: Optional[int]) -> Iterator[Tuple[int, int]]:
    """Where the first blobs of per-channel layers lie on their bottom: (axis, size), for each axis.

    ``rank`` may be None only where no layer counts its axis from the end.
    """
    for param, blobs in layers:
        start = 1
        if param.type == "Scale":
            start = param.scale_param.axis
        elif param.type == "Bias":
            start = param.bias_param.axis
        if start < 0:
            start += rank or 0
        for number, dim in enumerate(blobs[0].shape if blobs else ()):
            yield start + number, dim


class _PerChannel:
    """A path of per-channel layers: sampled channels, any input of the right rank."""

    def __init__(self, was: Changes, now: Changes, rank: Optional[int]) -> None:
        layers = [*was.values(), *now.values()]
        places = list(_blob_axes(layers, rank))
        self.channels = max((dim for _, dim in places), default=1)
        self.sample = spread(self.channels, SAMPLE)
        channel_axis = next((axis for axis, dim in places if dim == self.channels), 1)
        if rank is None:
            rank = _least_rank(layers, places)
        other = 3 if len(self.sample) == 2 else 2  # a blob on the wrong axis does not fit
        shape = [other] * rank
        for axis, dim in places:
            shape[axis] = len(self.sample) if axis == channel_axis else dim
        self.shape = tuple(shape)

    def step(self, layer: Layer, param: Any, blobs: Sequence[Blob], values: Reading) -> Step:
        return Step(param, [thin_channels(values(b), self.channels, self.sample) for b in blobs])


def _least_rank(layers: Iterable[Standard], places: Iterable[Tuple[int, int]]) -> int:
    """A rank on which all of the layers can run, where the net does not tell it."""
    ends = [axis + 1 for axis, _ in places]
    for param, _ in layers:
        own = param.bias_param if param.type == "Bias" else param.scale_param
        if param.type in ("Scale", "Bias") and own.num_axes == -1:
            return max(ends)  # its blob ends where the bottom does
    return max([4, *ends])


class _Linear:
    """A path that starts with a linear layer: sampled output channels of sampled groups."""

    def __init__(self, path: Sequence[Layer], was: Changes, rank: Optional[int]) -> None:
        self.head = path[0]
        param, blobs = was[self.head]
        self.type = param.type
        own = linear_param(param)
        weights = blobs[0].shape
        self.channels = int(own.num_output)
        self.axis = int(own.axis) + (0 if own.axis >= 0 else rank or 0)
        kernel = () if self.type == "InnerProduct" else weights[2:]
        top_rank = self.axis + 1 + len(kernel)
        # Where a blob of the path says that an axis has one place, it has one here.
        behind = [was[layer] for layer in path[1:]]
        single = {axis for axis, dim in _blob_axes(behind, top_rank) if dim == 1}
        leading = [1 if axis in single else 2 for axis in range(self.axis)]
        if self.type == "InnerProduct":
            self.groups = np.arange(1)
            self.local = self.sample = spread(self.channels, SAMPLE)
            self.shape = (*leading, weights[0 if own.transpose else 1])
            return
        group = int(own.group)
        per_group = self.channels // group
        self.inputs = weights[0] // group if self.type == "Deconvolution" else weights[1]
        self.groups = spread(group, GROUPS)
        self.local = spread(per_group, SAMPLE // len(self.groups))
        self.sample = (self.groups[:, np.newaxis] * per_group + self.local).ravel()
        window = [
            _window(own, axis, extent, self.type, self.axis + 1 + axis in single)
            for axis, extent in enumerate(kernel)
        ]
        self.shape = (*leading, len(self.groups) * self.inputs, *window)

    def step(self, layer: Layer, param: Any, blobs: Sequence[Blob], values: Reading) -> Step:
        if layer is not self.head:
            thin = [thin_channels(values(b), self.channels, self.sample) for b in blobs]
            return Step(param, thin)
        thinned = copied(param)
        weights, *biases = blobs
        bias = [values(blob, self.sample) for blob in biases]
        if self.type == "InnerProduct":
            own = thinned.inner_product_param
            own.num_output = len(self.sample)
            own.axis = self.axis  # the axes behind it are one here
            if own.transpose:
                rows = np.arange(weights.shape[0])
                return Step(thinned, [columns(weights, rows, self.local, values), *bias])
            return Step(thinned, [values(weights, self.local), *bias])
        thinned.convolution_param.num_output = len(self.sample)
        thinned.convolution_param.group = len(self.groups)
        if self.type == "Convolution":
            return Step(thinned, [values(weights, self.sample), *bias])
        rows = (self.groups[:, np.newaxis] * self.inputs + np.arange(self.inputs)).ravel()
        return Step(thinned, [columns(weights, rows, self.local, values), *bias])


def _window(param: Any, axis: int, extent: int, kind: str, single: bool) -> int:
    """The input size on a spatial axis for which the output has one place, or else a few."""
    dilation = _along(param.dilation, None, axis, 1)
    stride = _along(param.stride, (param.stride_h, param.stride_w), axis, 1)
    pad = _along(param.pad, (param.pad_h, param.pad_w), axis, 0)
    reach = dilation * (extent - 1) + 1
    if kind == "Deconvolution":
        # The output has stride * (input - 1) + reach - 2 pad places, and must have some.
        least = 1 - min((reach - 2 * pad - 1) // stride, 0)
        return least + (0 if single else 1)
    return max(reach - 2 * pad, 1) + (0 if single else stride)


def _along(values: Sequence[int], pair: Optional[Tuple[int, int]], axis: int, default: int) -> int:
    """A window parameter for one spatial axis: repeated, given once, or as _h and _w."""
    if pair is not None and any(pair):
        return int(pair[axis])
    if not values:
        return default
    return int(values[axis if len(values) > 1 else 0])

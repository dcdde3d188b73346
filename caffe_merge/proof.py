"""The proof of one rewrite: the old and the new path, run in float64 on a small random patch.

The reference layers do the running; they know nothing of how a fold is computed. Where a path has
many channels a sample of them is run: the first, the last, some between, whole groups of a grouped
layer, all with the weights as they will be written. The patch is as small as the kernel allows and
crosses the border where the layer pads.
"""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from caffe_merge import reference
from caffe_merge.affine import Refusal
from caffe_merge.errors import CaffeMergeError
from caffe_merge.forks import standard
from caffe_merge.layer import Layer
from caffe_merge.linear import LINEAR_TYPES
from caffe_merge.weights.blobs import Blob

LIMIT = 1e-6  # of the largest output; float32 rounding of the new weights is about 1e-7
SAMPLE = 8  # output channels that are run where there are more
GROUPS = 4  # groups of a grouped layer that are run where there are more

Index = npt.NDArray[np.intp]
Values = npt.NDArray[np.float64]


class Step(NamedTuple):
    """A layer to run: its parameters and its blobs, thinned out to the sample."""

    param: Any
    blobs: List[Values]


def prove(path: Sequence[Layer], changes: Any, rank: Optional[int]) -> Optional[str]:
    """Run ``path`` as it is and as ``changes`` make it; what disagrees, or None if they agree.

    ``changes``: layer -> (new param, new blobs); layers of the path without are gone. ``rank`` is
    the number of axes of the path's input, None if it is not known.
    """
    plan = _Linear(path[0]) if path[0].type in LINEAR_TYPES else _PerChannel(path, rank)
    old = []
    for layer in path:
        known = standard(layer)
        if isinstance(known, Refusal):
            return f"layer {layer.name!r} cannot be run: {known}"
        old.append(plan.step(layer, *known))
    new = [plan.step(layer, *changes[layer]) for layer in path if layer in changes]
    patch = np.random.Generator(np.random.PCG64(len(path))).standard_normal(plan.shape)
    try:
        before, after = _run(old, patch), _run(new, patch)
        terms = _run([_absolute(step) for step in new], np.abs(patch))
    except CaffeMergeError as reason:
        return f"it cannot be run: {reason}"
    if before.shape != after.shape:
        return f"its output has shape {after.shape}, not {before.shape}"
    difference = np.abs(after - before)
    if not np.isfinite(before).all() or not np.isfinite(after).all():
        return "its output is not finite"
    largest = float(np.max(np.abs(before), initial=0.0))
    if float(np.max(difference, initial=0.0)) > LIMIT * largest + _TINY:
        return f"its output is off by {np.max(difference) / largest:.1e} of the largest value"
    # Channel by channel: rounding cannot cost more than this share of the terms that are added.
    if (difference > LIMIT * np.maximum(terms, np.abs(before)) + _TINY).any():
        return "a channel's output is off by more than rounding can explain"
    return None


_TINY = 1e-37  # below the smallest normal float32, weights round coarsely


def _run(steps: Sequence[Step], patch: Values) -> Values:
    for step in steps:
        patch = reference.forward(step.param, step.blobs, [patch])[0]
    return patch


def _absolute(step: Step) -> Step:
    return Step(step.param, [np.abs(blob) for blob in step.blobs])


def _spread(count: int, most: int) -> Index:
    """At most ``most`` indices below ``count``, evenly spread, both ends among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).astype(np.intp))


def _values(blob: Blob, rows: Optional[Index] = None) -> Values:
    """A blob, or some of its rows, as it will be read back from the file."""
    if rows is None:
        return np.asarray(blob.array(), np.float64)
    return np.asarray(blob.rounded(rows), np.float64)


class _PerChannel:
    """A path of per-channel layers: sampled channels, any input of the right rank."""

    def __init__(self, path: Sequence[Layer], rank: Optional[int]) -> None:
        sizes = [max(blob.shape) for layer in path for blob in layer.blobs if blob.shape]
        self.channels = max(sizes) if sizes else 3
        self.sample = _spread(self.channels, SAMPLE)
        self.axis = 1
        for layer in path:
            for blob in layer.blobs[:1]:
                first = _blob_axis(layer, rank)
                wide = [n for n, dim in enumerate(blob.shape) if dim == self.channels]
                if first is not None and wide:
                    self.axis = first + wide[0]
        self.rank = rank if rank is not None else max(_least_rank(path), self.axis + 1)
        dims = [2] * self.axis + [len(self.sample)] + [3] * (self.rank - self.axis - 1)
        self.shape = tuple(dims[: self.rank])

    def step(self, layer: Layer, param: Any, blobs: Sequence[Blob]) -> Step:
        return Step(param, [_thin_channels(_values(b), self.channels, self.sample) for b in blobs])


def _blob_axis(layer: Layer, rank: Optional[int]) -> Optional[int]:
    """The axis of the bottom on which the first axis of the layer's blob lies."""
    axis = 1
    if layer.type == "Scale":
        axis = layer.param.scale_param.axis
    elif layer.type == "Bias":
        axis = layer.param.bias_param.axis
    if axis >= 0:
        return axis
    return None if rank is None else axis + rank


def _least_rank(path: Sequence[Layer]) -> int:
    """A rank on which all of the layers can run, where the net does not tell it."""
    least = 4
    for layer in path:
        for own in (layer.param.scale_param, layer.param.bias_param):
            if layer.type in ("Scale", "Bias") and own.num_axes == -1 and layer.blobs:
                return int(own.axis) + len(layer.blobs[0].shape)
    return least


def _thin_channels(values: Values, channels: int, sample: Index) -> Values:
    """The sample of a blob that has ``channels`` values along one axis; others stay whole."""
    for axis, dim in enumerate(values.shape):
        if dim == channels and values.size == channels:
            return np.take(values, sample, axis)
    return values


class _Linear:
    """A path that starts with a linear layer: sampled output channels of sampled groups."""

    def __init__(self, head: Layer) -> None:
        weights = head.blobs[0].shape
        self.head = head
        self.transposed = head.type == "Deconvolution"
        if head.type == "InnerProduct":
            own = head.param.inner_product_param
            self.groups = np.arange(1)
            self.channels = int(own.num_output)
            self.local = _spread(self.channels, SAMPLE)
            self.sample = self.local
            inputs = weights[0 if own.transpose else 1]
            self.shape: Tuple[int, ...] = (2,) * max(int(own.axis), 1) + (inputs,)
            return
        param = head.param.convolution_param
        group = int(param.group)
        self.channels = int(param.num_output)
        self.per_group = self.channels // group
        self.inputs = (weights[0] // group) if self.transposed else weights[1]
        self.groups = _spread(group, GROUPS)
        self.local = _spread(self.per_group, SAMPLE // len(self.groups))
        self.sample = (self.groups[:, np.newaxis] * self.per_group + self.local).ravel()
        leading = (2,) * (int(param.axis) if param.axis > 0 else 1)
        window = _window(param, weights[2:], self.transposed)
        self.shape = (*leading, len(self.groups) * self.inputs, *window)

    def step(self, layer: Layer, param: Any, blobs: Sequence[Blob]) -> Step:
        if layer is not self.head:
            thin = [_thin_channels(_values(b), self.channels, self.sample) for b in blobs]
            return Step(param, thin)
        thinned = type(param)()
        thinned.CopyFrom(param)
        bias = [_values(blob, self.sample) for blob in blobs[1:]]
        if layer.type == "InnerProduct":
            own = thinned.inner_product_param
            own.num_output = len(self.sample)
            own.axis = len(self.shape) - 1
            if own.transpose:
                return Step(thinned, [_values(blobs[0])[:, self.local], *bias])
            return Step(thinned, [_values(blobs[0], self.local), *bias])
        own = thinned.convolution_param
        own.num_output = len(self.sample)
        own.group = len(self.groups)
        own.axis = 1 if own.axis < 0 else own.axis
        if not self.transposed:
            return Step(thinned, [_values(blobs[0], self.sample), *bias])
        rows = (self.groups[:, np.newaxis] * self.inputs + np.arange(self.inputs)).ravel()
        return Step(thinned, [_values(blobs[0], rows)[:, self.local], *bias])


def _window(param: Any, kernel: Tuple[int, ...], transposed: bool) -> Tuple[int, ...]:
    """Input sizes, per spatial axis, for which the output has two or three places."""
    sizes = []
    for axis, extent in enumerate(kernel):
        dilation = _along(param.dilation, None, axis, 1)
        stride = _along(param.stride, (param.stride_h, param.stride_w), axis, 1)
        pad = _along(param.pad, (param.pad_h, param.pad_w), axis, 0)
        reach = dilation * (extent - 1) + 1
        if transposed:
            # stride * (in - 1) + reach - 2 pad must leave something.
            sizes.append(2 + max(2 * pad - reach, 0) // stride)
        else:
            sizes.append(max(reach - 2 * pad, 1) + stride)
    return tuple(sizes)


def _along(values: Sequence[int], pair: Optional[Tuple[int, int]], axis: int, default: int) -> int:
    """A window parameter for one spatial axis: repeated, given once, or as _h and _w."""
    if pair is not None and any(pair):
        return int(pair[axis])
    if not values:
        return default
    return int(values[axis if len(values) > 1 else 0])

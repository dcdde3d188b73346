"""The proof of a path: a chain of layers, of which only the first may be linear.

Of many channels only a sample is run: the first, the last and some between; of a grouped layer,
channels of whole groups. The weights are those that will be written. The patch is as small as the
kernel allows, and crosses the border where the layer pads.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Optional, Sequence, Tuple

import numpy as np

from caffe_merge import reference
from caffe_merge.arrays import Float64 as Values
from caffe_merge.arrays import count
from caffe_merge.layers.catalogue import BY_BLOB, CATALOGUE
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import LINEAR_TYPES, linear_param
from caffe_merge.layers.shapes.geometry import Window, convolution_window
from caffe_merge.layers.standard import Standard, standard
from caffe_merge.merging.proof.sampling import (
    GROUPS,
    PATH_CHANNELS,
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
from caffe_merge.notes import Reason


def prove(path: Sequence[Layer], changes: Changes, rank: Optional[int]) -> Optional[str]:
    """Run ``path`` before and after the rewrite; what differs, or None if nothing does.

    ``changes`` has the new parameters and blobs of the layers that stay; the others are removed.
    ``rank`` is the number of axes of the path's input, None if it is not known. Raises
    CaffeMergeError where it cannot be run on a patch.
    """
    old_layers: Forms = {}
    new_layers: Forms = {}
    for layer in path:
        for layers, standard_form in (
            (old_layers, standard(layer, any_window=True)),
            (new_layers, changed(layer, changes)),
        ):
            if isinstance(standard_form, Reason):
                return f"layer {layer.name!r} cannot be run: {standard_form}"
            if standard_form is not None:
                layers[layer] = standard_form
    linear = path[0].type in LINEAR_TYPES
    plan = _Linear(path, old_layers, rank) if linear else _PerChannel(old_layers, new_layers, rank)
    old = [plan.step(layer, old_layers[layer], exact) for layer in path]
    new = [plan.step(layer, new_layers[layer], rounded) for layer in path if layer in new_layers]
    check_size(count(plan.shape))
    patch = noise(plan.shape)
    before, after = _run(old, patch), _run(new, patch)
    terms = _run([absolute(step) for step in new], np.abs(patch))
    return difference(before, after, terms)


def _run(steps: Sequence[Step], patch: Values) -> Values:
    for step in steps:
        patch = reference.forward(step.spec, step.blobs, [patch])[0]
    return patch


def _blob_axes(layers: Iterable[Standard], rank: Optional[int]) -> Iterator[Tuple[int, int]]:
    """The axes of the bottom on which the first blobs of per-channel layers lie: (axis, size).

    ``rank`` may be None only where no layer counts its axis from the end.
    """
    for spec, blobs in layers:
        start = 1
        if spec.type == "Scale":
            start = spec.param.scale_param.axis
        elif spec.type == "Bias":
            start = spec.param.bias_param.axis
        if start < 0:
            start += rank or 0
        for number, dim in enumerate(blobs[0].shape if blobs else ()):
            yield start + number, dim


Forms = Dict[Layer, Standard]  # layers in a form that the reference runs


class _PerChannel:
    """A path of per-channel layers only: a sample of channels, any input of the right rank."""

    def __init__(self, old_layers: Forms, new_layers: Forms, rank: Optional[int]) -> None:
        layers = [*old_layers.values(), *new_layers.values()]
        blob_axes = list(_blob_axes(layers, rank))
        self.channels = max((dim for _, dim in blob_axes), default=1)
        self.sample = spread(self.channels, PATH_CHANNELS)
        channel_axis = next((axis for axis, dim in blob_axes if dim == self.channels), 1)
        if rank is None:
            rank = _least_rank(layers, blob_axes)
        filler = 3 if len(self.sample) == 2 else 2  # a blob on the wrong axis does not fit
        shape = [filler] * rank
        for axis, dim in blob_axes:
            shape[axis] = len(self.sample) if axis == channel_axis else dim
        self.shape = tuple(shape)

    def step(self, layer: Layer, form: Standard, reading: Reading) -> Step:
        spec, blobs = form
        return Step(spec, [thin_channels(reading(b), self.channels, self.sample) for b in blobs])


def _least_rank(layers: Iterable[Standard], blob_axes: Iterable[Tuple[int, int]]) -> int:
    """A rank with which all of the layers can run, where the net does not say it."""
    ends = [axis + 1 for axis, _ in blob_axes]
    for spec, _ in layers:
        param = spec.param
        if param.type not in BY_BLOB:
            continue
        if getattr(param, CATALOGUE[param.type].block).num_axes == -1:
            return max(ends)  # its blob ends where the bottom does
    return max([4, *ends])


class _Linear:
    """A path behind a linear layer: a sample of output channels, from a sample of groups."""

    def __init__(self, path: Sequence[Layer], old_layers: Forms, rank: Optional[int]) -> None:
        self.head = path[0]
        spec, blobs = old_layers[self.head]
        self.type = spec.type
        linear = linear_param(spec.param)
        weights = blobs[0].shape
        self.channels = int(linear.num_output)
        self.axis = int(linear.axis) + (0 if linear.axis >= 0 else rank or 0)
        kernel = () if self.type == "InnerProduct" else weights[2:]
        top_rank = self.axis + 1 + len(kernel)
        # An axis on which a later blob has size 1 gets size 1 here too.
        behind = [old_layers[layer] for layer in path[1:]]
        single = {axis for axis, dim in _blob_axes(behind, top_rank) if dim == 1}
        leading = [1 if axis in single else 2 for axis in range(self.axis)]
        if self.type == "InnerProduct":
            self.groups = np.arange(1)
            self.local = self.sample = spread(self.channels, PATH_CHANNELS)
            self.shape = (*leading, weights[0 if linear.transpose else 1])
            return
        group = int(linear.group)
        per_group = self.channels // group
        self.inputs = weights[0] // group if self.type == "Deconvolution" else weights[1]
        self.groups = spread(group, GROUPS)
        self.local = spread(per_group, PATH_CHANNELS // len(self.groups))
        self.sample = (self.groups[:, np.newaxis] * per_group + self.local).ravel()
        window = convolution_window(spec, len(kernel))
        sizes = [
            _size(window, axis, self.type, self.axis + 1 + axis in single)
            for axis in range(len(kernel))
        ]
        self.shape = (*leading, len(self.groups) * self.inputs, *sizes)

    def step(self, layer: Layer, form: Standard, reading: Reading) -> Step:
        spec, blobs = form
        if layer is not self.head:
            thinned_blobs = [thin_channels(reading(b), self.channels, self.sample) for b in blobs]
            return Step(spec, thinned_blobs)
        thinned = spec.copy()
        weights, *biases = blobs
        bias = [reading(blob, self.sample) for blob in biases]
        if self.type == "InnerProduct":
            inner_product_param = thinned.param.inner_product_param
            inner_product_param.num_output = len(self.sample)
            inner_product_param.axis = self.axis  # all axes from it on are one axis in this patch
            if inner_product_param.transpose:
                rows = np.arange(weights.shape[0])
                return Step(thinned, [columns(weights, rows, self.local, reading), *bias])
            return Step(thinned, [reading(weights, self.local), *bias])
        thinned.param.convolution_param.num_output = len(self.sample)
        thinned.param.convolution_param.group = len(self.groups)
        if self.type == "Convolution":
            return Step(thinned, [reading(weights, self.sample), *bias])
        rows = (self.groups[:, np.newaxis] * self.inputs + np.arange(self.inputs)).ravel()
        return Step(thinned, [columns(weights, rows, self.local, reading), *bias])


def _size(window: Window, axis: int, kind: str, single: bool) -> int:
    """The input size on a spatial axis with which the output has size 1 (``single``) or a few."""
    stride, pads, extent = window.stride[axis], window.pads[axis], window.extent[axis]
    if kind == "Deconvolution":
        # The output has stride * (input - 1) + extent - pads places, and must have some.
        least = 1 - min((extent - pads - 1) // stride, 0)
        return least + (0 if single else 1)
    return max(extent - pads, 1) + (0 if single else stride)

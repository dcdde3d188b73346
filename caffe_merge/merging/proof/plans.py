"""How a layer of a region is run for some channels of its tops, and which of its bottoms it needs.

A convolution that makes only the channels that are asked for is a smaller one; where a layer's type
does not tell that its channels are apart, it is run as it is.
"""

from functools import partial
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from caffe_merge.arrays import Indices as Index
from caffe_merge.arrays import Shape, distinct
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import BY_BLOB, CATALOGUE, that
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.merging.proof.sampling import Reading, Step, columns, thin_channels
from caffe_merge.merging.proof.wiring import Node
from caffe_merge.net.graph import Version

# Of each top, its channels c depend on the channels c of the bottoms alone.
CHANNELWISE = that("channelwise")
NO_CHANNELS = np.arange(0)

Needed = Dict[Version, Index]  # the channels of each that are needed


class Plan(NamedTuple):
    """How to run a node for some channels of its tops.

    ``bottom_channels`` are the channels that it needs of each bottom. ``top_index`` picks the
    channels that are asked for from each top of the step; None where it computes no others.
    """

    bottom_channels: List[Index]
    top_index: Optional[List[Index]]
    step: Callable[[Reading], Step]


def plan_of(node: Node, sizes: Mapping[Version, Shape], needed: Needed) -> Plan:
    """How to run ``node``, of blobs of these ``sizes``, for the ``needed`` channels of its tops."""
    kind = node.spec.type
    sample = needed.get(node.tops[0], NO_CHANNELS)
    if kind == "Convolution" and _is_along_channels(node, sizes):
        return _convolution(node, sample)
    if kind == "Deconvolution" and _is_along_channels(node, sizes):
        return _deconvolution(node, sample)
    if kind == "InnerProduct" and _is_along_channels(node, sizes):
        return _inner_product(node, sample, sizes[node.bottoms[0]])
    if kind in CHANNELWISE and varies_along_channels(node):
        channels = sizes[node.tops[0]][1]
        step = partial(_channelwise_step, node, channels, sample)
        return Plan([sample] * len(node.bottoms), None, step)
    if joins_channels(node, sizes):
        bottom_channels, start = [], 0
        for bottom in node.bottoms:
            stop = start + sizes[bottom][1]
            bottom_channels.append(sample[(sample >= start) & (sample < stop)] - start)
            start = stop
        return Plan(bottom_channels, None, partial(_full_step, node))
    everything = [np.arange(sizes[bottom][1]) for bottom in node.bottoms]
    return Plan(
        everything, [needed.get(top, NO_CHANNELS) for top in node.tops], partial(_full_step, node)
    )


def joins_channels(node: Node, sizes: Mapping[Version, Shape]) -> bool:
    """Whether it is a Concat of channels, with blobs of these ``sizes``."""
    return node.spec.type == "Concat" and _is_along_channels(node, sizes)


def _is_along_channels(node: Node, sizes: Mapping[Version, Shape]) -> bool:
    return axis_of(node.spec.param, len(sizes[node.bottoms[0]])) == 1


def varies_along_channels(node: Node) -> bool:
    """Whether its blobs have one value per channel (axis 1), or a single one."""
    if node.spec.type not in BY_BLOB or not node.blobs:
        return True
    block = getattr(node.spec.param, CATALOGUE[node.spec.type].block)
    return block.axis == 1 and all(dim == 1 for dim in node.blobs[0].shape[1:])


def _full_step(node: Node, reading: Reading) -> Step:
    return Step(node.spec, [reading(blob) for blob in node.blobs])


def _channelwise_step(node: Node, channels: int, sample: Index, reading: Reading) -> Step:
    return Step(node.spec, [thin_channels(reading(b), channels, sample) for b in node.blobs])


class _Groups(NamedTuple):
    """The part of a grouped layer that computes a sample of its outputs.

    Groups need to be of equal size. So there is every group that the sample touches, with all
    ``inputs`` of it, and in each of them the outputs that the sample has in any, at the places
    ``local`` of the group; ``outputs`` has their numbers.
    """

    spec: LayerSpec
    inputs: Index
    outputs: Index
    local: Index


def _groups(node: Node, sample: Index, depth: int) -> _Groups:
    """The groups for ``sample`` of a layer of ``depth`` inputs a group."""
    conv_param = node.spec.param.convolution_param
    per_group = conv_param.num_output // conv_param.group
    groups, local = distinct(sample // per_group), distinct(sample % per_group)
    outputs = (groups[:, np.newaxis] * per_group + local).ravel()
    inputs = (groups[:, np.newaxis] * depth + np.arange(depth)).ravel()
    spec = node.spec.copy()
    spec.param.convolution_param.num_output = len(outputs)
    spec.param.convolution_param.group = len(groups)
    return _Groups(spec, inputs, outputs, local)


def _convolution(node: Node, sample: Index) -> Plan:
    """A smaller convolution that computes the sampled channels."""
    part = _groups(node, sample, node.blobs[0].shape[1])

    def step(reading: Reading) -> Step:
        return Step(part.spec, [reading(blob, part.outputs) for blob in node.blobs])

    return Plan([part.inputs], [np.searchsorted(part.outputs, sample)], step)


def _deconvolution(node: Node, sample: Index) -> Plan:
    """A smaller Deconvolution that computes the sampled channels; its inputs are the rows."""
    weights, *biases = node.blobs
    part = _groups(node, sample, weights.shape[0] // node.spec.param.convolution_param.group)

    def step(reading: Reading) -> Step:
        blobs = [columns(weights, part.inputs, part.local, reading)]
        return Step(part.spec, [*blobs, *(reading(blob, part.outputs) for blob in biases)])

    return Plan([part.inputs], [np.searchsorted(part.outputs, sample)], step)


def _inner_product(node: Node, sample: Index, bottom: Shape) -> Plan:
    spec = node.spec.copy()
    spec.param.inner_product_param.num_output = len(sample)
    weights, *biases = node.blobs

    def step(reading: Reading) -> Step:
        if spec.param.inner_product_param.transpose:
            matrix = columns(weights, np.arange(weights.shape[0]), sample, reading)
        else:
            matrix = reading(weights, sample)
        return Step(spec, [matrix, *(reading(blob, sample) for blob in biases)])

    return Plan([np.arange(bottom[1])], None, step)

"""The proof of a region: layers that branch and join, run as they are wired.

The patch is just large enough for the last of several windows to have a few output places. Only
what a sample of the output channels depends on is computed: backwards from the outputs, each layer
says which channels of its bottoms it needs.
"""

from functools import partial
from itertools import chain, islice, product
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from caffe_merge import reference
from caffe_merge.algebra.kernels import MAX_STRIDE
from caffe_merge.arrays import Float64 as Values
from caffe_merge.arrays import Indices as Index
from caffe_merge.arrays import Shape, count, distinct
from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import BY_BLOB, CATALOGUE, JOIN, WINDOWED, of_family, that
from caffe_merge.layers.shapes.geometry import Window, convolution_window, pooling_window
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.merging.proof.sampling import (
    Reading,
    Step,
    absolute,
    check_size,
    columns,
    compared,
    noise,
    rounded,
    spread,
    thin_channels,
)
from caffe_merge.merging.proof.wiring import Node, Wiring
from caffe_merge.net.graph import Version
from caffe_merge.wording import counted

REGION_CHANNELS = 32  # output channels of a region that are run; the parts of a Concat share them
IMAGES = 4  # so that no output channel is all near 0 by chance
MOST_SIZES = 1024  # patch sizes that are tried
# Each bottom of these has the size of the others.
JOINS = frozenset(of_family(JOIN)) - that("fork")
WHOLE = that("one_size")

# Of each top, its channels c depend on the channels c of the bottoms alone.
CHANNELWISE = that("channelwise")

_NO_CHANNELS = np.arange(0)


Needed = Dict[Version, Index]  # the channels of each that are needed


def prove(wiring: Wiring) -> Optional[str]:
    """Run a region before and after the rewrite; what differs, or None if nothing does.

    Raises CaffeMergeError where it cannot be run on so small a patch.
    """
    outputs, new_outputs = wiring.outputs, wiring.new_outputs
    patch = _patch(wiring.inputs, wiring.old)
    samples = _samples(outputs, wiring.old, patch)
    before = partial(_run, wiring.old, dict(zip(outputs, samples)), patch)
    after = _run(wiring.new, dict(zip(new_outputs, samples)), patch, rounded)
    absolute_patch = {version: np.abs(values) for version, values in patch.items()}
    terms = _run(wiring.new, dict(zip(new_outputs, samples)), absolute_patch, rounded, signs=False)
    return compared(before, after, terms)


# -- the patch -----------------------------------------------------------------------------


def _patch(inputs: Sequence[Version], nodes: Sequence[Node]) -> Dict[Version, Values]:
    """Noise for each input, of the least size with which windows have a few output places."""
    side_inputs = {version for version in inputs if _is_side_input(version, nodes)}
    extra_sizes = [] if any(_fixes_size(node) for node in nodes) else _extra_sizes(nodes)
    for extra in chain(islice(extra_sizes, MOST_SIZES), [None]):
        sizes = {
            version: _size(version, nodes, extra)
            for version in inputs
            if version not in side_inputs
        }
        try:
            sizes = _shapes(nodes, sizes)
        except NetError:
            if extra is None:
                raise
            continue
        check_size(max(map(count, sizes.values())))
        return {version: noise(sizes[version]) for version in inputs}
    raise AssertionError("the last size is the net's own")


def _is_side_input(version: Version, nodes: Sequence[Node]) -> bool:
    """Whether it is read only by Concat and Eltwise, so that their other bottoms tell its size."""
    return all(node.spec.type in JOINS for node in nodes if version in node.bottoms)


def _fixes_size(node: Node) -> bool:
    """Whether it runs on inputs of one size only."""
    tied = node.spec.type in WHOLE or not _varies_along_channels(node)
    return tied or bool(node.spec.param.pooling_param.global_pooling)


def _size(version: Version, nodes: Sequence[Node], extra: Optional[Shape]) -> Shape:
    """The shape of an input: its own, or what the windows see and ``extra`` places more."""
    if version.shape is not None and (extra is None or len(version.shape) <= 2):
        return (IMAGES, *version.shape[1:])
    channels, spatial = _channels(version, nodes)
    if extra is None:
        raise NetError(f"the shape of {version.name!r} is not known")
    reach, _ = _reach(nodes, spatial)
    return (IMAGES, channels, *[far + more for far, more in zip(reach, extra)])


def _channels(version: Version, nodes: Sequence[Node]) -> Tuple[int, int]:
    """The channels and the number of spatial axes of ``version``."""
    if version.shape is not None:
        return version.shape[1], len(version.shape) - 2
    for node in nodes:
        weights = node.blobs[0].shape if node.blobs else ()
        if version in node.bottoms and node.spec.type == "Convolution":
            return weights[1] * node.spec.param.convolution_param.group, len(weights) - 2
        if version in node.bottoms and node.spec.type == "Deconvolution":
            return weights[0], len(weights) - 2
    raise NetError(f"the shape of {version.name!r} is not known")


def _extra_sizes(nodes: Sequence[Node]) -> Iterator[Shape]:
    """Sizes to try beyond what one output place sees: every remainder modulo the strides."""
    spatial = max((len(node.blobs[0].shape) - 2 for node in nodes if node.blobs), default=2)
    _, jump = _reach(nodes, max(spatial, 2))
    if max(jump, default=1) > MAX_STRIDE:
        return iter(())
    ranges = [range(step + axis, 2 * step + axis + 1) for axis, step in enumerate(jump)]
    return product(*ranges)


def _reach(nodes: Sequence[Node], spatial: int) -> Tuple[Shape, Shape]:
    """The largest receptive field of an output place and the largest stride, per spatial axis."""
    single = ((1,) * spatial, (1,) * spatial)
    reach_of: Dict[Version, Tuple[Shape, Shape]] = {}
    for node in nodes:
        reaches, jumps = zip(*(reach_of.get(bottom, single) for bottom in node.bottoms))
        reach, jump = _elementwise_max(reaches), _elementwise_max(jumps)
        window = _window(node, spatial)
        if window is not None:
            extent, stride = window.extent, window.stride
            if node.spec.type == "Deconvolution":  # an output place sees few places of its input
                extent = tuple(-(-e // s) for e, s in zip(extent, stride))
                stride = (1,) * spatial
            reach = tuple(r + (e - 1) * j for r, e, j in zip(reach, extent, jump))
            jump = tuple(j * s for j, s in zip(jump, stride))
        reach_of.update((top, (reach, jump)) for top in node.tops)
    reaches, jumps = zip(*reach_of.values())
    return _elementwise_max(reaches), _elementwise_max(jumps)


def _elementwise_max(sizes: Sequence[Shape]) -> Shape:
    return tuple(map(max, zip(*sizes)))


def _window(node: Node, spatial: int) -> Optional[Window]:
    if node.spec.type in WINDOWED:
        return convolution_window(node.spec, spatial)
    if node.spec.type == "Pooling" and not node.spec.param.pooling_param.global_pooling:
        return pooling_window(node.spec, (1,) * spatial)
    return None


def _shapes(nodes: Sequence[Node], inputs: Mapping[Version, Shape]) -> Dict[Version, Shape]:
    """The shapes of all versions. Raises NetError where the nodes do not fit together."""
    known_shapes = dict(inputs)
    for node in nodes:
        for bottom in node.bottoms:
            if bottom not in known_shapes:
                known_shapes[bottom] = _shape_beside(bottom, node, known_shapes)
        tops = shapes.tops(node.spec, [known_shapes[bottom] for bottom in node.bottoms])
        if tops is None:
            raise NetError(f"layer {node.spec.name!r}: its top shapes cannot be told")
        known_shapes.update(zip(node.tops, tops))
    if any(len(shape) < 2 for shape in known_shapes.values()):
        raise NetError("it has a blob without channels")
    return known_shapes


def _shape_beside(version: Version, node: Node, known_shapes: Mapping[Version, Shape]) -> Shape:
    """The shape of ``version``, from that of another bottom of the Concat or Eltwise ``node``."""
    other = next((known_shapes[bottom] for bottom in node.bottoms if bottom in known_shapes), None)
    if other is None or (version.shape is None and node.spec.type == "Concat"):
        raise NetError(f"the shape of {version.name!r} is not known")
    channels = other[1] if version.shape is None else version.shape[1]
    return (other[0], channels, *other[2:])


# -- running -------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How to run a node for some channels of its tops.

    ``bottom_channels`` are the channels that it needs of each bottom. ``top_index`` picks the
    channels that are asked for from each top of the step; None where it computes no others.
    """

    bottom_channels: List[Index]
    top_index: Optional[List[Index]]
    step: Callable[[Reading], Step]


def _samples(
    outputs: Sequence[Version], nodes: Sequence[Node], patch: Mapping[Version, Values]
) -> List[Index]:
    """A sample of the channels of each output; of a Concat, some of each of its bottoms."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    joined = {node.tops[0]: node.bottoms for node in nodes if _joins_channels(node, sizes)}
    samples = []
    for output in outputs:
        parts = joined.get(output, (output,))
        start, sample = 0, []
        for part in parts:
            sample.append(start + spread(sizes[part][1], max(REGION_CHANNELS // len(parts), 2)))
            start += sizes[part][1]
        samples.append(np.concatenate(sample))
    return samples


def _joins_channels(node: Node, sizes: Mapping[Version, Shape]) -> bool:
    return node.spec.type == "Concat" and _is_along_channels(node, sizes)


def _is_along_channels(node: Node, sizes: Mapping[Version, Shape]) -> bool:
    return axis_of(node.spec.param, len(sizes[node.bottoms[0]])) == 1


def _selected(array: Values, channels: Index) -> Values:
    """Some channels of a patch; NetError where layers want other ones than their blob has."""
    last = max(channels, default=-1)
    if last >= array.shape[1]:
        size = counted(array.shape[1], "channel")
        raise NetError(f"channel {last} of a blob of {size} is read")
    return array[:, channels]


def _picked(array: Values, held: Index, channels: Index) -> Values:
    """Those of the ``held`` channels of ``array``; all of them are not copied."""
    return array if len(channels) == len(held) else array[:, np.searchsorted(held, channels)]


def _run(
    nodes: Sequence[Node],
    outputs: Mapping[Version, Index],
    patch: Mapping[Version, Values],
    reading: Reading,
    signs: bool = True,
) -> List[Values]:
    """Run the nodes; the channels of each version that ``outputs`` asks for."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    needed: Needed = dict(outputs)
    plans = []
    for node in reversed(nodes):
        plan = _plan(node, sizes, needed)
        plans.append(plan)
        for bottom, channels in zip(node.bottoms, plan.bottom_channels):
            needed[bottom] = distinct(np.append(needed.get(bottom, _NO_CHANNELS), channels))
    values = {
        version: _selected(array, needed[version])
        for version, array in patch.items()
        if version in needed
    }
    for node, plan in zip(nodes, reversed(plans)):
        step = plan.step(reading) if signs else absolute(plan.step(reading))
        inputs = [
            _picked(values[bottom], needed[bottom], channels)
            for bottom, channels in zip(node.bottoms, plan.bottom_channels)
        ]
        tops = reference.forward(step.spec, step.blobs, inputs)
        if plan.top_index is not None:
            tops = [top[:, places] for top, places in zip(tops, plan.top_index)]
        values.update(zip(node.tops, tops))
    return [_picked(values[output], needed[output], sample) for output, sample in outputs.items()]


def _plan(node: Node, sizes: Mapping[Version, Shape], needed: Needed) -> Plan:
    kind = node.spec.type
    sample = needed.get(node.tops[0], _NO_CHANNELS)
    if kind == "Convolution" and _is_along_channels(node, sizes):
        return _convolution(node, sample)
    if kind == "Deconvolution" and _is_along_channels(node, sizes):
        return _deconvolution(node, sample)
    if kind == "InnerProduct" and _is_along_channels(node, sizes):
        return _inner_product(node, sample, sizes[node.bottoms[0]])
    if kind in CHANNELWISE and _varies_along_channels(node):
        channels = sizes[node.tops[0]][1]
        step = partial(_channelwise_step, node, channels, sample)
        return Plan([sample] * len(node.bottoms), None, step)
    if _joins_channels(node, sizes):
        bottom_channels, start = [], 0
        for bottom in node.bottoms:
            stop = start + sizes[bottom][1]
            bottom_channels.append(sample[(sample >= start) & (sample < stop)] - start)
            start = stop
        return Plan(bottom_channels, None, partial(_full_step, node))
    everything = [np.arange(sizes[bottom][1]) for bottom in node.bottoms]
    return Plan(
        everything, [needed.get(top, _NO_CHANNELS) for top in node.tops], partial(_full_step, node)
    )


def _varies_along_channels(node: Node) -> bool:
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

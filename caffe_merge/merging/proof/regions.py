"""The proof of a region: layers that branch and join, run as they are wired.

The patch is just large enough for the last of several windows to have a few output places. Only
what a sample of the output channels depends on is computed: backwards from the outputs, each layer
says which channels of its bottoms it needs.
"""

from itertools import chain, islice, product
from typing import (
    Dict,
    Iterable,
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
from caffe_merge.layers.catalogue import JOIN, WINDOWED, of_family, that
from caffe_merge.layers.shapes.geometry import Window, convolution_window, pooling_window
from caffe_merge.merging.proof.plans import (
    NO_CHANNELS,
    Needed,
    Plan,
    joins_channels,
    plan_of,
    varies_along_channels,
)
from caffe_merge.merging.proof.sampling import (
    Reading,
    Step,
    absolute,
    check_size,
    compared,
    noise,
    rounded,
    spread,
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


def prove(wiring: Wiring) -> Optional[str]:
    """Run a region before and after the rewrite; what differs, or None if nothing does.

    Raises CaffeMergeError where it cannot be run on so small a patch.
    """
    patch = _patch(wiring.inputs, wiring.old)
    samples = _samples(wiring.outputs, wiring.old, patch)
    old = _planned(wiring.old, dict(zip(wiring.outputs, samples)), patch)
    new = _planned(wiring.new, dict(zip(wiring.new_outputs, samples)), patch)
    steps = new.steps(rounded)
    after = _run(new, steps, patch)
    absolute_patch = {version: np.abs(values) for version, values in patch.items()}
    terms = _run(new, map(absolute, steps), absolute_patch)

    def before(reading: Reading) -> List[Values]:
        return _run(old, old.steps(reading), patch)

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
    tied = node.spec.type in WHOLE or not varies_along_channels(node)
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
            raise NetError(f"layer {node.spec.name!r}: its top shapes are not known")
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


def _samples(
    outputs: Sequence[Version], nodes: Sequence[Node], patch: Mapping[Version, Values]
) -> List[Index]:
    """A sample of the channels of each output; of a Concat, some of each of its bottoms."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    joined = {node.tops[0]: node.bottoms for node in nodes if joins_channels(node, sizes)}
    samples = []
    for output in outputs:
        parts = joined.get(output, (output,))
        start, sample = 0, []
        for part in parts:
            sample.append(start + spread(sizes[part][1], max(REGION_CHANNELS // len(parts), 2)))
            start += sizes[part][1]
        samples.append(np.concatenate(sample))
    return samples


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


class Planned(NamedTuple):
    """How to run nodes for the channels that are asked for of each of the ``outputs``.

    ``needed`` are those that this takes of every version.
    """

    nodes: Sequence[Node]
    plans: Sequence[Plan]
    needed: Needed
    outputs: Mapping[Version, Index]

    def steps(self, reading: Reading) -> List[Step]:
        """What is to be run for each node."""
        return [plan.step(reading) for plan in self.plans]


def _planned(
    nodes: Sequence[Node], outputs: Mapping[Version, Index], patch: Mapping[Version, Values]
) -> Planned:
    """The plans of the nodes, made backwards from the outputs."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    needed: Needed = dict(outputs)
    plans: List[Plan] = []
    for node in reversed(nodes):
        plan = plan_of(node, sizes, needed)
        plans.insert(0, plan)
        for bottom, channels in zip(node.bottoms, plan.bottom_channels):
            needed[bottom] = distinct(np.append(needed.get(bottom, NO_CHANNELS), channels))
    return Planned(nodes, plans, needed, outputs)


def _run(planned: Planned, steps: Iterable[Step], patch: Mapping[Version, Values]) -> List[Values]:
    """Run the ``steps`` of the nodes; the channels of each output that are asked for."""
    needed = planned.needed
    values = {
        version: _selected(array, needed[version])
        for version, array in patch.items()
        if version in needed
    }
    for node, plan, step in zip(planned.nodes, planned.plans, steps):
        inputs = [
            _picked(values[bottom], needed[bottom], channels)
            for bottom, channels in zip(node.bottoms, plan.bottom_channels)
        ]
        tops = reference.forward(step.spec, step.blobs, inputs)
        if plan.top_index is not None:
            tops = [top[:, places] for top, places in zip(tops, plan.top_index)]
        values.update(zip(node.tops, tops))
    return [
        _picked(values[output], needed[output], sample)
        for output, sample in planned.outputs.items()
    ]

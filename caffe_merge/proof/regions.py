"""The proof of a region: layers that branch and join, run as they are wired.

The patch is just large enough for the windows in a row to have several places. What the sampled
channels of the outputs do not depend on is left out: going back from them, each blob is asked for
some of its channels, or for all.
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
from caffe_merge.arrays import Shape, count
from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from caffe_merge.layers.shapes.geometry import Window, convolution_window, pooling_window
from caffe_merge.net.graph import Version
from caffe_merge.proof.sampling import (
    Reading,
    Step,
    absolute,
    check_size,
    columns,
    exact,
    first_difference,
    noise,
    rounded,
    spread,
    thin_channels,
)
from caffe_merge.proof.wiring import Node, Wiring
from caffe_merge.schema.messages import copied

SAMPLE = 32  # output channels that are run where there are more
IMAGES = 4  # so that no output is small all over by chance
MOST_SIZES = 1024  # sizes of a patch that are tried
JOINS = ("Concat", "Eltwise")
WHOLE = ("Flatten", "InnerProduct", "Reshape")

# Of each top, its channels c depend on the channels c of the bottoms alone.
CHANNELWISE = frozenset(
    (
        *("AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Eltwise", "Exp"),
        *("Log", "PReLU", "Pooling", "Power", "ReLU", "Scale", "Sigmoid", "Split", "TanH"),
    )
)

_NONE = np.arange(0)

Wanted = Dict[Version, Index]  # some channels of each


def prove(wiring: Wiring) -> Optional[str]:
    """Run a region as it is and as it will be; what disagrees, or None if it agrees.

    Raises CaffeMergeError where it cannot be run on so small a patch.
    """
    ends, meant = wiring.outputs, wiring.new_outputs
    patch = _patch(wiring.sources, wiring.old)
    samples = _samples(ends, wiring.old, patch)
    before = _run(wiring.old, dict(zip(ends, samples)), patch, exact)
    after = _run(wiring.new, dict(zip(meant, samples)), patch, rounded)
    bare = {version: np.abs(values) for version, values in patch.items()}
    terms = _run(wiring.new, dict(zip(meant, samples)), bare, rounded, signs=False)
    return first_difference(before, after, terms)


# -- the patch -----------------------------------------------------------------------------


def _patch(sources: Sequence[Version], nodes: Sequence[Node]) -> Dict[Version, Values]:
    """Noise for each source, at the least size at which the nodes can run and slide a little."""
    aside = {source for source in sources if _is_aside(source, nodes)}
    slid = [] if any(_is_whole(node) for node in nodes) else _extras(nodes)
    for extra in chain(islice(slid, MOST_SIZES), [None]):
        sizes = {source: _size(source, nodes, extra) for source in sources if source not in aside}
        try:
            sizes = _shapes(nodes, sizes)
        except NetError:
            if extra is None:
                raise
            continue
        check_size(max(map(count, sizes.values())))
        return {source: noise(sizes[source]) for source in sources}
    raise AssertionError("the last size is the net's own")


def _is_aside(source: Version, nodes: Sequence[Node]) -> bool:
    """Whether it only joins what comes out of the others, whose size it has then."""
    return all(node.param.type in JOINS for node in nodes if source in node.bottoms)


def _is_whole(node: Node) -> bool:
    """Whether it ties its input to one size."""
    tied = node.param.type in WHOLE or not _varies_along_channels(node)
    return tied or bool(node.param.pooling_param.global_pooling)


def _size(source: Version, nodes: Sequence[Node], extra: Optional[Shape]) -> Shape:
    """Some images of ``source``: all of it, or as far as the windows reach and ``extra`` beyond."""
    if source.shape is not None and (extra is None or len(source.shape) <= 2):
        return (IMAGES, *source.shape[1:])
    channels, spatial = _channels(source, nodes)
    if extra is None:
        raise NetError(f"the shape of {source.name!r} is not known")
    reach, _ = _reach(nodes, spatial)
    return (IMAGES, channels, *[far + more for far, more in zip(reach, extra)])


def _channels(source: Version, nodes: Sequence[Node]) -> Tuple[int, int]:
    """The channels and the number of spatial axes of ``source``."""
    if source.shape is not None:
        return source.shape[1], len(source.shape) - 2
    for node in nodes:
        if source in node.bottoms and node.param.type == "Convolution":
            weights = node.blobs[0].shape
            return weights[1] * node.param.convolution_param.group, len(weights) - 2
    raise NetError(f"the shape of {source.name!r} is not known")


def _extras(nodes: Sequence[Node]) -> Iterator[Shape]:
    """How far beyond the reach to try, axis by axis: every remainder of the strides."""
    spatial = max((len(node.blobs[0].shape) - 2 for node in nodes if node.blobs), default=2)
    _, jump = _reach(nodes, max(spatial, 2))
    if max(jump, default=1) > MAX_STRIDE:
        return iter(())
    ranges = [range(step + axis, 2 * step + axis + 1) for axis, step in enumerate(jump)]
    return product(*ranges)


def _reach(nodes: Sequence[Node], spatial: int) -> Tuple[Shape, Shape]:
    """How many places of an input one output place sees, and how far they move, at most."""
    none = ((1,) * spatial, (1,) * spatial)
    seen: Dict[Version, Tuple[Shape, Shape]] = {}
    for node in nodes:
        reaches, jumps = zip(*(seen.get(bottom, none) for bottom in node.bottoms))
        reach, jump = _most(reaches), _most(jumps)
        window = _window(node, spatial)
        if window is not None:
            reach = tuple(r + (e - 1) * j for r, e, j in zip(reach, window.extent, jump))
            jump = tuple(j * s for j, s in zip(jump, window.stride))
        seen.update((top, (reach, jump)) for top in node.tops)
    reaches, jumps = zip(*seen.values())
    return _most(reaches), _most(jumps)


def _most(sizes: Sequence[Shape]) -> Shape:
    return tuple(map(max, zip(*sizes)))


def _window(node: Node, spatial: int) -> Optional[Window]:
    if node.param.type in ("Convolution", "Deconvolution"):
        return convolution_window(node.param, spatial)
    if node.param.type == "Pooling" and not node.param.pooling_param.global_pooling:
        return pooling_window(node.param, (1,) * spatial)
    return None


def _shapes(nodes: Sequence[Node], sources: Mapping[Version, Shape]) -> Dict[Version, Shape]:
    """The shapes of all versions. Raises NetError where the nodes do not fit one another."""
    known = dict(sources)
    for node in nodes:
        for bottom in node.bottoms:
            if bottom not in known:
                known[bottom] = _beside(bottom, node, known)
        tops = shapes.tops(node.param, [known[bottom] for bottom in node.bottoms])
        if tops is None:
            raise NetError(f"layer {node.param.name!r}: its top shapes cannot be told")
        known.update(zip(node.tops, tops))
    return known


def _beside(source: Version, node: Node, known: Mapping[Version, Shape]) -> Shape:
    """The shape of ``source``, which goes into the join ``node`` beside what is known."""
    other = next((known[bottom] for bottom in node.bottoms if bottom in known), None)
    if other is None or (source.shape is None and node.param.type == "Concat"):
        raise NetError(f"the shape of {source.name!r} is not known")
    channels = other[1] if source.shape is None else source.shape[1]
    return (other[0], channels, *other[2:])


# -- running -------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How to run a node for some channels of its tops.

    ``needed`` are the channels of each bottom, ``places`` where the wanted channels of each top lie
    in what the step gives out, None where it gives out no other.
    """

    needed: List[Index]
    places: Optional[List[Index]]
    step: Callable[[Reading], Step]


def _samples(
    ends: Sequence[Version], nodes: Sequence[Node], patch: Mapping[Version, Values]
) -> List[Index]:
    """Some channels of each end; of a Concat's some of each of its bottoms."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    if any(len(sizes[end]) < 2 for end in ends):
        raise NetError("what it gives out has no channels")
    joined = {node.tops[0]: node.bottoms for node in nodes if _joins_channels(node)}
    out = []
    for end in ends:
        parts = joined.get(end, (end,))
        start, sample = 0, []
        for part in parts:
            sample.append(start + spread(sizes[part][1], max(SAMPLE // len(parts), 2)))
            start += sizes[part][1]
        out.append(np.concatenate(sample))
    return out


def _joins_channels(node: Node) -> bool:
    return bool(node.param.type == "Concat" and node.param.concat_param.axis == 1)


def _selected(array: Values, channels: Index) -> Values:
    """Some channels of a patch; NetError where layers want other ones than their blob has."""
    last = max(channels, default=-1)
    if last >= array.shape[1]:
        raise NetError(f"channel {last} of a blob of {array.shape[1]} channels is read")
    return array[:, channels]


def _run(
    nodes: Sequence[Node],
    ends: Mapping[Version, Index],
    patch: Mapping[Version, Values],
    reading: Reading,
    signs: bool = True,
) -> List[Values]:
    """The channels ``ends`` of what the nodes give out."""
    sizes = _shapes(nodes, {version: values.shape for version, values in patch.items()})
    wanted: Wanted = dict(ends)
    plans = []
    for node in reversed(nodes):
        plan = _plan(node, sizes, wanted)
        plans.append(plan)
        for bottom, channels in zip(node.bottoms, plan.needed):
            wanted[bottom] = np.union1d(wanted.get(bottom, _NONE), channels)
    values = {one: _selected(array, wanted[one]) for one, array in patch.items() if one in wanted}
    for node, plan in zip(nodes, reversed(plans)):
        step = plan.step(reading) if signs else absolute(plan.step(reading))
        inputs = [
            values[bottom][:, np.searchsorted(wanted[bottom], channels)]
            for bottom, channels in zip(node.bottoms, plan.needed)
        ]
        tops = reference.forward(step.param, step.blobs, inputs)
        if plan.places is not None:
            tops = [top[:, places] for top, places in zip(tops, plan.places)]
        values.update(zip(node.tops, tops))
    return [values[end][:, np.searchsorted(wanted[end], sample)] for end, sample in ends.items()]


def _plan(node: Node, sizes: Mapping[Version, Shape], wanted: Wanted) -> Plan:
    kind = node.param.type
    sample = wanted.get(node.tops[0], _NONE)
    if kind == "Convolution" and node.param.convolution_param.axis == 1:
        return _convolution(node, sample)
    if kind == "InnerProduct" and node.param.inner_product_param.axis == 1:
        return _inner_product(node, sample, sizes[node.bottoms[0]])
    if kind in CHANNELWISE and _varies_along_channels(node):
        channels = sizes[node.tops[0]][1]
        step = partial(_channelwise, node, channels, sample)
        return Plan([sample] * len(node.bottoms), None, step)
    if _joins_channels(node):
        needed, start = [], 0
        for bottom in node.bottoms:
            stop = start + sizes[bottom][1]
            needed.append(sample[(sample >= start) & (sample < stop)] - start)
            start = stop
        return Plan(needed, None, partial(_whole, node))
    everything = [np.arange(sizes[bottom][1]) for bottom in node.bottoms]
    return Plan(everything, [wanted.get(top, _NONE) for top in node.tops], partial(_whole, node))


def _varies_along_channels(node: Node) -> bool:
    """Whether its blobs, if they vary, do so along the channels alone."""
    own = {"Scale": node.param.scale_param, "Bias": node.param.bias_param}.get(node.param.type)
    if own is None or not node.blobs:
        return True
    return own.axis == 1 and all(dim == 1 for dim in node.blobs[0].shape[1:])


def _whole(node: Node, reading: Reading) -> Step:
    return Step(node.param, [reading(blob) for blob in node.blobs])


def _channelwise(node: Node, channels: int, sample: Index, reading: Reading) -> Step:
    return Step(node.param, [thin_channels(reading(b), channels, sample) for b in node.blobs])


def _convolution(node: Node, sample: Index) -> Plan:
    """Of a grouped convolution, what makes a group of its own: the groups that are met, whole
    in their inputs, and of each the same outputs.
    """
    own = node.param.convolution_param
    each, depth = own.num_output // own.group, node.blobs[0].shape[1]
    groups, local = np.unique(sample // each), np.unique(sample % each)
    rows = (groups[:, np.newaxis] * each + local).ravel()
    needed = (groups[:, np.newaxis] * depth + np.arange(depth)).ravel()
    param = copied(node.param)
    param.convolution_param.num_output = len(rows)
    param.convolution_param.group = len(groups)

    def step(reading: Reading) -> Step:
        return Step(param, [reading(blob, rows) for blob in node.blobs])

    return Plan([needed], [np.searchsorted(rows, sample)], step)


def _inner_product(node: Node, sample: Index, bottom: Shape) -> Plan:
    param = copied(node.param)
    param.inner_product_param.num_output = len(sample)
    weights, *biases = node.blobs

    def step(reading: Reading) -> Step:
        if param.inner_product_param.transpose:
            matrix = columns(weights, np.arange(weights.shape[0]), sample, reading)
        else:
            matrix = reading(weights, sample)
        return Step(param, [matrix, *(reading(blob, sample) for blob in biases)])

    return Plan([np.arange(bottom[1])], None, step)

"""raise-stride: values that a later stride skips are not computed.

    x -> Convolution -> ReLU -> Convolution 1x1, stride s     x -> Convolution, stride s -> ReLU
                             -> Convolution 1x1, stride s          -> Convolution 1x1
                                                                   -> Convolution 1x1

Where all readers of a blob take every s-th place of it, s goes up to what makes the blob: through
layers that compute each place by itself, and through Eltwise and Concat, into a Convolution, whose
stride it multiplies. A bottom of an Eltwise or Concat that others read too gets a depthwise 1x1
convolution of ones and stride s in front, where that costs less than is saved.

The output sizes agree for every input: floor(floor(n / t) / s) = floor(n / (s t)), and so with C's
rounding towards 0. Of a Pooling they would not, as it rounds up unless round_mode says FLOOR.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import MAX_STRIDE, Axis, Kernel
from caffe_merge.arrays import Shape, count
from caffe_merge.formats.schema.messages import LayerParameter, copied
from caffe_merge.formats.weights.blobs import FLOAT, Dense
from caffe_merge.layers import windows
from caffe_merge.layers.axes import axis_of
from caffe_merge.layers.catalogue import POINTWISE, of_family
from caffe_merge.layers.fork_fields import unknown_fields
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import READERS, Reason
from caffe_merge.passes.rewriting.layer_kernels import axes_of, kernel_of, window_of
from caffe_merge.passes.rewriting.rewrite import (
    Changes,
    Finding,
    Findings,
    Insert,
    Pass,
    Refused,
    Rewrite,
    kept,
)
from caffe_merge.wording import named

Stride = Tuple[int, ...]


class RaiseStride(Pass):
    """Moves strides of 1x1 layers up into the convolutions before them."""

    name = "raise-stride"

    def find(self, graph: Graph) -> List[Finding]:
        findings = Findings()
        fixed = self.fixed(graph)
        for layer in graph.layers:
            for version in graph.tops[layer]:
                strided = _strided(graph, version)
                if not strided:
                    continue
                rewrite = _raised(graph, version, strided, fixed)
                if isinstance(rewrite, Reason):
                    findings += [Refused(reader, rewrite) for reader in strided]
                else:
                    findings.add(rewrite)
        return findings


def _strided(graph: Graph, version: Version) -> Dict[Layer, Stride]:
    """The readers of ``version`` that pick some of its places, and their strides."""
    picked = {reader: _picked(graph, reader) for reader, _ in version.readers}
    return {reader: stride for reader, stride in picked.items() if stride and set(stride) != {1}}


def _why_not_common(
    version: Version, strided: Dict[Layer, Stride], fixed: Set[Layer]
) -> Optional[Reason]:
    """Why what ``strided`` pick is not all that is read of ``version``; None if it is."""
    stride, *_ = strided.values()
    others = [reader for reader, _ in version.readers if strided.get(reader) != stride]
    if others:
        names = named([other.name for other in others])
        return Reason(f"other places of the blob are read as well, by {names}", READERS)
    if not fixed.isdisjoint(strided):
        return kept("one of those that read it is")
    for reader in strided:
        if reader.type == "Pooling" and windows.rounds_up(reader):
            return Reason(f"Pooling {reader.name!r} rounds its size up, a convolution rounds down")
    return None


def _picked(graph: Graph, layer: Layer) -> Optional[Stride]:
    """The stride of a layer of 1x1 windows; None of any other, or where it is not known."""
    axes = _axes(graph, layer)
    if axes is None or any((axis.start, axis.size) != (0, 1) for axis in axes):
        return None
    return tuple(axis.stride for axis in axes)


def _axes(graph: Graph, layer: Layer) -> Optional[Sequence[Axis]]:
    """The windows of a layer that gives out one place for each place that it picks."""
    if layer.type in CONVOLUTIONS:
        kernel = kernel_of(graph, layer)
        return kernel.axes if isinstance(kernel, Kernel) else None
    bottom = graph.bottoms[layer][0].shape if graph.bottoms[layer] else None
    if layer.type != "Pooling" or bottom is None or unknown_fields(layer) is not None:
        return None
    if layer.param.pooling_param.global_pooling or len(graph.tops[layer]) > 1:
        return None
    if not windows.is_in_bvlc_fields(layer, len(bottom) - 2):
        return None
    return axes_of(windows.pooling(layer, bottom[2:]))


class _Raise(NamedTuple):
    """A part of a rewrite, and the multiply-adds that it saves."""

    changes: Changes
    inserts: Tuple[Insert, ...]
    saved: int


def _raised(
    graph: Graph, version: Version, strided: Dict[Layer, Stride], fixed: Set[Layer]
) -> Union[Rewrite, Reason]:
    """The rewrite that has ``version`` computed only at the places that its readers pick."""
    reason = _why_not_common(version, strided, fixed)
    region = reason or _above(graph, version, next(iter(strided.values())), fixed)
    if isinstance(region, Reason):
        return region
    if region.saved <= 0:
        return Reason("it would save no multiply-adds")
    changes: Changes = {**region.changes, **{reader: _without(graph, reader) for reader in strided}}
    raised = [layer for layer in region.changes if layer.type in CONVOLUTIONS]
    return Rewrite(
        layers=graph.in_order(changes),
        changes=changes,
        note="",
        kept_note=f"its stride went up into {named([layer.name for layer in raised])}",
        inserts=region.inserts,
    )


def _without(graph: Graph, reader: Layer) -> New:
    """A reader that takes every place."""
    param = copied(reader.param)
    if reader.type == "Pooling":
        windows.clear_pooling_stride(param)
    else:
        axes = _axes(graph, reader)
        assert axes is not None
        point = window_of([axis._replace(stride=1) for axis in axes])
        windows.set_convolution(param, point)
    return param, reader.blobs


def _above(
    graph: Graph, version: Version, stride: Stride, fixed: Set[Layer]
) -> Union[_Raise, Reason]:
    """What has to change above ``version``, which is read at every ``stride``-th place alone."""
    layer = version.producer
    why = f"{layer.type} {layer.name!r}"
    if layer in fixed:
        return Reason(f"{why} stays as asked")
    if len(graph.tops[layer]) != 1 or version.shape is None or not graph.bottoms[layer]:
        return Reason(f"{why} makes what it reads, and hands no stride on")
    if layer.type in CONVOLUTIONS:
        return _convolution(graph, layer, stride)
    bottoms = graph.bottoms[layer]
    if len(bottoms) == 1 and _is_place_by_place(layer, bottoms[0]):
        above = _private(graph, layer, bottoms[0], stride, fixed)
        if isinstance(above, Reason):
            return above
        return above._replace(changes={**above.changes, layer: (layer.param, layer.blobs)})
    if _joins(layer, bottoms, version):
        return _join(graph, layer, stride, fixed)
    return Reason(f"{why} makes what it reads, and hands no stride on")


def _private(
    graph: Graph, layer: Layer, version: Version, stride: Stride, fixed: Set[Layer]
) -> Union[_Raise, Reason]:
    """The same for a blob that only ``layer`` may read."""
    if any(reader is not layer for reader, _ in version.readers):
        return Reason(f"{version.name!r} has other readers, which need all of it", READERS)
    return _above(graph, version, stride, fixed)


def _is_place_by_place(layer: Layer, bottom: Version) -> bool:
    """Whether each place of its top depends on that place of its bottom alone, and on which not."""
    affine = affine_of(layer, bottom.rank)
    if isinstance(affine, Affine):
        return affine.axis in (None, 1)
    return layer.type in (*of_family(POINTWISE), "Power") and unknown_fields(layer) is None


def _joins(layer: Layer, bottoms: Sequence[Version], top: Version) -> bool:
    """Whether it is an Eltwise of blobs of one shape, or a Concat of channels."""
    assert top.shape is not None
    if unknown_fields(layer) is not None or layer.misfit or None in [b.shape for b in bottoms]:
        return False
    if layer.type == "Eltwise":
        return all(bottom.shape == top.shape for bottom in bottoms)
    return layer.type == "Concat" and axis_of(layer.param, top.rank) == 1


def _convolution(graph: Graph, layer: Layer, stride: Stride) -> Union[_Raise, Reason]:
    """A Convolution that takes the stride in: its own times it."""
    kernel, (top,) = kernel_of(graph, layer), graph.tops[layer]
    if not isinstance(kernel, Kernel):
        return Reason(f"{layer.type} {layer.name!r} before it: {kernel}")
    axes = [axis._replace(stride=axis.stride * s) for axis, s in zip(kernel.axes, stride)]
    if max(axis.stride for axis in axes) > MAX_STRIDE:
        return Reason(f"{layer.type} {layer.name!r} would have a stride of more than {MAX_STRIDE}")
    param = copied(layer.param)
    windows.set_convolution(param, window_of(axes))
    assert top.shape is not None
    taps = count(tuple(axis.size for axis in axes)) * kernel.inputs // kernel.group
    saved = (count(top.shape) - count(_picked_shape(top.shape, stride))) * taps
    return _Raise({layer: (param, layer.blobs)}, (), saved)


def _join(graph: Graph, layer: Layer, stride: Stride, fixed: Set[Layer]) -> Union[_Raise, Reason]:
    """An Eltwise or Concat: each bottom from above, or picked by a convolution of ones."""
    changes: Changes = {layer: (layer.param, layer.blobs)}
    inserts: List[Insert] = []
    saved, raised, reasons = 0, 0, []
    bottoms = graph.bottoms[layer]
    for number, bottom in enumerate(bottoms):
        above = _private(graph, layer, bottom, stride, fixed)
        if isinstance(above, Reason):
            assert bottom.shape is not None
            reasons.append(above)
            inserts.append(Insert(_picking(bottom.shape[1], stride), layer, number))
            saved -= count(_picked_shape(bottom.shape, stride))
            continue
        raised += 1
        if bottom not in bottoms[:number]:
            changes.update(above.changes)
            inserts += above.inserts
            saved += above.saved
    return _Raise(changes, tuple(inserts), saved) if raised else reasons[0]


def _picking(channels: int, stride: Stride) -> Layer:
    """A depthwise convolution of ones that picks every ``stride``-th place."""
    param = LayerParameter(name="stride", type="Convolution", bottom=["bottom"], top=["top"])
    conv_param = param.convolution_param
    conv_param.num_output = conv_param.group = channels
    conv_param.bias_term = False
    conv_param.kernel_size.append(1)
    windows.set_convolution(param, window_of([Axis(0, 1, 1, step) for step in stride]))
    layer = Layer(param)
    layer.original = None
    layer.blobs = (Dense(np.ones((channels, 1, *[1] * len(stride))), FLOAT),)
    return layer


def _picked_shape(shape: Shape, stride: Stride) -> Shape:
    return (*shape[:2], *[-(-size // step) for size, step in zip(shape[2:], stride)])

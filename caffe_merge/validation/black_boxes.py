"""Layers that nobody here can run: black boxes, the same in both nets.

The tops of a black box get seeded values, the same in both nets, so that what is behind it is
judged; what it reads is judged like any other blob. The size of its tops is found from the layers
behind it: the channels from their weights, the other axes from what the black box reads. It is the
first size at which the weights of all layers behind fit.
"""

from __future__ import annotations

from itertools import islice
from typing import (
    AbstractSet,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from caffe_merge import reference
from caffe_merge.arrays import Shape, count
from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers import shapes, standard
from caffe_merge.layers.catalogue import CONVOLUTION, DEPTHWISE, of_family
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.net.data_layers import source_shapes
from caffe_merge.notes import Reason
from caffe_merge.validation.run import Form, Program

_GROUPED = frozenset(of_family(CONVOLUTION, DEPTHWISE))
_SIDES = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 3, 5, 6, 10, 12)
_MOST_TRIED = 200

Shapes = Dict[str, Optional[Shape]]


def unknown(program: Program) -> Set[int]:
    """The layers, by index, that read something and cannot be run here."""
    return {
        index
        for index, (layer, form) in enumerate(zip(program.layers, program.forms))
        if layer.param.bottom and _runnable(form) is None and layer.param.type != "Silence"
    }


def sizes(
    program: Program, boxes: AbstractSet[int], known_shapes: Mapping[str, Shape]
) -> Dict[str, Shape]:
    """Shapes of the tops of black boxes, by name: those that are known or can be found.

    ``known_shapes`` are those of the nets' inputs, and of tops that the user gives.
    """
    top_shapes: Dict[str, Shape] = {}
    held: Shapes = {}
    for index, layer in enumerate(program.layers):
        rule = _tops(layer, held, known_shapes)
        if index not in boxes:
            held.update(rule)
            continue
        for top in layer.param.top:
            shape = known_shapes.get(top) or rule.get(top) or _size(program, index, top, held)
            held[top] = shape
            if shape is not None:
                top_shapes[top] = shape
    return top_shapes


def _runnable(form: Form) -> Optional[standard.Standard]:
    """The form of a layer that the reference engine can run; None if it cannot."""
    if isinstance(form, Reason) or form[0].type not in reference.SUPPORTED:
        return None
    return form


def _behind(program: Program, index: int) -> Iterator[Tuple[Any, Form]]:
    """The layers behind that at ``index``, each with its form."""
    return islice(zip(program.layers, program.forms), index + 1, None)


def _tops(layer: Any, held: Shapes, known_shapes: Mapping[str, Shape]) -> Shapes:
    sources = source_shapes(layer.param, known_shapes)
    if sources:
        return sources
    names: List[str] = list(layer.param.top)
    bottoms = [held.get(name) for name in layer.param.bottom]
    unknown_shapes: List[Optional[Shape]] = [None] * len(names)
    try:
        tops = shapes.tops(spec_of(layer), bottoms)
    except CaffeMergeError:
        tops = None
    return dict(zip(names, unknown_shapes if tops is None else tops))


def _size(program: Program, index: int, top: str, held: Shapes) -> Optional[Shape]:
    """The first size of ``top`` at which the weights of all layers behind it fit."""
    reads = program.layers[index].param.bottom
    bottoms: List[Optional[Shape]] = [held.get(name) for name in reads]
    for shape in islice(_candidates(program, index, top, bottoms), _MOST_TRIED):
        if _fits(_behind(program, index), {**held, top: shape}):
            return shape
    return None


def _candidates(
    program: Program, index: int, top: str, bottoms: Sequence[Optional[Shape]]
) -> Iterator[Shape]:
    whole = [shape for shape in bottoms if shape]
    batch = whole[0][0] if whole else 1
    sides: List[Shape] = [shape[2:] for shape in whole if len(shape) > 2]
    sides += [tuple(-(-n // 2) for n in side) for side in sides]
    sides += [tuple(2 * n for n in side) for side in sides[:1]]
    sides += [(n, n) for n in _SIDES]  # if nothing else fits: a square
    for layer, channels in _asked(_behind(program, index), top):
        if layer.type == "InnerProduct":
            yield (batch, channels)
            for side in sides:
                if channels % count(side) == 0:
                    yield (batch, channels // count(side), *side)
            continue
        for side in sides:
            yield (batch, channels, *side)
        yield (batch, channels)


def _asked(layers: Iterable[Tuple[Any, Form]], top: str) -> Iterator[Tuple[Any, int]]:
    """Layers with weights behind ``top``, and how many channels (or values) each must read."""
    behind = {top}
    for layer, form in layers:
        if behind.isdisjoint(layer.param.bottom):
            behind.difference_update(layer.param.top)
            continue
        spec, blobs = _runnable(form) or (LayerSpec(layer.param), ())
        param = spec.param
        if blobs and len(layer.param.bottom) == 1:
            shape = blobs[0].shape
            if param.type in _GROUPED:
                yield layer, shape[1] * max(int(param.convolution_param.group), 1)
            elif param.type == "InnerProduct":
                yield layer, shape[0 if param.inner_product_param.transpose else -1]
            elif shape:
                yield layer, shape[0]
            return
        behind.update(layer.param.top)


def _fits(layers: Iterable[Tuple[Any, Form]], held: Shapes) -> bool:
    """Whether the weights of ``layers`` fit if blobs have the shapes ``held``."""
    held = dict(held)
    for layer, form in layers:
        names: List[str] = list(layer.param.top)
        runnable = _runnable(form)
        if runnable is None or not layer.param.bottom:
            held.update(
                {name: held.get(name) if not layer.param.bottom else None for name in names}
            )
            continue
        spec, blobs = runnable
        bottoms = [held.get(name) for name in layer.param.bottom]
        tops: Any = None
        if None not in bottoms:
            try:
                expected = shapes.blobs(spec, bottoms)
                tops = shapes.tops(spec, bottoms)
            except CaffeMergeError:
                return False
            if not _agree(expected, [blob.shape for blob in blobs]):
                return False
        held.update(zip(names, tops or [None] * len(names)))
    return True


def _agree(expected: Optional[Sequence[Any]], stored: Sequence[Shape]) -> bool:
    if expected is None:
        return True
    return len(expected) == len(stored) and all(
        rule is None or (None not in rule and count(rule) == count(shape))
        for rule, shape in zip(expected, stored)
    )

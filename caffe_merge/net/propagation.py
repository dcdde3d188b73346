"""Shape inference: the shapes of bottoms and tops, and of the blobs that fit them."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from caffe_merge.arrays import BlobShape, Shape, count, fully_known
from caffe_merge.errors import About, ShapeError
from caffe_merge.layers import norms, shapes
from caffe_merge.layers.fork_fields import has_unknown, spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.net import fitting


def propagate(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[Tuple[Layer, List[Optional[Shape]], Sequence[Optional[Shape]]]]:
    """Each layer with the shapes of its bottoms and tops.

    ``input_shapes`` gives those of blobs that the text does not, by blob name: of inputs, and of
    what layers make that nobody here knows.
    """
    shape_of: Dict[str, Optional[Shape]] = {}
    inputs: Dict[str, Optional[Shape]] = {}
    for layer in layers:
        bottoms = [shape_of.get(name) for name in layer.param.bottom]
        with About(layer), fitting.Explained(inputs):
            tops = shapes_behind(layer, bottoms)
        tops = _with_given(layer, tops, input_shapes)
        if not layer.param.bottom:
            inputs.update(zip(layer.param.top, tops))
        yield layer, bottoms, tops
        for number, name in enumerate(layer.param.top):
            shape_of[name] = tops[number] if number < len(tops) else None


def _with_given(
    layer: Layer, tops: Sequence[Optional[Shape]], input_shapes: Mapping[str, Shape]
) -> Sequence[Optional[Shape]]:
    """``tops``, and in their place where they are an input's, or are not known, what is given."""
    names = layer.param.top
    if not any(name in input_shapes for name in names):
        return tops
    inferred = [
        tops[n] if layer.param.bottom and n < len(tops) else None for n in range(len(names))
    ]
    return [shape or input_shapes.get(name) for name, shape in zip(names, inferred)]


def top_shapes(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> Iterator[List[Optional[Shape]]]:
    """The shapes of each layer's tops in turn, None where they are not known."""
    for layer, _, tops in propagate(layers, input_shapes):
        yield [tops[n] if n < len(tops) else None for n in range(len(layer.param.top))]


def shapes_behind(layer: Layer, bottoms: Sequence[Optional[Shape]]) -> Sequence[Optional[Shape]]:
    """The shapes of the tops of ``layer``, as many as are known.

    A layer with fields of a fork, or with bottoms that BVLC's does not take, may compute its shape
    in the fork's way: what it produces is not known. The latter is written down in ``misfit``.
    """
    layer.misfit = None
    if has_unknown(layer):
        shapes.check_counts(LayerSpec(layer.param))
        return ()
    try:
        return shapes.tops(spec_of(layer), bottoms) or ()
    except ShapeError as error:
        if not layer.param.bottom:
            raise  # an input is as it is in every Caffe
        layer.misfit = error.detail
        return ()


def expected_shapes(layer: Layer, bottoms: List[Optional[Shape]]) -> Optional[List[BlobShape]]:
    """The shapes that the blobs must have; None if that depends on a fork."""
    if has_unknown(layer) or norms.foreign_field(layer):
        return None
    usable = [None] * len(bottoms) if layer.misfit else bottoms
    with About(layer):
        return shapes.blobs(spec_of(layer), usable)


def why_unfit(layer: Layer, bottoms: List[Optional[Shape]]) -> Optional[str]:
    """How the blobs of ``layer`` do not suit bottoms of these shapes; None where they may."""
    for blob, expected in zip(layer.blobs, expected_shapes(layer, bottoms) or ()):
        if expected is None or norms.foreign_field(layer) or layer.type in norms.TYPES:
            continue
        pairs = zip(expected, blob.shape)
        if len(expected) != len(blob.shape) or any(
            want not in (None, have) for want, have in pairs
        ):
            return f"expected weights of shape {tuple(expected)}, found {blob.shape}"
    return None


def parameter_counts(
    layers: Sequence[Layer], input_shapes: Mapping[str, Shape]
) -> List[Optional[int]]:
    """The number of values in each layer's blobs, loaded or not; None where it is not known."""
    counts: List[Optional[int]] = []
    for layer, bottoms, _ in propagate(layers, input_shapes):
        expected = expected_shapes(layer, bottoms)
        dims = [fully_known(shape) for shape in expected or ()]
        if layer.blobs or not layer.missing:
            counts.append(layer.parameters)
        elif expected is None or None in dims:
            counts.append(None)
        else:
            counts.append(sum(count(shape) for shape in dims if shape is not None))
    return counts

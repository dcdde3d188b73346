"""Blobs that several layers share by ``param { name }``, as in Caffe."""

from __future__ import annotations

from operator import itemgetter
from typing import Collection, Dict, List, Optional, Sequence, Tuple

from caffe_merge.arrays import BlobShape, Shape, count, fully_known
from caffe_merge.errors import NetError, WeightsError
from caffe_merge.formats.weights.blobs import Blob, Stored
from caffe_merge.formats.weights.index import LayerRecord
from caffe_merge.layers.layer import Layer

PERMISSIVE = 1  # ParamSpec.DimCheckMode
Held = Dict[Layer, List[Tuple[Optional[Blob], BlobShape]]]  # (blob or None if random, shape)


def shared_blobs(layers: Sequence[Layer]) -> Dict[str, List[Tuple[Layer, int]]]:
    """The blobs under each non-empty ``param { name }``, in net order."""
    groups: Dict[str, List[Tuple[Layer, int]]] = {}
    for layer in layers:
        for number, spec in enumerate(layer.param.param):
            if spec.name:
                groups.setdefault(spec.name, []).append((layer, number))
    return groups


def share(held: Held, stated: Collection[Layer]) -> Dict[Layer, int]:
    """Give layers that share a blob the same values: the last in the file, else the first filler.

    ``held`` has the blobs of each layer and their shapes; those that are shared are replaced.
    ``stated`` have theirs in the text. Returns how many blobs of a layer the files give.
    Raises NetError where Caffe would not share (net.cpp, AppendParam): STRICT wants
    equal shapes, PERMISSIVE equal counts.
    """
    from_file: Dict[Layer, int] = {}
    for name, group in shared_blobs(list(held)).items():
        slots = [(layer, n) for layer, n in group if n < len(held[layer])]
        if len(slots) < 2:
            continue
        stored = [(layer.record.at, n, held[layer][n][0]) for layer, n in slots if layer.record]
        first, number = slots[0]
        source = max(stored, key=itemgetter(0, 1))[2] if stored else held[first][number][0]
        owner_shape: Optional[Shape] = None
        for layer, n in slots:
            expected = held[layer][n][1]
            if source is None:  # random
                held[layer][n] = None, expected
                continue
            from_file[layer] = from_file.get(layer, 0) + (bool(stored) or first in stated)
            dims = fully_known(expected)
            shape = source.shape if dims is None else dims
            owner_shape = shape if owner_shape is None else owner_shape
            permissive = layer.param.param[n].share_mode == PERMISSIVE
            if shape != owner_shape and not (permissive and count(shape) == count(owner_shape)):
                raise NetError(
                    f"layer {layer.name!r}: blob {n} has shape {shape} and shares {name!r} with "
                    f"layer {first.name!r}, where it has shape {owner_shape}",
                    layer=layer,
                    field="param",
                    number=n,
                )
            held[layer][n] = source if source.shape == shape else source.reshaped(shape), shape
    return from_file


def completed(
    layer: Layer,
    record: LayerRecord,
    expected: Optional[Sequence[BlobShape]],
    shared: Dict[str, Stored],
    path: Optional[str],
) -> Optional[LayerRecord]:
    """The record with the blobs that HDF5 leaves out because an earlier layer owns them.

    None if that owner is not in the file either: both run on their fillers. ``shared`` has the
    blobs so far by ``param { name }``.
    """
    names = [spec.name for spec in layer.param.param]
    blobs = record.blobs
    if record.numbers is not None:
        stored = dict(zip(record.numbers, blobs))
        number = max([len(expected or ()), *(index + 1 for index in stored)])
        present = {**_of_owners(names[:number], expected or (), shared), **stored}
        if not present:
            is_shared = number > 0 and len(names) >= number and all(names[:number])
            return None if is_shared else record._replace(blobs=())
        for index in range(number):
            if index not in present:
                message = "it is not in the file, and no layer before shares it"
                raise WeightsError(message, path=path, layer=layer.name, blob=index)
        blobs = tuple(present[index] for index in range(number))
    for name, blob in zip(names, blobs):
        if name:
            shared.setdefault(name, blob)
    return record._replace(blobs=blobs)


def _of_owners(
    names: Sequence[str], expected: Sequence[BlobShape], shared: Dict[str, Stored]
) -> Dict[int, Stored]:
    """The blobs of earlier layers that have these ``names``, by number, in the expected shapes."""
    blobs: Dict[int, Stored] = {}
    for index, name in enumerate(names):
        if name not in shared:
            continue
        blob = shared[name]
        shape = fully_known(expected[index]) if index < len(expected) else None
        fits = shape is not None and count(shape) == count(blob.shape)
        blobs[index] = blob.reshaped(shape) if shape is not None and fits else blob
    return blobs

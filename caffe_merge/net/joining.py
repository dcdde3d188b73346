"""Joins text and weights by layer name, as Net::CopyTrainedLayersFrom does (net.cpp).

Where Caffe would abort, a WeightsError names layer and blob; where it would run on silently
(weights that no layer takes, layers that the file has no weights for), a Note says so.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Optional, Sequence

from caffe_merge.arrays import BlobShape, Shape, fully_known
from caffe_merge.errors import About, NetError
from caffe_merge.formats.weights.blobs import Blob, Filled, Stored, same_values
from caffe_merge.formats.weights.formats import format_of
from caffe_merge.formats.weights.index import Index
from caffe_merge.layers import norms
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.fillers import Room, fill, fillers
from caffe_merge.layers.fork_fields import fills, misfit_notes
from caffe_merge.layers.layer import Layer
from caffe_merge.net import fitting, text_blobs, weight_notes
from caffe_merge.net.propagation import expected_shapes, propagate
from caffe_merge.net.shared import Held, completed, share
from caffe_merge.notes import Note


def weights(
    layers: Sequence[Layer],
    all_layers: Sequence[Layer],
    index: Optional[Index],
    notes: List[Note],
    input_shapes: Mapping[str, Shape],
) -> None:
    """Give every layer its blobs: from the file, else from fillers where they are deterministic.

    ``all_layers`` include those that the NetState leaves out: their weights are no surplus.
    """
    by_name = index.by_name() if index else {}
    path = index.path if index else None
    taken = layer_of_name(layers, index is not None and format_of(index).last_of_name)
    stated = text_blobs.take(layers)
    shared: Dict[str, Stored] = {}
    held: Held = {}
    room = Room(strict=index is not None)
    inputs: Dict[str, Optional[Shape]] = {}
    unfit: List[fitting.Unfit] = []
    for layer, bottoms, tops in propagate(layers, input_shapes):
        if not bottoms:
            inputs.update(zip(layer.param.top, tops))
        record = by_name.get(layer.name) if taken[layer.name] is layer else None
        expected = expected_shapes(layer, bottoms)
        if record is not None:
            record = completed(layer, record, expected, shared, path)
        from_text = record is None and expected != []
        stored = stated.get(layer) if from_text else record
        if stored is None:
            held[layer] = list(zip(_filled(layer, expected or (), room), expected or ()))
            continue
        blobs = fitting.fit(layer, stored, expected)
        if isinstance(blobs, fitting.Unfit):
            unfit.append(blobs._replace(path=None if from_text else path))
            continue
        held[layer] = [(blob, blob.shape) for blob in blobs]
        if not from_text:
            layer.record = record
            layer.load_blobs(blobs)
    notes += fitting.check(unfit, len(by_name), inputs)
    for layer in held:
        _check_specs(layer, len(held[layer]))
    _assign_all(held, stated)
    absorbed = norms.neutralise_absorbed(layers)
    notes += _notes(held, stated, absorbed, index is not None) + misfit_notes(layers)
    if index is not None:
        weight_notes.check_pair(index, layers, all_layers)
        weight_notes.surplus(index, set(taken), all_layers, notes)
        weight_notes.storage(index, notes)


def layer_of_name(layers: Sequence[Layer], last: bool) -> Dict[str, Layer]:
    """The layer that gets the weights of each name: the first, or the last of them (net.cpp)."""
    return {layer.name: layer for layer in (layers if last else reversed(layers))}


def _check_specs(layer: Layer, blobs: int) -> None:
    """Raise NetError where the text has more ``param`` than the layer has blobs (net.cpp)."""
    if layer.type not in CATALOGUE:
        return  # of such a type a file may hold fewer blobs than it has
    is_sure = layer.record is not None or (blobs and layer.type not in norms.TYPES)
    if is_sure and len(layer.param.param) > blobs:
        number = len(layer.param.param)
        raise NetError(
            f"layer {layer.name!r} ({layer.type}): expected at most {blobs} param, one for each "
            f"of its blobs, found {number}",
            layer=layer,
            field="param",
            number=blobs,
        )


def _notes(
    held: Held, stated: Collection[Layer], absorbed: List[Note], has_file: bool
) -> List[Note]:
    """What layers without weights in the file run on; ``absorbed`` are notes on some of them."""
    explained = {note.layer for note in absorbed}
    others = [layer for layer in held if layer.name not in explained or layer in stated]
    return weight_notes.absent(others, stated, has_file) + absorbed


def _assign_all(held: Held, stated: Collection[Layer]) -> None:
    """Set the blobs of all layers, those of the text (``stated``) and shared ones too."""
    shared = share(held, stated)
    for layer, pairs in held.items():
        values = [blob for blob, _ in pairs]
        if layer in stated and layer.record is None:
            text_blobs.give(layer, values)
        else:
            _assign(layer, values, shared.get(layer, 0))


def _assign(layer: Layer, blobs: Sequence[Optional[Blob]], from_others: int) -> None:
    """Set the blobs of ``layer``; without a record, ``from_others`` of them come from other layers.

    Shared blobs that its own record does not have are written with it, so that the file stays right
    whichever of the layers that share them are removed.
    """
    values = tuple(blob for blob in blobs if blob is not None)
    if layer.record is not None:
        layer.blobs = values
        if all(map(same_values, values, layer.loaded)):
            layer.loaded = values
        return
    if not blobs:
        return
    if len(values) < len(blobs):
        layer.missing = True
    elif from_others:
        layer.blobs = values
    else:
        layer.load_blobs(values)
    layer.filled = from_others < len(blobs) == len(values)


def _filled(layer: Layer, expected: Sequence[BlobShape], room: Room) -> List[Optional[Blob]]:
    """The values of Caffe's deterministic fillers; None for blobs of other fillers.

    All are None where one of them is, and no other layer can give it.
    """
    nothing: List[Optional[Blob]] = [None] * len(expected)
    if fills(layer) or (layer.extra and layer.type in norms.TYPES):
        return nothing
    names = [spec.name for spec in layer.param.param]
    blobs: List[Optional[Blob]] = []
    for number, (filler, shape) in enumerate(zip([*fillers(layer.param), *nothing], expected)):
        dims = fully_known(shape)
        values = None
        if filler is not None and dims is not None:
            with About(layer):
                values = fill(filler, dims, room, layer.name)
        blobs.append(None if values is None else Filled(values))
        if blobs[-1] is None and not any(names[number : number + 1]):
            return nothing
    return blobs

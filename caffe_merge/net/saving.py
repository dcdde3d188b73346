"""Writes a Net back: the changes replayed on its text, its weights streamed."""

from __future__ import annotations

from itertools import count
from typing import BinaryIO, Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

from caffe_merge.files.outputs import check_folders, check_free, check_outputs
from caffe_merge.files.replacement import Replacement
from caffe_merge.formats.schema.messages import LayerParameter, Message, NetParameter, copied
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document, Field, encode
from caffe_merge.formats.text.view import View
from caffe_merge.formats.weights.formats import format_for
from caffe_merge.formats.weights.index import Entry, LayerRecord
from caffe_merge.layers.layer import Layer
from caffe_merge.net import joining
from caffe_merge.net.loading import Net, Place
from caffe_merge.notes import Note

Progress = Callable[[int, int, str], None]  # layers written, of how many, the last one's name

_INPUTS = ("input", "input_dim", "input_shape")
_SCHEMA_FIELDS = frozenset(LayerParameter.DESCRIPTOR.fields_by_name)


def text(net: Net) -> bytes:
    """The prototxt of ``net``: its own text, with only what changed changed."""
    document, places = _in_order(net)
    edits = Edits(document)
    kept = set(net.all_layers)
    for layer in net.loaded:
        place = places.get(layer)
        if place is None:
            continue
        if layer not in kept:
            edits.remove(place.field, place.element)
        elif layer.original is not None and layer.is_rewritten:
            edits.update(place.block, layer.original, layer.param)
            for name, words in layer.extra.items():
                if words != layer.written[name]:
                    edits.respell(place.block, name, words.split())
            for field in place.block.fields or ():
                if field.name not in _SCHEMA_FIELDS and field.name not in layer.extra:
                    edits.delete(field)  # a fork's, of the type that the layer was
    anchor: Optional[Field] = None
    element = -1
    for layer in net.all_layers:
        place = places.get(layer)
        if place is not None:
            anchor, element = place
        elif layer.implicit:
            anchor, element = _last_input(document), -1
        elif layer.original is None:
            edits.insert_after(anchor, "layer", layer.param, element)
    written = edits.text()
    _check(net, written)
    return encode(written)


def _in_order(net: Net) -> Tuple[Document, Dict[Layer, Place]]:
    """The text of ``net`` with its layers in the net's order, and where they stand in it."""
    kept = set(net.all_layers)
    order = [layer for layer in net.loaded if layer in net.places]
    numbers = {layer: number for number, layer in enumerate(order)}
    moves: List[Tuple[int, int]] = []
    at = 0
    for layer in net.all_layers:
        if layer not in numbers:
            continue
        while order[at] not in kept:
            at += 1
        if order[at] is not layer:
            moves.append((numbers[layer], numbers[order[at]]))
            order.remove(layer)
            order.insert(at, layer)
        at += 1
    if not moves:
        return net.document, net.places
    from caffe_merge.formats.text.moves import moved

    document = moved(net.document, moves)
    fields = [field for field in document.fields if field.name == "layer"]
    return document, {layer: Place(field, 0) for layer, field in zip(order, fields)}


def _last_input(document: Document) -> Optional[Field]:
    """The last of the net-level ``input`` fields before the first layer; None if all are behind."""
    last: Optional[Field] = None
    for field in document.fields:
        if field.name == "layer":
            break
        if field.name in _INPUTS:
            last = field
    return last


def _check(net: Net, written: str) -> None:
    """Read the written text back and compare it with the net."""
    document = Document(encode(written), net.document.path)
    message = NetParameter()
    View(document).read(document.fields, message)
    meant = [layer.param for layer in net.all_layers if not layer.implicit]
    if list(map(_bytes, message.layer)) != list(map(_bytes, meant)):
        raise AssertionError(f"{net.document.path}: the text written differs from the net")


def _bytes(message: Message) -> bytes:
    """The message's wire form: unlike the message it equals itself where a value is NaN."""
    return message.SerializePartialToString(deterministic=True)


def weights(net: Net, handle: BinaryIO, path: str, progress: Optional[Progress] = None) -> None:
    """Stream the weights of ``net`` to ``handle``, in the format that the name ``path`` says."""
    layers = entries(net)
    counted = _counted(layers, progress) if progress else layers
    format_for(path, net.index).write(handle, path, net.index, counted, net.name)
    if net.index is not None:
        net.index.check_unchanged()


def _counted(layers: List[Entry], progress: Progress) -> Iterator[Entry]:
    for number, entry in enumerate(layers):
        yield entry
        progress(number + 1, len(layers), entry.name)


def name_apart(net: Net, path: str) -> None:
    """Rename layers whose weights Caffe would give to another layer of their name.

    ``path`` is that of the weights file to be written, whose format decides who that is. Names of
    layers are for the weights alone; a layer that has none in the file keeps its own.
    """
    with_weights = joining.layer_of_name(net.layers, format_for(path, net.index).last_of_name)
    taken = {layer.name for layer in net.all_layers}
    taken.update(record.name for record in (net.index.layers if net.index else ()))
    for layer in net.layers:
        is_written = layer.record is not None or layer.blobs is not layer.loaded
        if with_weights[layer.name] is layer or not (is_written and layer.blobs):
            continue
        old = layer.name
        new = next(f"{old}_{n}" for n in count(2) if f"{old}_{n}" not in taken)
        taken.add(new)
        param = LayerParameter()
        param.CopyFrom(layer.param)
        param.name = new
        layer.param = param
        text = f"of two layers of this name that have weights Caffe reads one; written as {new!r}"
        net.notes.append(Note("renamed", old, text))


def entries(net: Net) -> List[Entry]:
    """What the caffemodel holds: a record for each layer that has one or has got blobs."""
    has_bytes = net.index is None or net.index.has_bytes
    owners: Dict[str, Layer] = {}  # of blobs under each param { name }
    by_name: Dict[str, LayerRecord] = net.index.by_name() if net.index else {}
    active = {layer.name for layer in net.layers}
    taken = set()
    out = []
    for layer in net.all_layers:
        record = layer.record
        if not layer.active and layer.name not in active:
            record = by_name.get(layer.name)  # of another phase: kept for it
        if record is not None and record.name in taken:
            continue
        changed = layer.blobs is not layer.loaded
        if record is None and not (changed and layer.blobs):
            continue
        taken.add(layer.name)
        shared = _shared(layer, owners)
        if not has_bytes or (record is not None and record.old):  # no bytes of it can be copied
            blobs = layer.blobs or (record.blobs if record is not None and not changed else ())
            entry = Entry(layer.name, record, blobs, None, layer.param, shared)
        elif changed or _differs(net, layer, record):
            old, new = layer.original, layer.param
            if net.stored_types and record is not None:
                old = _with_type(old or new, record.type)
            entry = Entry(layer.name, record, layer.blobs, old, new, shared)
        else:
            entry = Entry(layer.name, record, layer.loaded, shared=shared)
        out.append(entry)
    # A file without layers is no caffemodel; Caffe writes one for every layer, blobs or not.
    return out or [Entry(layer.name, None, (), None, layer.param) for layer in net.layers]


def _differs(net: Net, layer: Layer, record: Optional[LayerRecord]) -> bool:
    """Whether the record of ``layer`` says something else than the layer is now."""
    if net.stored_types and record is not None and record.type != layer.type:
        return True
    return layer.original is not None and bool(layer.param != layer.original)


def _with_type(param: Message, kind: str) -> Message:
    """A copy of the LayerParameter ``param`` with the type ``kind``, as its record has it."""
    other: Message = copied(param)
    other.type = kind  # type: ignore[attr-defined]
    return other


def _shared(layer: Layer, owners: Dict[str, Layer]) -> FrozenSet[int]:
    """The blobs of ``layer`` that are those of an earlier one; its own go into ``owners``."""
    numbers = set()
    if layer.active:
        for number, spec in enumerate(layer.param.param[: len(layer.blobs)]):
            if spec.name and owners.setdefault(spec.name, layer) is not layer:
                numbers.add(number)
    return frozenset(numbers)


def save(
    net: Net, prototxt: str, caffemodel: str, *, force: bool = False, source: Tuple[str, ...] = ()
) -> None:
    """Write a net as a pair: both files appear complete under their names, or neither does.

    Raises UsageError where an output exists (without ``force``) or is an input, FileError where a
    file cannot be written.
    """
    read = [net.document.path, *([net.index.path] if net.index else [])]
    inputs = (*read, *([net.dialect.path] if net.dialect else []), *source)
    check_outputs(inputs, (prototxt, caffemodel))
    check_folders((prototxt, caffemodel))
    check_free((prototxt, caffemodel), force)
    with Replacement(caffemodel, prototxt) as pair:
        write(net, pair)
        pair.commit()


def write(net: Net, pair: Replacement, progress: Optional[Progress] = None) -> None:
    """Write caffemodel and prototxt into an open ``Replacement`` of the two, in this order."""
    name_apart(net, pair.targets[0])
    weights(net, pair.handles[0], pair.targets[0], progress)
    pair.handles[1].write(text(net))  # while the system stores the weights
    pair.flush()

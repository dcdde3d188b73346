"""Forms of the text that a target needs, made before anything else reads the text.

Each goes from document to document, so that all that follows, validation included, sees an ordinary
net in that form.
"""

from __future__ import annotations

from itertools import count
from typing import Callable, Dict, Iterator, List, Set

from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.splices import Splices
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.values import format_string, parse_string
from caffe_merge.formats.text.view import View
from caffe_merge.notes import Note

_INPUTS = ("input", "input_dim", "input_shape")
_BLOBS = ("bottom", "top")
_OF_INPUTS = {"name", "type", "top", "input_param"}


def input_layers(document: Document, notes: List[Note]) -> Document:
    """Input layers, one for each, in the place of the net's own ``input`` fields.

        input: "data" input_dim: 1 ...        layer { name: "data" type: "Input" top: "data" ... }

    Inputs without shapes stay: a layer could not say theirs.
    """
    fields = [field for field in document.fields if field.name in _INPUTS]
    message = NetParameter()
    View(document).read(fields, message)
    shapes = [list(shape.dim) for shape in message.input_shape]
    dims = list(message.input_dim)
    shapes = shapes or [dims[at : at + 4] for at in range(0, len(dims), 4)]
    if not message.input or len(shapes) < len(message.input):
        return document
    taken = {name for layer in _layers(document) for name in _strings(document, layer, ("name",))}
    layers = []
    for name, shape in zip(message.input, shapes):
        layers.append(LayerParameter(name=_free(name, taken), type="Input", top=[name]))
        layers[-1].input_param.shape.add(dim=shape)
    edits = Edits(document)
    edits.replace(fields[0], "layer", layers)
    for field in fields[1:]:
        for element in range(len(field.values)):
            edits.remove(field, element)
    names = ", ".join(map(repr, message.input))
    notes.append(Note("target-form", "", f"the net's own inputs are Input layers now: {names}"))
    return edits.rewritten()


def input_fields(document: Document, notes: List[Note]) -> Document:
    """The net's own ``input`` fields in the place of its Input layers.

        layer { name: "data" type: "Input" top: "data" ... }        input: "data" input_shape { ...

    Layers that say more than a name, tops and their shapes stay.
    """
    fields = [field for field in document.fields if field.name in ("layer", *_INPUTS)]
    inputs = NetParameter()
    removed: List[Field] = []
    for field in fields:
        if field.name in _INPUTS:  # both in one net: which blob comes first would be another
            return document
        if len(field.values) == 1 and _add_input(document, field, inputs):
            removed.append(field)
    if not removed:
        return document
    edits = Edits(document)
    edits.replace_by_fields(removed[0], inputs)
    for field in removed[1:]:
        edits.remove(field)
    names = ", ".join(map(repr, inputs.input))
    notes.append(Note("target-form", "", f"Input layers are the net's own inputs now: {names}"))
    return edits.rewritten()


def _add_input(document: Document, field: Field, inputs: NetParameter) -> bool:
    """Add the tops of an Input layer to ``inputs``; whether it is one that the fields can say."""
    net = NetParameter()
    View(document).read([field], net)
    layer = net.layer[0]
    plain = {inner.name for inner in field.values[0].fields or ()} <= _OF_INPUTS
    shapes = list(layer.input_param.shape)
    if layer.type != "Input" or not plain or len(shapes) not in (1, len(layer.top)):
        return False
    for number, top in enumerate(layer.top):
        inputs.input.append(top)
        inputs.input_shape.add(dim=shapes[number if len(shapes) > 1 else 0].dim)
    return True


def blobs_without_blanks(document: Document, notes: List[Note]) -> Document:
    """Blobs whose names have blanks get names with underscores, other than those that are there."""
    places = list(_blob_names(document))
    names = {parse_string(document.source(value)) for value in places}
    new: Dict[str, str] = {}
    for name in sorted(names):
        if without_blanks(name) != name:
            new[name] = _free(without_blanks(name), names)
    if not new:
        return document
    splices = Splices(document)
    for value in places:
        name = parse_string(document.source(value))
        if name in new:
            quote = document.text[value.start]
            splices.splice(value.start, value.end, format_string(new[name], quote))
    for old, name in new.items():
        text = f"blob {old!r} is called {name!r} now: the target takes no blanks in names"
        notes.append(Note("target-form", "", text))
    return splices.rewritten()


def without_blanks(name: str) -> str:
    """``name`` with an underscore for each blank."""
    return "".join("_" if char.isspace() else char for char in name)


def _free(name: str, taken: Set[str]) -> str:
    """``name``, or a like name that is not ``taken``; it is taken afterwards."""
    others = (f"{name}_{number}" for number in count(2))
    new = name if name not in taken else next(other for other in others if other not in taken)
    taken.add(new)
    return new


def _layers(document: Document) -> Iterator[Value]:
    return (v for field in document.fields if field.name == "layer" for v in field.values)


def _blob_names(document: Document) -> Iterator[Value]:
    for field in document.fields:
        if field.name == "input":
            yield from field.values
    for layer in _layers(document):
        yield from _values(layer, _BLOBS)


def _values(layer: Value, names: tuple[str, ...]) -> Iterator[Value]:
    for field in layer.fields or []:
        if field.name in names:
            yield from (value for value in field.values if value.fields is None)


def _strings(document: Document, layer: Value, names: tuple[str, ...]) -> Iterator[str]:
    return (parse_string(document.source(value)) for value in _values(layer, names))


TEXT_FORMS: Dict[str, Callable[[Document, List[Note]], Document]] = {
    "names-without-blanks": blobs_without_blanks,
    "input-layer": input_layers,
    "input-fields": input_fields,
}

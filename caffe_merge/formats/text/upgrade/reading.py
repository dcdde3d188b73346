"""The layers of an old text: where each is, and its parameters."""

from typing import Any, List, NamedTuple

from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.view import View


class OldLayer(NamedTuple):
    """One ``layers`` block (value ``element`` of ``field``) and its V1LayerParameter."""

    field: Field
    element: int
    block: Value
    param: Any


def read(document: Document) -> Any:
    """The NetParameter of an old text. Raises TextError where a value does not fit its field."""
    message = NetParameter()
    View(document).read(document.fields, message)
    return message


def old_layers(document: Document, message: Any) -> List[OldLayer]:
    """The old layers of ``message``, which is that of ``document``."""
    params = iter(message.layers)
    return [
        OldLayer(field, element, block, next(params))
        for field in document.fields
        if field.name == "layers"
        for element, block in enumerate(field.values)
    ]

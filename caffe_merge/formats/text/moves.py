"""Puts layers of a document in front of others, each with the comments and blank lines above it."""

from __future__ import annotations

import re
from typing import Sequence, Tuple

from caffe_merge.formats.text.chunks import chunks
from caffe_merge.formats.text.splices import Splices
from caffe_merge.formats.text.syntax import Document, Field, Value

# Of a list of layers: what is between them goes, but comments stay.
_BRACKETS = re.compile(r"(#[^\n]*)|layer|[:\[\],]")


def moved(document: Document, moves: Sequence[Tuple[int, int]]) -> Document:
    """``document`` with layers moved: (number of a layer, number of the one that it precedes).

    Layers are counted in the order of ``document``.
    """
    document = _unlisted(document)
    splices = Splices(document)
    whole = Value(-1, len(document.text), document.fields)
    layers = [chunk for chunk in chunks(document, whole) if chunk.fields[0].name == "layer"]
    for number, before in moves:
        span = layers[number].start, layers[number].end
        ends_a_line = document.text[span[1] - 1] == "\n" or not layers[number].closes
        splices.splice(*span)
        splices.insert(layers[before].start, span, "" if ends_a_line else document.newline)
    return splices.rewritten()


def _unlisted(document: Document) -> Document:
    """``document`` with a block of its own for each layer: no ``layer: [{ ... }, { ... }]``."""
    lists = [field for field in document.fields if field.name == "layer" and field.is_list]
    if not lists:
        return document
    splices = Splices(document)
    for field in lists:
        _unlist(splices, field)
    return splices.rewritten()


def _unlist(splices: Splices, field: Field) -> None:
    start = field.start
    for value in field.values:
        gap = _BRACKETS.sub(r"\1", splices.document.text[start : value.start])
        splices.splice(start, value.start, f"{gap}layer ")
        start = value.end
    splices.splice(start, field.end, _BRACKETS.sub(r"\1", splices.document.text[start : field.end]))

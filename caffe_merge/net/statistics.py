"""``--use-stored-statistics``: ``use_global_stats: false``, left in a text to deploy, made true.

Caffe does as the flag says: it normalises by the statistics of each batch. OpenCV and MNN do not
read it. The text is rewritten before anything else reads it, so that all that follows, validation
by any engine included, sees a net that means the stored statistics.
"""

from __future__ import annotations

from typing import Iterator, List

from caffe_merge.errors import OptionName, Text
from caffe_merge.formats.text.splices import Splices
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.values import parse_bool
from caffe_merge.notes import Note
from caffe_merge.wording import counted

BLOCK, FLAG = "batch_norm_param", "use_global_stats"


def use_stored(document: Document, notes: List[Note]) -> Document:
    """The document with every such flag true; ``document`` itself where there is none."""
    flags = [flag for layer in _named(document.fields, "layer") for flag in _flags(document, layer)]
    if not flags:
        text = Text(OptionName("use_stored_statistics"), f": no layer says {FLAG}: false")
        notes.append(Note("stored-statistics", "", text))
        return document
    splices = Splices(document)
    for flag in flags:
        splices.splice(flag.start, flag.end, "true")
    layers = counted(len(flags), "layer")
    used = f"{FLAG}: false of {layers} is true now: the stored statistics are used"
    notes.append(Note("stored-statistics", "", used))
    return splices.rewritten()


def _named(fields: List[Field], name: str) -> Iterator[Value]:
    return (value for field in fields if field.name == name for value in field.values)


def _flags(document: Document, layer: Value) -> Iterator[Value]:
    """The values ``false`` of the flag in one layer."""
    for block in _named(layer.fields or [], BLOCK):
        for flag in _named(block.fields or [], FLAG):
            if flag.fields is None and parse_bool(document.source(flag)) is False:
                yield flag

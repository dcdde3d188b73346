"""Text of the V0 and V1 formats rewritten in the current one, in the steps of Caffe."""

from __future__ import annotations

from typing import List, Tuple

from caffe_merge.formats.text.syntax import Document
from caffe_merge.notes import Note


def upgrade(document: Document) -> Tuple[Document, List[Note]]:
    """``document`` in the current format, and notes of what was rewritten, if anything was.

    Raises TextError where the text is wrong, or where Caffe's own upgrade would fail.
    """
    old_fields = [field for field in document.fields if field.name == "layers"]
    if not old_fields:
        return document, []
    new_fields = [field for field in document.fields if field.name == "layer"]
    if new_fields:
        both = "expected `layer` or `layers`, found both in one net; Caffe refuses it too"
        document.fail(max(old_fields[0].start, new_fields[0].start), both)
    from caffe_merge.formats.text.upgrade import padding, transform, v0, v1  # for few files
    from caffe_merge.formats.text.upgrade.reading import read

    message = read(document)
    version = "V0" if v0.is_v0(message) else "V1"
    changes = [f"the text is of the {version} format: its layers are written in the current one"]
    for step in (padding.upgrade, v0.upgrade, transform.upgrade, v1.upgrade):
        document = step(document, changes)
    return document, [Note("upgraded", "", text) for text in changes]

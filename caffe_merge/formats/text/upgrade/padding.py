"""Replaces V0's padding layers by the ``pad`` of their readers (UpgradeV0PaddingLayers)."""

from __future__ import annotations

from typing import Any, Dict, List

from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document
from caffe_merge.formats.text.upgrade.reading import OldLayer, old_layers, read
from caffe_merge.wording import named

_READERS = ("conv", "pool")


def upgrade(document: Document, changes: List[str]) -> Document:
    """V0 text without padding layers."""
    message = read(document)
    edits = Edits(document, keep_comments=True)
    producers: Dict[str, Any] = {}
    removed = []
    for old in old_layers(document, message):
        layer = old.param
        bottom_layers = [producers[blob] for blob in layer.bottom if blob in producers]
        padding = next((producer for producer in bottom_layers if _is_padding(producer)), None)
        if padding is not None:
            _check(document, old, padding)
            new = type(layer)()
            new.CopyFrom(layer)
            new.layer.pad = padding.layer.pad
            new.bottom[0] = padding.bottom[0]
            edits.update(old.block, layer, new)
        if _is_padding(layer):
            removed.append(layer.layer.name)
            edits.remove(old.field, old.element)
        producers.update((blob, layer) for blob in layer.top)
    if not removed:
        return document
    changes.append(f"padding layers {named(removed)} are now the `pad` of the layers that they fed")
    return edits.rewritten()


def _is_padding(layer: Any) -> bool:
    return bool(layer.layer.type == "padding")


def _check(document: Document, old: OldLayer, padding: Any) -> None:
    """Refuse readers of the padding layer ``padding`` that Caffe's own upgrade refuses."""
    layer = old.param
    where = f"layer {layer.layer.name!r} reads padding layer {padding.layer.name!r}"
    if layer.layer.type not in _READERS or len(layer.bottom) != 1:
        message = f"{where}: expected a conv or pool of one bottom, found {layer.layer.type!r}"
        document.fail(old.block.start, f"{message} of {len(layer.bottom)}")
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        document.fail(old.block.start, f"{where}: expected one bottom and one top of the latter")

"""Moves fields of data layers to ``transform_param`` (UpgradeNetDataTransformation)."""

from __future__ import annotations

from typing import Any, List

from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.syntax import Document
from caffe_merge.formats.text.upgrade.reading import old_layers, read
from caffe_merge.wording import named

_PARAMS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
_MOVED = ("scale", "mean_file", "crop_size", "mirror")


def upgrade(document: Document, changes: List[str]) -> Document:
    """V1 text with ``scale`` and the like of data layers moved to transform_param."""
    edits = Edits(document, keep_comments=True)
    changed = []
    for layer in old_layers(document, read(document)):
        new = type(layer.param)()
        new.CopyFrom(layer.param)
        if _move(new):
            edits.update(layer.block, layer.param, new)
            changed.append(layer.param.name)
    if not changed:
        return document
    changes.append(f"the transformations of data layers {named(changed)} moved to transform_param")
    return edits.rewritten()


def _move(layer: Any) -> bool:
    """Move the fields of one layer; as in Caffe they overwrite those of transform_param."""
    kind = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name
    if kind not in _PARAMS:
        return False
    param = getattr(layer, _PARAMS[kind])
    moved = [name for name in _MOVED if param.HasField(name)]
    for name in moved:
        setattr(layer.transform_param, name, getattr(param, name))
        param.ClearField(name)
    return bool(moved)

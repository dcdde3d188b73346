"""V0's padding layers (UpgradeV0PaddingLayers): what they pad by is said by what reads them."""

from typing import Any, Dict, List

from caffe_merge.text.edits import Edits
from caffe_merge.text.syntax import Document
from caffe_merge.upgrade.reading import Old, old_layers, read
from caffe_merge.wording import named

_READERS = ("conv", "pool")


def upgrade(document: Document, told: List[str]) -> Document:
    """V0 text without padding layers."""
    message = read(document)
    edits = Edits(document, keep_comments=True)
    producers: Dict[str, Any] = {}
    gone = []
    for old in old_layers(document, message):
        layer = old.param
        sources = [producers[blob] for blob in layer.bottom if blob in producers]
        source = next((one for one in sources if _is_padding(one)), None)
        if source is not None:
            _check(document, old, source)
            new = type(layer)()
            new.CopyFrom(layer)
            new.layer.pad = source.layer.pad
            new.bottom[0] = source.bottom[0]
            edits.update(old.block, layer, new)
        if _is_padding(layer):
            gone.append(layer.layer.name)
            edits.remove(old.field, old.element)
        producers.update((blob, layer) for blob in layer.top)
    if not gone:
        return document
    told.append(f"padding layers {named(gone)} are now the `pad` of the layers that they fed")
    return edits.rewritten()


def _is_padding(layer: Any) -> bool:
    return bool(layer.layer.type == "padding")


def _check(document: Document, old: Old, source: Any) -> None:
    """Refuse what Caffe's own upgrade refuses of a layer that reads padding layer ``source``."""
    layer = old.param
    where = f"layer {layer.layer.name!r} reads padding layer {source.layer.name!r}"
    if layer.layer.type not in _READERS or len(layer.bottom) != 1:
        message = f"{where}: expected a conv or pool of one bottom, found {layer.layer.type!r}"
        document.fail(old.block.start, f"{message} of {len(layer.bottom)}")
    if len(source.bottom) != 1 or len(source.top) != 1:
        document.fail(old.block.start, f"{where}: expected one bottom and one top of the latter")

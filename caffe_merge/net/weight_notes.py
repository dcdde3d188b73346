"""Notes on a weights file: what it lacks, what no layer uses, how its values are stored."""

from __future__ import annotations

from typing import Collection, Dict, List, Sequence

from caffe_merge.errors import OptionName, Text, WeightsError
from caffe_merge.formats.weights.blobs import HALF
from caffe_merge.formats.weights.index import Index, LayerRecord
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Note
from caffe_merge.wording import counted, named

_FEW = 0.1  # of layers: where no more of them have weights, file and text are no pair


def absent(layers: Sequence[Layer], stated: Collection[Layer], has_file: bool) -> List[Note]:
    """Which of ``layers`` have no weights in the file, and what they run on.

    ``stated`` are those with weights in the text. Without a file there is no note on the others.
    """
    notes: List[Note] = []
    for layer in layers:
        lacks = f"the file has no weights for this {layer.type}"
        if layer in stated and layer.record is None:
            text = "its weights are in the text; written into the weights file"
            notes.append(Note("text-weights", layer.name, text))
        elif has_file and layer.missing:
            text = f"{lacks}; Caffe would run it on random or unknown fillers"
            notes.append(Note("missing-weights", layer.name, text))
        elif has_file and layer.filled:
            text = f"{lacks}; it runs on its fillers, as in Caffe"
            notes.append(Note("filler-weights", layer.name, text))
    return notes


def check_pair(index: Index, layers: Sequence[Layer], all_layers: Sequence[Layer]) -> None:
    """Raise WeightsError where (nearly) no layer has weights in the file: it is another net's.

    Names alone are not enough: most nets have a layer ``data`` and a ``relu1``.
    """
    names = {layer.name for layer in all_layers}
    lacking = [layer.name for layer in layers if layer.missing or layer.filled]
    learned = [layer for layer in layers if layer.record is not None and layer.blobs]
    holding = [record for record in index.layers if record.blobs] or index.layers
    unused = [record.name for record in holding if record.name not in names]
    if not lacking or not unused or len(learned) > _FEW * (len(learned) + len(lacking)):
        return
    number = len(learned) + len(lacking)
    raise WeightsError(
        f"the weights of another net? It has weights for {len(learned)} of the "
        f"{counted(number, 'layer')} that need some (it has {named(unused, 2)}, the text "
        f"{named(lacking, 2)}): give the caffemodel that was trained with this text",
        path=index.path,
    )


def surplus(index: Index, taken: set[str], all_layers: Sequence[Layer], notes: List[Note]) -> None:
    """Tell weights that no layer takes; ``taken`` are the names of the layers of the net."""
    names = taken | {layer.name for layer in all_layers}
    seen: Dict[str, LayerRecord] = {}
    for record in index.layers:
        if record.name in seen and record.name in taken:
            text = "the file has weights of this name twice; Caffe takes the last, and so do we"
            notes.append(Note("duplicate-weights", record.name, text))
        seen[record.name] = record
    unused = [record.name for record in index.layers if record.blobs and record.name not in names]
    if len(unused) == 1:
        text = "the file has weights for it, the text has no such layer; left out"
        notes.append(Note("surplus-weights", unused[0], text))
    elif unused:
        text = f"the weights of {counted(len(unused), 'layer')} unused: is this the right pair?"
        notes.append(Note("surplus-weights", "", f"{text} ({unused[0]!r} ...); left out"))


def storage(index: Index, notes: List[Note]) -> None:
    """How the file stores its values, where that is not how they are written."""
    if index.format:
        text = f"the weights are of the {index.format} format; written in the current one"
        notes.append(Note("upgraded", "", text))
    blobs = [[blob for blob in layer.blobs if not blob.as_is] for layer in index.layers]
    diffs = [sum(blob.diff for blob in held) for held in blobs]
    if any(diffs):
        text = f"{_layers(diffs)} with gradients (diff): {sum(diffs):,} bytes, left out"
        notes.append(Note("diff-dropped", "", text))
    raw = [any(blob.encoding and not blob.half for blob in held) for held in blobs]
    if any(raw):
        text = f"{_layers(raw)} in a fork's encoding (raw_data or packed_data)"
        notes.append(Note("raw-blobs", "", f"{text}; written as plain data, for every Caffe"))
    half = [any(blob.half for blob in layer.blobs) for layer in index.layers]
    if any(half):
        how = Text("written as float32; ", OptionName("keep_dtype"), " keeps them so")
        if any(blob.dtype == HALF for layer in index.layers for blob in layer.blobs):
            how = Text("kept so; what a merge changes is rounded to it once")
        notes.append(Note("half-precision", "", Text(f"{_layers(half)} in half precision: ", how)))


def _layers(which: Sequence[object]) -> str:
    return f"the weights of {counted(sum(map(bool, which)), 'layer')} are stored"

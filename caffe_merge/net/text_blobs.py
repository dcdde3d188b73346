"""Weights given in the text itself, as ``blobs { }`` of its layers.

Caffe starts a layer from them in place of its fillers, and the weights file goes over them. They
move to the weights file: a merged layer may want other blobs than its text says.
"""

from __future__ import annotations

from typing import Dict, Optional, Sequence

from caffe_merge.errors import Text, WeightsError
from caffe_merge.formats.weights.blobproto import read_blob
from caffe_merge.formats.weights.blobs import Blob
from caffe_merge.formats.weights.index import LayerRecord
from caffe_merge.formats.weights.source import Buffer
from caffe_merge.formats.weights.wire import field, records
from caffe_merge.layers.layer import Layer


def take(layers: Sequence[Layer]) -> Dict[Layer, LayerRecord]:
    """The blobs of the layers' texts, which are taken out of the layers' parameters."""
    return {layer: _taken(layer) for layer in layers if layer.param.blobs}


def _taken(layer: Layer) -> LayerRecord:
    blobs = []
    for number, message in enumerate(layer.param.blobs):
        buffer: Buffer = field(7, message.SerializePartialToString())
        try:
            blobs.append(read_blob(buffer, next(records(buffer, 0, len(buffer)))))
        except WeightsError as error:
            message = Text("in the text: ", error.message)
            raise WeightsError(message, layer=layer.name, blob=number) from error
    layer.param.ClearField("blobs")
    return LayerRecord(layer.name, 0, 0, 0, tuple(blobs))


def give(layer: Layer, blobs: Sequence[Optional[Blob]]) -> None:
    """Have ``layer`` run on the blobs of its text; they are written to the weights file."""
    layer.blobs = tuple(blob for blob in blobs if blob is not None)

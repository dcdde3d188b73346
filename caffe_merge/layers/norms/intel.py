"""Intel Caffe's BatchNorm that holds the weights of the Scale behind it.

With engine MKL2017 or MKLDNN a net is saved as it runs: BatchNorm of four or five blobs, no Scale.
Its text still has both. On loading, Intel Caffe drops that Scale, so it multiplies by 1 and adds 0.
"""

from __future__ import annotations

from typing import Dict, List, Sequence

import numpy as np

from caffe_merge.arrays import count
from caffe_merge.formats.weights.blobs import Blob, Dense
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import Note


def neutralise_absorbed(layers: Sequence[Layer]) -> List[Note]:
    """Make an identity of each Scale without a record whose weights its BatchNorm holds.

    The notes tell where the weights of these Scales are.
    """
    notes: List[Note] = []
    producers: Dict[str, Layer] = {}
    for layer in layers:
        producer = producers.get(layer.param.bottom[0]) if layer.param.bottom else None
        absent = layer.type == "Scale" and layer.record is None and len(layer.param.bottom) == 1
        if absent and producer is not None and producer.type == "BatchNorm" and _is_full(producer):
            size = count(producer.blobs[0].shape)
            blobs: List[Blob] = [Dense(np.ones(size))]
            if layer.param.scale_param.bias_term:
                blobs.append(Dense(np.zeros(size)))
            layer.load_blobs(blobs)
            layer.filled, layer.missing = True, False
            text = (
                f"the file has its weights in BatchNorm {producer.name!r}, as Intel Caffe saves it"
            )
            notes.append(Note("absorbed-weights", layer.name, text))
        producers.update((top, layer) for top in layer.param.top)
    return notes


def _is_full(layer: Layer) -> bool:
    sizes = [count(blob.shape) for blob in layer.blobs]
    return len(sizes) in (4, 5) and sizes[2] == 1 and {*sizes[:2], *sizes[3:]} == {sizes[0]}

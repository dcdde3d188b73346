"""Tiny nets for tests: prototxt text in, seeded weights of matching shapes out."""

from pathlib import Path
from typing import Dict, Iterable, Sequence, Tuple

import numpy as np

from caffe_merge.schema.messages import NetParameter

Blobs = Dict[str, Sequence[np.ndarray]]


def caffemodel(blobs: Blobs, types: Iterable[Tuple[str, str]] = ()) -> bytes:
    """The bytes of a caffemodel that holds ``blobs`` (layer name -> arrays), as Caffe writes it."""
    net = NetParameter()
    type_of = dict(types)
    for name, arrays in blobs.items():
        layer = net.layer.add(name=name)
        if name in type_of:
            layer.type = type_of[name]
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(np.shape(array))
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
    return bytes(net.SerializeToString())


def write_pair(folder: Path, text: str, blobs: Blobs, stem: str = "net") -> Tuple[Path, Path]:
    """Write ``text`` and ``blobs`` as ``stem``.prototxt and ``stem``.caffemodel."""
    prototxt, weights = folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel"
    prototxt.write_bytes(text.encode())
    weights.write_bytes(caffemodel(blobs))
    return prototxt, weights

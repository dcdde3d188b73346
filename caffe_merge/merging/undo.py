"""Restores the caller's net when a merge fails."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List, Tuple

from caffe_merge.formats.schema.messages import copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.loading import Net

# What a merge may set of a layer beside its parameters, which are edited in place too.
_SET = ("blobs", "extra", "sources", "style")


@contextlib.contextmanager
def unchanged_on_error(net: Net) -> Iterator[None]:
    """Give ``net`` its layers back, each as it was, where the block raises anything."""
    layers = list(net.all_layers)
    saved = [_saved(layer) for layer in layers]
    try:
        yield
    except BaseException:
        for layer, (param, content, values) in zip(layers, saved):
            param.CopyFrom(content)
            layer.param = param
            for name, value in zip(_SET, values):
                setattr(layer, name, value)
        net.all_layers[:] = layers
        raise


def _saved(layer: Layer) -> Tuple[Any, Any, List[Any]]:
    """The parameters of ``layer``, a copy of what is in them, and the rest that may be set."""
    return layer.param, copied(layer.param), [getattr(layer, name) for name in _SET]

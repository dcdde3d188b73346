"""drop-flatten: removes a Flatten in front of an InnerProduct.

    x -> Flatten -> InnerProduct -> y        x -> InnerProduct -> y

An InnerProduct of axis 1 takes all axes behind the first as one, as the Flatten does. For targets
without Flatten.
"""

from __future__ import annotations

from typing import Union

from caffe_merge.layers.axes import axis_of, flattens_images, from_front
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class DropFlatten(Form):
    """Removes a Flatten that only an InnerProduct reads, for targets without Flatten."""

    name = "drop-flatten"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        bottom, top = graph.bottoms[layer][0], graph.tops[layer][0]
        if not flattens_images(layer, bottom.rank):
            return Reason("it does not flatten all axes behind the first")
        readers = [reader for reader, _ in top.readers]
        if len(readers) != 1 or readers[0].type != "InnerProduct":
            return Reason("not one InnerProduct alone reads it")
        if axis_of(readers[0].param, top.rank) != 1:
            return Reason(f"axis of layer {readers[0].name!r} is not 1")
        reason = graph.why_not_bypass(layer)
        if reason is not None:
            return reason
        product = readers[0]
        changes = {product: (from_front(product.param, top.rank), product.blobs)}
        return Rewrite((layer, product), changes, f"{product.name!r} flattens by itself")

"""fold-image: a Bias that varies over the image folds into layers that see the whole image.

    x -> Bias m -> InnerProduct W, b -> y        x -> InnerProduct W, b' -> y

    W (x + m) + b = W x + b'        b' = W m + b

Every reader must be linear with one output place: an InnerProduct, or a Convolution whose window
covers its input. Such a Bias comes from --mean with a mean image.
"""

from __future__ import annotations

from typing import List, Union

import numpy as np

from caffe_merge import reference
from caffe_merge.arrays import Float64
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import LINEAR_TYPES, add_bias, output_channels
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.layers.standard import standard
from caffe_merge.net.graph import Graph, Version
from caffe_merge.notes import OUTPUT, Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED, forward_rewrite
from caffe_merge.passes.rewriting.rewrite import Changes, Finding, Pass, Refused, Rewrite, kept
from caffe_merge.wording import named


class FoldImage(Pass):
    """Folds a Bias of one value per pixel and channel into the biases of its linear readers."""

    name = "fold-image"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        fixed = self.fixed(graph)
        for layer in graph.layers:
            if not _is_image(graph, layer):
                continue
            rewrite: Union[Rewrite, Reason] = KEPT_AS_ASKED
            if layer not in fixed:
                fixed_readers = fixed.intersection(
                    reader for reader, _ in graph.tops[layer][0].readers
                )
                rewrite = _forwards(graph, layer, [reader.name for reader in fixed_readers])
            findings.append(Refused(layer, rewrite) if isinstance(rewrite, Reason) else rewrite)
        return findings


def _is_image(graph: Graph, layer: Layer) -> bool:
    """Whether it is a Bias with one value for each pixel and channel of an image."""
    if layer.type != "Bias" or len(layer.blobs) != 1 or len(graph.bottoms[layer]) != 1:
        return False
    bottom = graph.bottoms[layer][0]
    several = isinstance(affine_of(layer, bottom.rank), Reason)
    return several and bottom.shape is not None and layer.blobs[0].shape == bottom.shape[1:]


def _forwards(graph: Graph, layer: Layer, fixed: List[str]) -> Union[Rewrite, Reason]:
    (source,), (end,) = graph.bottoms[layer], graph.tops[layer]
    if end.is_output:
        return Reason(f"{end.name!r} is a net output", OUTPUT)
    if end.name == source.name and not graph.may_lose_name(source):
        return Reason(f"it is written over {source.name!r}, which keeps its name")
    if fixed:
        return kept(f"layer {named(fixed)}, which reads it, is")
    image = layer.blobs[0].float64()[np.newaxis]
    changes: Changes = {}
    for reader, _ in end.readers:
        change = _taken(reader, image, graph.tops[reader][0])
        if isinstance(change, Reason):
            return Reason(f"{reader.type} {reader.name!r} reads it: {change}")
        changes[reader] = change
    return forward_rewrite(graph, layer, changes)


def _taken(reader: Layer, image: Float64, top: Version) -> Union[New, Reason]:
    """New parameters and blobs of a linear ``reader`` with ``image`` (1, C, H, W) folded in."""
    if reader.type not in LINEAR_TYPES:
        return Reason("it cannot take it in")
    output, standard_form = output_channels(reader, top.rank), standard(reader)
    for refusal in (output, standard_form):
        if isinstance(refusal, Reason):
            return refusal
    if top.shape is None or any(dim != 1 for dim in top.shape[2:]):
        return Reason("its output has several places, and the image adds another value to each")
    assert not isinstance(output, Reason)
    if output.axis != 1:
        return Reason(f"its outputs lie on axis {output.axis}, not 1")
    assert not isinstance(standard_form, Reason)
    (outputs,) = reference.forward(
        standard_form[0], [blob.float64() for blob in standard_form[1]], [image]
    )
    param = copied(reader.param)
    if len(reader.blobs) == 1:
        add_bias(param)
    weights = reader.blobs[0]
    return param, (weights, Dense(outputs.reshape(-1), weights.dtype))

"""product-untransposed: transposes the weights of an InnerProduct with ``transpose: true``.

    y = x W          y = x V^T        V = W^T

W is (inputs, outputs), V (outputs, inputs), as without ``transpose``. For targets that do not look
at ``transpose``.
"""

from __future__ import annotations

from typing import Union

import numpy as np

from caffe_merge.arrays import Float64
from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.weights.blobs import Blob, Computed, Rows
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.linear import odd_blobs
from caffe_merge.net.graph import Graph
from caffe_merge.notes import Reason
from caffe_merge.passes.rewriting.form import Form
from caffe_merge.passes.rewriting.rewrite import Rewrite


class ProductUntransposed(Form):
    """Turns the weights of an InnerProduct with transpose, for targets that ignore the flag."""

    name = "product-untransposed"

    def rewrite(self, graph: Graph, layer: Layer) -> Union[Rewrite, Reason]:
        reason = odd_blobs(layer)
        if reason is not None:
            return reason
        param = copied(layer.param)
        param.inner_product_param.ClearField("transpose")
        blobs = (_turned(layer.blobs[0]), *layer.blobs[1:])
        note = "had its weights turned, and no transpose any more"
        return Rewrite((layer,), {layer: (param, blobs)}, "", note)


def _turned(blob: Blob) -> Blob:
    def rows(selection: Rows) -> Float64:
        return np.asarray(blob.rows().reshape(blob.shape).T[selection], np.float64)

    return Computed(blob.shape[::-1], rows, blob.dtype, blob.depth + 1)

"""affine-as: the remaining per-channel layers become 1x1 depthwise convolutions, or the reverse.

    x -> Scale -> y        x -> Convolution 1x1, group C -> y

    W[c, 0, 0, 0] = scale[c]        b = shift

Only where ``--affine-as`` asks for it: ``conv`` for tool chains without Scale, ``scale`` for those
that run a Scale faster. The other passes come first, so only what none of them folds is left.
"""

from __future__ import annotations

from typing import Any, List, Tuple, Union

from caffe_merge.algebra.affine import Affine
from caffe_merge.algebra.kernels import Kernel
from caffe_merge.arrays import Float64
from caffe_merge.formats.schema.messages import LayerParameter, copied
from caffe_merge.formats.weights.blobs import ALL, Blob, Dense
from caffe_merge.layers import catalogue
from caffe_merge.layers.catalogue import CATALOGUE, of_family
from caffe_merge.layers.layer import Layer, New
from caffe_merge.layers.linear import CONVOLUTIONS
from caffe_merge.layers.per_channel import affine_of
from caffe_merge.net.graph import Graph
from caffe_merge.notes import SHAPE, Reason
from caffe_merge.passes.rewriting.affine_runs import KEPT_AS_ASKED
from caffe_merge.passes.rewriting.layer_kernels import kernel_of
from caffe_merge.passes.rewriting.rewrite import Finding, Pass, Refused, Rewrite
from caffe_merge.wording import counted

# A Power has no weights: it is as good for any tool chain.
AFFINE = frozenset(of_family(catalogue.NORM, catalogue.AFFINE)) - {"Power"}
# The blocks of these and of a convolution, where the schema has them.
_BLOCKS = sorted(
    {block for kind in (*AFFINE, *CONVOLUTIONS) for block in CATALOGUE[kind].blocks}
    & {*LayerParameter.DESCRIPTOR.fields_by_name}
)

MaybeAffine = Union[Affine, Reason, None]


class AffineAs(Pass):
    """Writes per-channel layers in the form that the user asks for."""

    name = "affine-as"

    def find(self, graph: Graph) -> List[Finding]:
        findings: List[Finding] = []
        if self.options.affine_as is None:
            return findings
        to_convolution = self.options.affine_as == "conv"
        for layer in graph.layers:
            affine = _affine(graph, layer) if to_convolution else _diagonal(graph, layer)
            if isinstance(affine, Affine) and layer.name in self.keep:
                affine = KEPT_AS_ASKED
            if isinstance(affine, Reason):
                findings.append(Refused(layer, affine))
            elif affine is not None:
                new = _as_convolution(layer, affine) if to_convolution else _as_scale(layer, affine)
                note = f"became a {'depthwise Convolution of 1x1' if to_convolution else 'Scale'}"
                findings.append(Rewrite((layer,), {layer: new}, note, note))
        return findings


def _affine(graph: Graph, layer: Layer) -> MaybeAffine:
    """The map that a per-channel layer computes, as vectors; None for any other layer."""
    if layer.type not in AFFINE:
        return None
    bottom, top = graph.bottoms[layer][0], graph.tops[layer][0]
    affine = affine_of(layer, bottom.rank)
    if not isinstance(affine, Affine):
        return affine
    if bottom.shape is None:
        return Reason("the shape of its bottom is not known", SHAPE)
    if len(bottom.shape) != 4:
        return Reason(f"its bottom has {counted(len(bottom.shape), 'axis')}, a convolution wants 4")
    if affine.axis not in (None, 1):
        return Reason(f"it acts along axis {affine.axis}")
    if top.name == bottom.name and not graph.is_private(bottom):
        # A convolution cannot write over its bottom, and the bottom cannot change its name.
        return Reason(f"it is written over {bottom.name!r}, which keeps its name")
    return affine.over(bottom.shape[1], 1)


def _diagonal(graph: Graph, layer: Layer) -> MaybeAffine:
    """The map that a depthwise convolution of 1x1 computes; None for any other layer."""
    kernel = kernel_of(graph, layer) if layer.type in CONVOLUTIONS else None
    if not isinstance(kernel, Kernel) or not kernel.group == kernel.inputs == kernel.outputs:
        return None
    if not all(axis.is_point for axis in kernel.axes):
        return None
    scale: Float64 = kernel.weights(ALL).reshape(-1)
    return Affine(scale, 0 * scale if kernel.bias is None else kernel.bias(), 1)


def _as_convolution(layer: Layer, affine: Affine) -> New:
    param = _bare(layer, affine, "Convolution")
    conv_param = param.convolution_param
    conv_param.num_output = conv_param.group = len(affine.scale)
    conv_param.kernel_size.append(1)
    conv_param.bias_term = bool(affine.shift.any())
    return param, _blobs(layer, affine, (-1, 1, 1, 1))


def _as_scale(layer: Layer, affine: Affine) -> New:
    param = _bare(layer, affine, "Scale")
    param.scale_param.bias_term = bool(affine.shift.any())
    return param, _blobs(layer, affine, (-1,))


def _bare(layer: Layer, affine: Affine, kind: str) -> Any:
    """The parameters of ``layer`` for a layer of type ``kind``, without those of its old type."""
    both_have_weights = {layer.type, kind} == {"Scale", "Convolution"}
    param = copied(layer.param)
    for name in _BLOCKS:
        param.ClearField(name)
    if not both_have_weights or len(layer.blobs) != 1 + affine.shift.any():
        param.ClearField("param")  # of other blobs
    param.type = kind
    return param


def _blobs(layer: Layer, affine: Affine, shape: Tuple[int, ...]) -> Tuple[Blob, ...]:
    dtype = layer.blobs[0].dtype
    weights = Dense(affine.scale.reshape(shape), dtype)
    return (weights, Dense(affine.shift, dtype)) if affine.shift.any() else (weights,)

"""affine-as: per-channel layers that are left become depthwise convolutions of 1x1, or the reverse.

    x -> Scale -> y        x -> Convolution 1x1, group C -> y

    W[c, 0, 0, 0] = scale[c]        b = shift

Only where ``--affine-as`` asks for it: ``conv`` for tool chains without Scale, ``scale`` for those
that run a Scale faster. What some other pass can take in is gone before.
"""

from typing import Any, List, Tuple, Union

from caffe_merge import norms
from caffe_merge.affine import affine
from caffe_merge.arrays import Float64
from caffe_merge.convolutions import kernel
from caffe_merge.fold import Affine
from caffe_merge.graph import Graph
from caffe_merge.kernels import Kernel
from caffe_merge.layer import Layer, New, Reason
from caffe_merge.linear import CONVOLUTIONS
from caffe_merge.passes.base import Found, Pass, Refused, Rewrite
from caffe_merge.passes.runs import KEPT
from caffe_merge.schema import copied
from caffe_merge.weights.blobs import ALL, Blob, Dense
from caffe_merge.wording import counted

AFFINE = frozenset(("Bias", "Scale", *norms.TYPES))
_OWN = ("batch_norm_param", "bias_param", "convolution_param", "scale_param")

Answer = Union[Affine, Reason, None]


class AffineAs(Pass):
    """Writes per-channel layers in the form that the user asks for."""

    name = "affine-as"

    def find(self, graph: Graph) -> List[Found]:
        found: List[Found] = []
        if self.options.affine_as is None:
            return found
        to_convolution = self.options.affine_as == "conv"
        for layer in graph.layers:
            answer = _affine(graph, layer) if to_convolution else _diagonal(graph, layer)
            if isinstance(answer, Affine) and layer.name in self.keep:
                answer = KEPT
            if isinstance(answer, Reason):
                found.append(Refused(layer, str(answer)))
            elif answer is not None:
                new = _as_convolution(layer, answer) if to_convolution else _as_scale(layer, answer)
                note = f"became a {'depthwise Convolution of 1x1' if to_convolution else 'Scale'}"
                found.append(Rewrite((layer,), {layer: new}, note, note))
        return found


def _affine(graph: Graph, layer: Layer) -> Answer:
    """The map that a per-channel layer is, over the channels of its bottom; None of any other."""
    if layer.type not in AFFINE:
        return None
    bottom, top = graph.bottoms[layer][0], graph.tops[layer][0]
    answer = affine(layer, bottom.rank)
    if not isinstance(answer, Affine):
        return answer
    if bottom.shape is None:
        return Reason("the shape of its bottom is not known")
    if len(bottom.shape) != 4:
        return Reason(f"its bottom has {counted(len(bottom.shape), 'axis')}, a convolution wants 4")
    if answer.axis not in (None, 1):
        return Reason(f"it acts along axis {answer.axis}")
    if top.name == bottom.name and not graph.is_private(bottom):
        # A convolution cannot write over its bottom, and the bottom cannot change its name.
        return Reason(f"it is written over {bottom.name!r}, which keeps its name")
    return answer.over(bottom.shape[1], 1)


def _diagonal(graph: Graph, layer: Layer) -> Answer:
    """The map per channel that a depthwise convolution of 1x1 is; None of any other layer."""
    one = kernel(graph, layer) if layer.type in CONVOLUTIONS else None
    if not isinstance(one, Kernel) or not one.group == one.inputs == one.outputs:
        return None
    if not all(axis.is_one for axis in one.axes):
        return None
    scale: Float64 = one.weights(ALL).reshape(-1)
    return Affine(scale, 0 * scale if one.bias is None else one.bias(), 1)


def _as_convolution(layer: Layer, one: Affine) -> New:
    param = _bare(layer, one, "Convolution")
    own = param.convolution_param
    own.num_output = own.group = len(one.scale)
    own.kernel_size.append(1)
    own.bias_term = bool(one.shift.any())
    return param, _blobs(layer, one, (-1, 1, 1, 1))


def _as_scale(layer: Layer, one: Affine) -> New:
    param = _bare(layer, one, "Scale")
    param.scale_param.bias_term = bool(one.shift.any())
    return param, _blobs(layer, one, (-1,))


def _bare(layer: Layer, one: Affine, kind: str) -> Any:
    """The parameters of ``layer`` as those of a layer of type ``kind``, without any of its own."""
    alike = {layer.type, kind} == {"Scale", "Convolution"}
    param = copied(layer.param)
    for name in _OWN:
        param.ClearField(name)
    if not alike or len(layer.blobs) != 1 + one.shift.any():
        param.ClearField("param")  # of other blobs
    param.type = kind
    return param


def _blobs(layer: Layer, one: Affine, shape: Tuple[int, ...]) -> Tuple[Blob, ...]:
    dtype = layer.blobs[0].dtype
    weights = Dense(one.scale.reshape(shape), dtype)
    return (weights, Dense(one.shift, dtype)) if one.shift.any() else (weights,)

"""What a layer of a fork is in BVLC Caffe's own terms, where that can be said.

The proof and the reference engine run layers by BVLC's rules; this is where a layer whose text has
fields of a fork is put in those terms first, or refused.
"""

from typing import Any, Tuple, Union

from caffe_merge import affine, linear
from caffe_merge.affine import Refusal, unknown_fields
from caffe_merge.fold import Affine
from caffe_merge.layer import Layer
from caffe_merge.linear import LINEAR_TYPES
from caffe_merge.weights.blobs import Blob

Standard = Tuple[Any, Tuple[Blob, ...]]


def standard(layer: Layer) -> Union[Standard, Refusal]:
    """Parameters and blobs under which BVLC's layer computes what ``layer`` does."""
    odd = unknown_fields(layer)
    if odd is not None:
        return odd
    if layer.type == "Dropout":
        return _dropout(layer)
    if layer.missing:
        return Refusal("the file has no weights for it, and its fillers are random")
    if layer.extra:
        odd = linear.odd_blobs(layer) if layer.type in LINEAR_TYPES else affine.odd_blobs(layer)
    return odd if odd is not None else (layer.param, layer.blobs)


def _dropout(layer: Layer) -> Union[Standard, Refusal]:
    answer = affine.affine(layer, None)
    if isinstance(answer, Refusal):
        return answer
    if not isinstance(answer, Affine):
        return layer.param, ()
    param = type(layer.param)(name=layer.name, type="Power")
    param.bottom.extend(layer.param.bottom)
    param.top.extend(layer.param.top)
    param.power_param.scale = float(answer.scale)
    return param, ()

"""The fields of forks in a layer's text: which are harmless, which are read, and their values.

A field of the layer's parameters that is in neither table makes the layer opaque: what it does is
not guessed.
"""

from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.text.view import SEVERAL
from caffe_merge.layers.catalogue import CATALOGUE, NORM, WINDOWED, of_family
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.spec import ForkFields, LayerSpec
from caffe_merge.notes import UNKNOWN, Note, Reason


class Harmless(NamedTuple):
    """A field that changes nothing at inference: of which types, in whose schema, and why."""

    types: Tuple[str, ...]  # () is every type
    name: str
    forks: str
    why: str


_ENGINE = "which implementation runs it"
_PRECISION = "how exactly it is computed, not what"

HARMLESS: Tuple[Harmless, ...] = (
    Harmless((), "engine", "Intel", _ENGINE),
    Harmless((), "forward_type", "NVIDIA", _PRECISION),
    Harmless((), "backward_type", "NVIDIA", "training only"),
    Harmless((), "forward_math", "NVIDIA", _PRECISION),
    Harmless((), "backward_math", "NVIDIA", "training only"),
    Harmless((), "cudnn_math_override", "NVIDIA", _PRECISION),
    Harmless((), "debug", "NVIDIA", "prints more"),
    Harmless(WINDOWED, "convolution_param.engine", "Intel, Cambricon", _ENGINE),
    Harmless(WINDOWED, "convolution_param.conv_algorithm", "Intel", _ENGINE),
    Harmless(WINDOWED, "convolution_param.conv_algos_override", "NVIDIA", _ENGINE),
    Harmless(WINDOWED, "convolution_param.cudnn_convolution_algo_seeker", "NVIDIA", _ENGINE),
    Harmless(("InnerProduct",), "inner_product_param.engine", "Intel, Cambricon", _ENGINE),
    Harmless(("Scale",), "scale_param.engine", "Cambricon", _ENGINE),
    Harmless(("Pooling",), "pooling_param.engine", "Intel", _ENGINE),
    Harmless(("LRN",), "lrn_param.engine", "Intel", _ENGINE),
    Harmless(("ReLU",), "relu_param.engine", "Intel", _ENGINE),
    Harmless(("Eltwise",), "eltwise_param.engine", "Intel", _ENGINE),
    Harmless(("Concat",), "concat_param.engine", "Intel", _ENGINE),
    Harmless(("Split",), "split_param.engine", "Intel", _ENGINE),
    Harmless(("Softmax",), "softmax_param.engine", "Intel, Cambricon", _ENGINE),
    Harmless(("Sigmoid",), "sigmoid_param.engine", "Intel, Cambricon", _ENGINE),
    Harmless(("TanH",), "tanh_param.engine", "Intel, Cambricon", _ENGINE),
    Harmless(("Dropout", "SpatialDropout"), "dropout_param.engine", "NVIDIA, Cambricon", _ENGINE),
    Harmless(("Dropout",), "dropout_param.random_seed", "NVIDIA", "training only"),
    Harmless(("Dropout",), "dropout_param.sqrt_scale", "happynear", "training only"),
    Harmless(("SpatialDropout",), "spatial_dropout_param", "Intel", "its layer does not read it"),
)

_PRIORS = (
    "img_size", "img_h", "img_w", "step", "step_h", "step_w", "offset", "clip", "variance",
)  # fmt: skip
_RESIZE = (
    "align_corners", "data_format", "half_pixel_centers", "output_height", "output_width",
    "scale_height", "scale_width",
)  # fmt: skip


def _block(name: str, *fields: str) -> Tuple[str, ...]:
    """The names of a block and of fields in it."""
    return (name, *(f"{name}.{field}" for field in fields))


# DeepLab's dilation (im2col_layer.cpp), and synopsys' padding, each side by itself.
_HOLES = ("convolution_param.hole", "convolution_param.hole_h", "convolution_param.hole_w")
SIDES = ("pad_t", "pad_b", "pad_l", "pad_r")
_CONVOLUTION_PADS = tuple(f"convolution_param.{side}" for side in SIDES)
_POOLING_PADS = tuple(f"pooling_param.{side}" for side in SIDES)

# They say where the windows of a layer lie, and nothing else: what its output channels are
# multiplied with does not depend on them. Synopsys' pad_type is TensorFlow's SAME.
WINDOW = (*_HOLES, *_CONVOLUTION_PADS, "convolution_param.pad_type")

# What the code reads: names, or a whole block as ``block.*``.
READ: Dict[str, Tuple[str, ...]] = {
    **{kind: tuple(f"{b}.*" for b in CATALOGUE[kind].blocks) for kind in of_family(NORM)},
    "Axpy": (),
    **dict.fromkeys(("Convolution", "Deconvolution"), (*_HOLES, *_CONVOLUTION_PADS)),
    "ConvolutionDepthwise": _CONVOLUTION_PADS,
    "Dropout": ("dropout_param.scale_train", "dropout_param.sample_weights_test"),
    "ContinuationIndicator": _block(
        "continuation_indicator_param", "time_step", "batch_size", "flag"
    ),
    "HardSigmoid": (
        *_block("hard_sigmoid_param", "alpha", "beta"),
        *_block("hardsigmoid_param", "alpha", "beta"),
    ),
    "Interp": (
        "interp_param", "interp_param.height", "interp_param.width", "interp_param.zoom_factor",
        "interp_param.shrink_factor", "interp_param.pad_beg", "interp_param.pad_end",
    ),
    "MatMul": _block("matmul_param", "dim_1", "dim_2", "dim_3", "transpose_a", "transpose_b"),
    "Normalize": (
        "norm_param", "norm_param.across_spatial", "norm_param.channel_shared", "norm_param.eps"
    ),
    "Padding": _block(
        "padding_param", "pad_method", "pad_value", "pad_l", "pad_r", "pad_t", "pad_b"
    ),
    "Permute": ("permute_param", "permute_param.order"),
    "Pooling": ("pooling_param.ceil_mode", *_POOLING_PADS, *SEVERAL),
    "PriorBox": _block(
        "prior_box_param", *_PRIORS, "min_size", "max_size", "aspect_ratio", "flip"
    ),
    "PriorBoxClustered": _block("prior_box_param", *_PRIORS, "width", "height"),
    "ROIPooling": (
        "roi_pooling_param", "roi_pooling_param.pooled_h", "roi_pooling_param.pooled_w",
        "roi_pooling_param.spatial_scale",
    ),
    "ReLU6": ("relu6_param", "relu6_param.negative_slope"),
    "Reorg": _block("reorg_param", "stride", "reverse"),
    "ResizeBilinear": _block("resize_bilinear_param", *_RESIZE, "pytorch_half_pixel"),
    "ResizeNearestNeighbor": _block(
        "resize_nearest_neighbor_param", *_RESIZE, "half_pixel_onnx"
    ),
    "Reverse": _block("reverse_param", "axis"),
    "ShuffleChannel": ("shuffle_channel_param", "shuffle_channel_param.group"),
    "Unpooling": _block(
        "unpooling_param", "unpool", "pad", "kernel_size", "kernel_h", "kernel_w", "stride",
        "stride_h", "stride_w", "unpool_size", "unpool_h", "unpool_w",
    ),
    "Upsample": (
        "upsample_param", "upsample_param.scale", "upsample_param.scale_h",
        "upsample_param.scale_w", "upsample_param.pad_out_h", "upsample_param.pad_out_w",
        "upsample_param.upsample_h", "upsample_param.upsample_w",
    ),
}  # fmt: skip


def unknown_fields(layer: Layer, ignored: Sequence[str] = ()) -> Optional[Reason]:
    """Why the layer's effect is not known, if its parameters have fields of a fork that may matter.

    Bottoms of shapes that BVLC's layer does not take are a fork's too. The fields ``ignored``,
    WINDOW for instance, do not matter to the caller.
    """
    if layer.misfit is not None:
        return Reason(f"{layer.misfit}: only a fork takes that", UNKNOWN)
    for name in _unknown(layer):
        if name not in ignored:
            return unknown_field(name)
    return None


def unknown_field(name: str) -> Reason:
    """The refusal for a field of which nobody here knows what it does."""
    return Reason(f"{name} is a fork's field, whose effect is not known", UNKNOWN)


def has_unknown(layer: Layer) -> bool:
    """Whether it has fields of a fork that may matter: its blobs may be others than BVLC's."""
    return any(True for _ in _unknown(layer))


def misfit_notes(layers: Iterable[Layer]) -> List[Note]:
    """A note for each layer whose bottoms have shapes that BVLC's layer does not take."""
    end = "BVLC Caffe would not build it; kept as it is, for a fork may"
    return [
        Note("fork-shape", layer.name, f"{layer.type}: {layer.misfit}: {end}")
        for layer in layers
        if layer.misfit is not None
    ]


def _unknown(layer: Layer) -> Iterator[str]:
    """The names of the fields whose effect is not known.

    A single value beside the parameters, a number format say, changes neither what the layer
    computes nor any shape: all checks hold for it.
    """
    if not layer.extra:
        return
    read = READ.get(layer.type, ())
    doubtful = _doubtful(layer)
    for name in layer.extra:
        if name in doubtful:
            yield name
            continue
        if "." not in name and layer.extra[name]:
            continue
        harmless = _is_filler(name) or name.startswith("param.") or _is_harmless(layer.type, name)
        if not (harmless or name in read or name.split(".")[0] + ".*" in read):
            yield name


def _is_harmless(kind: str, name: str) -> bool:
    return any(
        (not row.types or kind in row.types) and (name + ".").startswith(row.name + ".")
        for row in HARMLESS
    )


def _is_filler(name: str) -> bool:
    """Whether it says how training starts: of no effect on weights that are in the file."""
    return any(part == "filler" or part.endswith("_filler") for part in name.split("."))


def fills(layer: Layer) -> bool:
    """Whether a fork's fields may change what its fillers make."""
    return any(_is_filler(name) for name in layer.extra)


# Fields of forks, and those of BVLC's with the same meaning: both together are not read by either.
_RIVALS: Tuple[Tuple[Tuple[str, ...], Tuple[str, ...]], ...] = (
    (_HOLES, ("dilation",)),
    (_HOLES[:1], _HOLES[1:]),
    (_CONVOLUTION_PADS, ("pad", "pad_h", "pad_w", "convolution_param.pad_type")),
    (_POOLING_PADS, ("pad", "pad_h", "pad_w", "pooling_param.pad")),
    (("pooling_param.ceil_mode",), ("round_mode",)),
    (("pooling_param.kernel_size",), ("kernel_h", "kernel_w")),
    (("pooling_param.stride",), ("stride_h", "stride_w")),
    (("pooling_param.pad",), ("pad_h", "pad_w")),
)


def _doubtful(layer: Layer) -> Set[str]:
    """The fork's fields of which it is not certain that they count.

    A rival stands beside them, or of hole_h and hole_w only one is there.
    """
    if not layer.extra or layer.type not in _SPELLINGS:
        return set()
    block = layer.param.pooling_param if layer.type == "Pooling" else layer.param.convolution_param
    field_names = {*layer.extra, *(field.name for field, _ in block.ListFields())}
    doubtful: Set[str] = set()
    for names, rivals in _RIVALS:
        present = field_names.intersection(names)
        if present and not field_names.isdisjoint(rivals):
            doubtful |= present
    sides = field_names.intersection(_HOLES[1:])
    return doubtful | (sides if len(sides) == 1 else set())


def _convolution(layer: Layer) -> LayerSpec:
    """``hole``, or ``hole_h`` and ``hole_w``, as dilation; sides of the padding stay beside it."""
    values, param = ForkFields(layer.extra), layer.param
    holes = [name for name in _HOLES if name in values]
    if holes:
        param = copied(param)
        param.convolution_param.dilation.extend(values.integer(name, 1) for name in holes)
    return _with_fields(layer, param, _CONVOLUTION_PADS)


def _depthwise(layer: Layer) -> LayerSpec:
    """Without ``group``, weights of one channel a row tell that each channel is a group.

    Such types of forks set up their own weights (eric612's depthwise_conv_layer.cpp among others).
    """
    conv_param = layer.param.convolution_param
    shape = layer.blobs[0].shape if layer.blobs else ()
    if conv_param.group != 1 or len(shape) < 2 or shape[1] != 1 or shape[0] == 1:
        return LayerSpec(layer.param)
    param = copied(layer.param)
    param.convolution_param.group = shape[0]
    return LayerSpec(param)


def _pooling(layer: Layer) -> LayerSpec:
    """``ceil_mode`` as round_mode, of which true is the default; several sizes stay beside it."""
    param = layer.param
    if not ForkFields(layer.extra).flag("pooling_param.ceil_mode", True):
        param = copied(param)
        param.pooling_param.round_mode = param.pooling_param.FLOOR
    return _with_fields(layer, param, (*_POOLING_PADS, *SEVERAL))


def _with_fields(layer: Layer, param: Any, names: Sequence[str]) -> LayerSpec:
    """``param``, and beside it the fork's fields if one of ``names`` is there."""
    return LayerSpec(param, {} if layer.extra.keys().isdisjoint(names) else layer.extra)


# Types whose fields of forks BVLC has by another name, or could have.
_SPELLINGS: Dict[str, Callable[[Layer], LayerSpec]] = {
    **dict.fromkeys(WINDOWED, _convolution),
    **dict.fromkeys(("DepthwiseConv", "DepthwiseConvolution"), _depthwise),
    "Pooling": _pooling,
}


def spec_of(layer: Layer) -> LayerSpec:
    """What layers.shapes and the reference layers take: all that the layer's text says."""
    if layer.type in _SPELLINGS:
        return _SPELLINGS[layer.type](layer)
    return LayerSpec(layer.param, layer.extra if layer.type in READ else {})

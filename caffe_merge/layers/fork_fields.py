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
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from caffe_merge.layers.catalogue import WINDOWED
from caffe_merge.layers.layer import Layer
from caffe_merge.notes import UNKNOWN, Note, Reason
from caffe_merge.schema.messages import copied
from caffe_merge.text.values import parse_bool, parse_float, parse_integer


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

# DeepLab's dilation.
_HOLES = ("convolution_param.hole", "convolution_param.hole_h", "convolution_param.hole_w")

# What the code reads: names, or a whole block as ``block.*``.
READ: Dict[str, Tuple[str, ...]] = {
    "Axpy": (),
    "BN": ("bn_param.*",),
    "BNData": ("bn_param.*",),
    "BNHK": ("bnhk_param.*",),
    "BatchNorm": ("batch_norm_param.*",),
    "BatchNormScale": ("batch_norm_param.*",),
    "BatchNormTorch": ("batch_norm_param.*",),
    "CuDNNBatchNorm": ("cudnn_batch_norm_param.*", "batch_norm_param.*"),
    **dict.fromkeys(("Convolution", "Deconvolution"), _HOLES),
    "Dropout": ("dropout_param.scale_train", "dropout_param.sample_weights_test"),
    "Interp": (
        "interp_param", "interp_param.height", "interp_param.width", "interp_param.zoom_factor",
        "interp_param.shrink_factor", "interp_param.pad_beg", "interp_param.pad_end",
    ),
    "Normalize": (
        "norm_param", "norm_param.across_spatial", "norm_param.channel_shared", "norm_param.eps"
    ),
    "Permute": ("permute_param", "permute_param.order"),
    "Pooling": ("pooling_param.ceil_mode",),
    "ROIPooling": (
        "roi_pooling_param", "roi_pooling_param.pooled_h", "roi_pooling_param.pooled_w",
        "roi_pooling_param.spatial_scale",
    ),
    "ReLU6": ("relu6_param", "relu6_param.negative_slope"),
    "ShuffleChannel": ("shuffle_channel_param", "shuffle_channel_param.group"),
    "SyncBN": ("bn_param.*",),
    "Upsample": (
        "upsample_param", "upsample_param.scale", "upsample_param.scale_h",
        "upsample_param.scale_w", "upsample_param.pad_out_h", "upsample_param.pad_out_w",
        "upsample_param.upsample_h", "upsample_param.upsample_w",
    ),
}  # fmt: skip


def unknown_fields(layer: Layer) -> Optional[Reason]:
    """Why the layer's effect is not known, if its parameters have fields of a fork that may matter.

    A single value beside the parameters, a number format say, changes nothing that it computes.
    Bottoms of shapes that BVLC's layer does not take are a fork's too.
    """
    if layer.misfit:
        return Reason(f"{layer.misfit}: only a fork takes that", UNKNOWN)
    for name in _unknown(layer):
        if "." in name or not layer.extra[name]:
            return unknown_field(name)
    return None


def unknown_field(name: str) -> Reason:
    """The refusal for a field of which nobody here knows what it does."""
    return Reason(f"{name} is a fork's field, whose effect is not known", UNKNOWN)


def has_unknown(layer: Layer) -> bool:
    """Whether any field at all is of a fork and not known: its blobs may be others than BVLC's."""
    return any(True for _ in _unknown(layer))


def misfit_notes(layers: Iterable[Layer]) -> List[Note]:
    """A note for each layer whose bottoms have shapes that BVLC's layer does not take."""
    end = "BVLC Caffe would not build it; kept as it is, for a fork may"
    return [
        Note("fork-shape", layer.name, f"{layer.type}: {layer.misfit}: {end}")
        for layer in layers
        if layer.misfit
    ]


def _unknown(layer: Layer) -> Iterator[str]:
    read = () if _is_spelled_twice(layer) else READ.get(layer.type, ())
    for name in layer.extra:
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


class Values:
    """The values of a layer's fork fields, by dotted name; a default where one is not given.

    What is no number or truth value where one is wanted counts as not given.
    """

    def __init__(self, extra: Mapping[str, str]) -> None:
        self._extra = extra

    def __contains__(self, name: str) -> bool:
        return name in self._extra

    def word(self, name: str) -> str:
        """The text of an enum value; "" if it is not given."""
        return self._extra.get(name, "")

    def integers(self, name: str) -> Tuple[int, ...]:
        """All values of a repeated field."""
        numbers = map(parse_integer, self.word(name).split())
        return tuple(number for number in numbers if number is not None)

    def integer(self, name: str, default: int) -> int:
        """The value of an integer."""
        return (*self.integers(name), default)[0]

    def number(self, name: str, default: float) -> float:
        """The value of a float."""
        value = parse_float(self.word(name))
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        """The value of a bool."""
        value = parse_bool(self.word(name))
        return default if value is None else value


class Described:
    """A LayerParameter with the values of its fork's fields beside it, as ``values``."""

    def __init__(self, param: Any, extra: Mapping[str, str]) -> None:
        self.param = param
        self.values = Values(extra)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.param, name)


def _is_spelled_twice(layer: Layer) -> bool:
    """Whether BVLC's own field stands beside one of a fork with the same meaning."""
    if layer.type == "Pooling":
        return bool(layer.param.pooling_param.HasField("round_mode"))
    return layer.type in _SPELLINGS and bool(layer.param.convolution_param.dilation)


def _with_dilation(param: Any, values: Values) -> Any:
    """``hole``, or ``hole_h`` and ``hole_w`` of 1 where one is absent, as dilation."""
    sides = [name for name in _HOLES[1:] if name in values]
    if not sides and _HOLES[0] not in values:
        return param
    both = values.integer(_HOLES[0], 1)
    dilations = [values.integer(name, 1) for name in _HOLES[1:]] if sides else [both]
    spelled = copied(param)
    spelled.convolution_param.dilation.extend(dilations)
    return spelled


def _with_round_mode(param: Any, values: Values) -> Any:
    """``ceil_mode`` as round_mode; true is the default of both."""
    spelled = copied(param)
    if not values.flag("pooling_param.ceil_mode", True):
        spelled.pooling_param.round_mode = spelled.pooling_param.FLOOR
    return spelled


# Fields of forks that BVLC has by another name: the layer's parameters, in BVLC's terms.
_SPELLINGS: Dict[str, Callable[[Any, Values], Any]] = {
    "Convolution": _with_dilation,
    "Deconvolution": _with_dilation,
    "Pooling": _with_round_mode,
}


def described(layer: Layer) -> Any:
    """What layers.shapes and the reference layers take: all that the layer's text says."""
    if layer.extra and layer.type in _SPELLINGS:
        return _SPELLINGS[layer.type](layer.param, Values(layer.extra))
    if layer.extra and layer.type in READ:
        return Described(layer.param, layer.extra)
    return layer.param

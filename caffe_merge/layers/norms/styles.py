"""The table of styles: who writes such a layer, its blobs, its formula, how it is recognised.

A style fits a layer if its type, the number and sizes of its blobs, and every field of its block
are the style's. Of the fields in ``needs`` one must be there. ``only_by_flag`` marks a style that
files do not show: only --bn-style chooses it.
"""

from typing import Callable, FrozenSet, NamedTuple, Optional, Tuple

from caffe_merge.errors import OptionName, Text
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.norms import rules
from caffe_merge.layers.norms.formulas import SMALLEST
from caffe_merge.layers.norms.rules import BlockFields
from caffe_merge.layers.spec import ForkFields


class Style(NamedTuple):
    """One row. ``statistics`` returns why the stored statistics are not used; None if they are."""

    name: str
    forks: str
    types: Tuple[str, ...]
    order: Tuple[str, ...]
    formula: str
    when: str
    fields: FrozenSet[str]
    statistics: Callable[[Layer, BlockFields], Optional[str]]
    eps: Callable[[Layer, ForkFields], float]
    needs: FrozenSet[str] = frozenset()
    only_by_flag: bool = False
    four_axes: bool = False  # its blobs are (1, C, 1, 1) and those of its rivals are not
    eps_outside_root: bool = False  # eps is added to the square root
    factors: Tuple[float, ...] = ()  # the values its third blob may have; () is any
    has_scale: bool = True  # its forks have a Scale layer
    adjust: Callable[[BlockFields], Tuple[str, ...]] = lambda fields: ()  # its unused blobs


def _fields(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


# -- the table ----------------------------------------------------------------------------------

_BVLC_READ = "update_global_stats icnet engine filler bias_filler scale_filler use_weight_bias "
_BVLC_READ += "bias_term stats_batch_size relu use_alpha_beta"
_NVIDIA = _fields("scale_filler bias_filler scale_bias engine")
_INTEL = _fields("engine use_weight_bias bias_term filler bias_filler stats_batch_size relu")
_HAPPYNEAR = _fields("disable_mean disable_variance scale_filler bias_filler engine")
_YJXIONG = _fields("slope_filler bias_filler momentum eps frozen engine")
_SYNOPSYS = _fields("add_eps_before_sqrt update_global_stats icnet")
_DUCHA = _fields("scale_filler shift_filler var_eps moving_average decay sync_forward")
_STATISTICS = ("mean", "variance", "factor")
_SLOPE = ("scale", "bias", "mean", "variance")
_ASKED_FOR = Text("never by itself: only with ", OptionName("bn_style"))


def _disabled(fields: BlockFields) -> Tuple[str, ...]:
    return tuple(
        name
        for name in ("mean", "variance")
        if fields.get(f"disable_{name}", "false") in rules.TRUE
    )


STYLES: Tuple[Style, ...] = (
    Style(
        "bvlc",
        "BVLC, and most forks: SSD, Intel with engine CAFFE, PSPNet, Cambricon, sophgo, ENet",
        ("BatchNorm",),
        _STATISTICS,
        "(x - s mean) / sqrt(s variance + eps), s = 1 / factor, 0 if factor is 0",
        "3 blobs",
        _fields(_BVLC_READ),
        rules.bvlc_like,
        rules.own_eps,
    ),
    Style(
        "nvidia",
        "NVIDIA 0.16 and 0.17, jacinto",
        ("BatchNorm",),
        ("mean", "variance", "unused"),
        "(x - mean) / sqrt(variance + max(eps, 1e-5))",
        "3 blobs, the last of them 0 or 1, and scale_bias or engine: CUDNN",
        _NVIDIA,
        rules.by_phase,
        rules.own_clamped,
        needs=_fields("scale_bias engine=CUDNN"),
        factors=(0.0, 1.0),
    ),
    Style(
        "nvidia",
        "NVIDIA 0.16 and 0.17 with scale_bias, jacinto",
        ("BatchNorm",),
        ("mean", "variance", "unused", "scale", "bias"),
        "scale (x - mean) / sqrt(variance + max(eps, 1e-5)) + bias",
        "5 blobs, the third of one value, 0 or 1",
        _NVIDIA,
        rules.by_phase,
        rules.own_clamped,
        factors=(0.0, 1.0),
    ),
    Style(
        "nvidia-0.15",
        "NVIDIA 0.15, Xilinx",
        ("BatchNorm",),
        ("scale", "bias", "mean", "variance", "unused"),
        "scale (x - mean) / sqrt(variance + max(eps, 1e-5)) + bias; "
        "eps as it is with engine: CAFFE",
        "5 blobs, the last of one value",
        _NVIDIA,
        rules.by_engine,
        rules.eps_by_engine,
    ),
    Style(
        "nvidia-0.14",
        "NVIDIA 0.14 with cuDNN",
        ("BatchNorm",),
        ("scale", "bias", "unused", "mean", "variance"),
        "scale (x - mean) / sqrt(variance + 1e-4) + bias",
        "5 blobs of shape (1, C, 1, 1), the third of one value",
        _NVIDIA,
        rules.by_phase,
        lambda layer, values: 1e-4,
        four_axes=True,
    ),
    Style(
        "intel",
        "Intel with engine MKL2017 or MKLDNN",
        ("BatchNorm",),
        (*_STATISTICS, "scale", "bias"),
        "scale (x - s mean) / sqrt(s variance + eps) + bias, s = 1 / factor, 0 if factor is 0",
        "5 blobs, the third of one value",
        _INTEL,
        rules.bvlc_like,
        rules.own_eps,
    ),
    Style(
        "intel",
        "Intel with engine MKL2017 or MKLDNN, bias_term: false",
        ("BatchNorm",),
        (*_STATISTICS, "scale"),
        "scale (x - s mean) / sqrt(s variance + eps), s = 1 / factor, 0 if factor is 0",
        "4 blobs, the third of one value",
        _INTEL,
        rules.bvlc_like,
        rules.own_eps,
    ),
    Style(
        "cambricon",
        "Cambricon with use_alpha_beta",
        ("BatchNorm",),
        (*_STATISTICS, "scale", "bias"),
        "alpha (x - s mean) / sqrt(s variance + eps) + beta, s = 1 / factor, 0 if factor is 0",
        "5 blobs, the third of one value, and use_alpha_beta",
        _fields("use_alpha_beta engine"),
        rules.by_global_stats,
        rules.own_eps,
        needs=_fields("use_alpha_beta=true"),
    ),
    Style(
        "happynear",
        "happynear",
        ("BatchNorm",),
        _STATISTICS,
        "as bvlc, without the mean if disable_mean, without the division if disable_variance",
        "3 blobs, and disable_mean or disable_variance",
        _HAPPYNEAR,
        rules.by_global_stats,
        rules.own_eps,
        needs=_fields("disable_mean disable_variance"),
        adjust=_disabled,
    ),
    Style(
        "synopsys",
        "synopsys with add_eps_before_sqrt: false",
        ("BatchNorm",),
        _STATISTICS,
        "(x - s mean) / (sqrt(s variance) + eps), s = 1 / factor, 0 if factor is 0",
        "3 blobs, and add_eps_before_sqrt: false",
        _SYNOPSYS,
        rules.by_global_stats,
        rules.own_eps,
        needs=_fields("add_eps_before_sqrt=false"),
        eps_outside_root=True,
    ),
    Style(
        "synopsys",
        "synopsys",
        ("BatchNorm",),
        _STATISTICS,
        "as bvlc",
        "3 blobs, and add_eps_before_sqrt: true",
        _SYNOPSYS,
        rules.by_global_stats,
        rules.own_eps,
        needs=_fields("add_eps_before_sqrt=true"),
    ),
    Style(
        "segnet",
        "SegNet, ENet, ERFNet, DeconvNet; sophgo and synopsys with bn_mode: INFERENCE",
        ("BN",),
        ("scale", "bias"),
        "scale x + bias",
        "2 blobs, and bn_mode: INFERENCE",
        _YJXIONG | _DUCHA | _fields("bn_mode icnet across_spatial"),
        rules.bn_mode,
        rules.eps_given("eps", 0.0),
        has_scale=False,
    ),
    Style(
        "yjxiong",
        "PSPNet, yjxiong, ECO, P3D, happynear, BannyStone, Cambricon, CaffeMex's BNHK, SyncBN",
        ("BN", "SyncBN", "BNHK"),
        _SLOPE,
        "slope (x - mean) / sqrt(variance + eps) + bias, eps 1e-5",
        "4 blobs, no field of another fork's BN; variance, not its inverse, is taken for granted",
        _YJXIONG,
        rules.frozen,
        rules.eps_given("eps", 1e-5),
    ),
    Style(
        "yjxiong-cudnn",
        "yjxiong built with cuDNN",
        ("BN", "SyncBN", "BNHK"),
        _SLOPE,
        "slope (x - mean) / sqrt(variance + max(eps, 1e-5)) + bias",
        "4 blobs; differs from yjxiong only for an eps below 1e-5, where it has to be asked for",
        _YJXIONG,
        rules.frozen,
        rules.eps_given("eps", 1e-5, SMALLEST),
    ),
    Style(
        "yjxiong-invstd",
        "yjxiong from 2015-12-16 to 2016-04-26",
        ("BN",),
        ("scale", "bias", "mean", "inverse"),
        "slope (x - mean) inverse + bias",
        _ASKED_FOR,
        _YJXIONG,
        rules.frozen,
        rules.eps_given("eps", 0.0),
        only_by_flag=True,
    ),
    Style(
        "yjxiong-2015",
        "yjxiong before 2015-12",
        ("BN",),
        _SLOPE,
        "slope (x - mean) / sqrt(variance + eps) + bias, eps 1e-7",
        "4 blobs, and moving_average",
        _fields("slope_filler bias_filler moving_average momentum eps frozen"),
        rules.moving_average,
        rules.eps_given("eps", 1e-7),
        needs=_fields("moving_average"),
    ),
    Style(
        "lxx1991",
        "lxx1991",
        ("BN", "SyncBN"),
        _SLOPE,
        "as yjxiong",
        "4 blobs, and moving_average or one of rebn, relax_iter, max_r, max_d",
        _YJXIONG | _fields("moving_average rebn relax_iter max_r max_d"),
        rules.frozen,
        rules.eps_given("eps", 1e-5),
        needs=_fields("moving_average rebn relax_iter max_r max_d"),
    ),
    Style(
        "sophgo",
        "sophgo; synopsys with icnet",
        ("BN",),
        _SLOPE,
        "as yjxiong",
        "4 blobs, and bn_mode: LEARN or icnet: true, or fields of both yjxiong and segnet",
        _YJXIONG | _fields("bn_mode icnet scale_filler shift_filler"),
        rules.frozen,
        rules.eps_given("eps", 1e-5),
        needs=_fields("bn_mode icnet slope_filler momentum eps frozen"),
    ),
    Style(
        "ducha-aiki",
        "ducha-aiki (BVLC pull request 1965), CaffeMex with BNData",
        ("BN", "BNData"),
        _SLOPE,
        "scale (x - mean) / sqrt(variance + var_eps) + shift, var_eps 1e-10",
        "4 blobs, no field of another fork's BN",
        _DUCHA,
        rules.moving_average,
        rules.eps_given("var_eps", 1e-10),
    ),
    Style(
        "cudnn-batch-norm",
        "GENet",
        ("CuDNNBatchNorm",),
        _SLOPE,
        "scale (x - mean) / sqrt(variance + max(eps, 1e-5)) + bias",
        "4 blobs",
        _fields("frozen momentum eps scale_filler bias_filler engine"),
        rules.frozen,
        rules.cudnn_batch_norm,
    ),
    Style(
        "cudnn-batch-norm-mnn",
        "as MNN's converter reads it",
        ("CuDNNBatchNorm",),
        ("mean", "variance", "scale", "bias"),
        "scale (x - mean) / sqrt(variance + max(eps, 1e-5)) + bias",
        "4 blobs",
        _fields("frozen momentum eps scale_filler bias_filler engine"),
        rules.frozen,
        rules.cudnn_batch_norm,
    ),
    Style(
        "batch-norm-torch",
        "not known",
        ("BatchNormTorch",),
        ("mean", "variance", "unused", "scale", "bias"),
        "scale (x - mean) / sqrt(variance + eps) + bias",
        _ASKED_FOR,
        _fields(""),
        rules.by_global_stats,
        rules.own_eps,
        only_by_flag=True,
    ),
    Style(
        "batch-norm-scale",
        "not known",
        ("BatchNormScale",),
        (*_STATISTICS, "scale", "bias"),
        "as intel",
        _ASKED_FOR,
        _fields(""),
        rules.by_global_stats,
        rules.own_eps,
        only_by_flag=True,
    ),
)

TYPES = frozenset(kind for style in STYLES for kind in style.types)
OF_TYPE = {kind: [style for style in STYLES if kind in style.types] for kind in TYPES}


def blocks(kind: str) -> Tuple[str, ...]:
    """The blocks of the text that the fields of a type are in."""
    return CATALOGUE[kind].blocks if kind in TYPES else ("bn_param",)


def block_fields(layer: Layer) -> BlockFields:
    """The fork's fields of the layer's own block, without those inside blocks in it."""
    fields: BlockFields = {}
    for name, text in layer.extra.items():
        block, _, inner = name.partition(".")
        if inner and block in blocks(layer.type):
            fields.setdefault(inner.split(".")[0], "" if "." in inner else text)
    return fields

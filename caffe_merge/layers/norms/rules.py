"""Rules of the styles: whether the stored statistics are used, and which eps."""

from __future__ import annotations

from typing import Callable, Dict, Optional

from caffe_merge.layers.layer import Layer
from caffe_merge.layers.norms.formulas import SMALLEST
from caffe_merge.layers.spec import ForkFields

BlockFields = Dict[str, str]  # the fork's fields of a layer's own block: name -> text


# -- statistics ---------------------------------------------------------------------------------

BATCH = "it normalises by each batch's statistics"
FLAG_FALSE = f"use_global_stats is false: {BATCH}"


def by_global_stats(layer: Layer, fields: BlockFields) -> Optional[str]:
    """BVLC: use_global_stats if it is there, else the phase."""
    param = layer.param.batch_norm_param
    if param.HasField("use_global_stats"):
        return None if param.use_global_stats else FLAG_FALSE
    return by_phase(layer, fields)


def by_phase(layer: Layer, fields: BlockFields) -> Optional[str]:
    """NVIDIA from 0.16 on, and cuDNN engines: the phase alone."""
    return f"its phase is TRAIN: {BATCH}" if layer.trains else None


def by_engine(layer: Layer, fields: BlockFields) -> Optional[str]:
    """NVIDIA 0.15: its cuDNN engine does not read use_global_stats (cudnn_batch_norm_layer.cu).

    That engine's blobs are (1, C, 1, 1), the CAFFE engine's are (C) (batch_norm_layer.cpp): they
    tell which one wrote the file where the text does not say which one is to run it.
    """
    engine = fields.get("engine", "DEFAULT")
    if engine in _DEFAULT and all(len(blob.shape) == 4 for blob in layer.blobs):
        engine = _CUDNN[0]
    rule = by_phase if engine in _CUDNN else by_global_stats
    return rule(layer, fields)


def bvlc_like(layer: Layer, fields: BlockFields) -> Optional[str]:
    """BVLC's rule, for Intel's and Cambricon's text too."""
    if fields.get("relu", "false") not in FALSE:
        return "relu is true: the layer is a ReLU too where Intel's MKLDNN engine runs it"
    if fields.get("use_alpha_beta", "false") not in FALSE:
        return "use_alpha_beta is true, and the file has no alpha and beta"
    return by_global_stats(layer, fields)


def frozen(layer: Layer, fields: BlockFields) -> Optional[str]:
    """Yjxiong's BN of four blobs: frozen, or the phase."""
    if fields.get("bn_mode") in ("INFERENCE", "1"):
        return "bn_mode is INFERENCE, for which two blobs are wanted"
    if "icnet" in fields and fields["icnet"] in FALSE:
        return "icnet is false, for which two blobs are wanted"
    is_frozen = fields.get("frozen", "false") in TRUE and layer.type != "SyncBN"
    return None if is_frozen else by_phase(layer, fields)


def moving_average(layer: Layer, fields: BlockFields) -> Optional[str]:
    """ducha-aiki's BN: stored averages unless it says otherwise."""
    if fields.get("moving_average", "true") in FALSE:
        return f"moving_average is false: {BATCH}"
    return by_phase(layer, fields)


def bn_mode(layer: Layer, fields: BlockFields) -> Optional[str]:
    """SegNet's BN: LEARN is the default, whatever the phase."""
    if fields.get("bn_mode", "LEARN") not in ("INFERENCE", "1"):
        return f"bn_mode is not INFERENCE: {BATCH}"
    return None


TRUE = ("true", "True", "t", "1")
FALSE = ("false", "False", "f", "0")
_CUDNN = ("CUDNN", "2")
_DEFAULT = ("DEFAULT", "0")


# -- eps ----------------------------------------------------------------------------------------


def own_eps(layer: Layer, values: ForkFields) -> float:
    """The field that BVLC's schema has."""
    return float(layer.param.batch_norm_param.eps)


def own_clamped(layer: Layer, values: ForkFields) -> float:
    """The same, at least cuDNN's minimum."""
    return max(own_eps(layer, values), SMALLEST)


def eps_by_engine(layer: Layer, values: ForkFields) -> float:
    """NVIDIA 0.15: engine CAFFE does not clamp."""
    caffe = values.word("engine") in ("CAFFE", "1")
    return own_eps(layer, values) if caffe else own_clamped(layer, values)


def eps_given(
    name: str, default: float, least: float = 0.0
) -> Callable[[Layer, ForkFields], float]:
    """A field of the fork's own block."""
    return lambda layer, values: max(values.number(name, default), least)


def cudnn_batch_norm(layer: Layer, values: ForkFields) -> float:
    """Its own block's eps, or that of batch_norm_param in other copies."""
    return max(values.number("eps", own_eps(layer, values)), SMALLEST)

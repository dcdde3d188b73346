"""Layers that normalise by stored statistics: BVLC's BatchNorm and those of forks."""

from caffe_merge.layers.norms.intel import neutralise_absorbed
from caffe_merge.layers.norms.recognise import (
    affine_of,
    as_statistics,
    choose_style,
    fits_a_style,
    foreign_field,
    has_scale,
    notes,
    own_blocks,
    style_of,
)
from caffe_merge.layers.norms.styles import STYLES, TYPES, Style

__all__ = [
    "STYLES",
    "TYPES",
    "Style",
    "affine_of",
    "as_statistics",
    "choose_style",
    "fits_a_style",
    "foreign_field",
    "has_scale",
    "neutralise_absorbed",
    "notes",
    "own_blocks",
    "style_of",
]

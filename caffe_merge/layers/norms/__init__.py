"""Layers that normalise by stored statistics: BVLC's BatchNorm and those of forks."""

from caffe_merge.layers.norms.intel import absorbed
from caffe_merge.layers.norms.recognise import (
    affine,
    choose,
    fitting,
    foreign,
    has_scale,
    notes,
    own_blocks,
    style_of,
    terms,
)
from caffe_merge.layers.norms.styles import STYLES, TYPES, Style

__all__ = [
    "STYLES",
    "TYPES",
    "Style",
    "absorbed",
    "affine",
    "choose",
    "fitting",
    "foreign",
    "has_scale",
    "notes",
    "own_blocks",
    "style_of",
    "terms",
]

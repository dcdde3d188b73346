"""Layers that normalise by stored statistics, BVLC's BatchNorm and those of forks.

    TYPES                the type strings
    style_of             the style of a layer, by its type, fields and blobs; or why it has none
    affine_of            the affine map per channel that it computes
    as_statistics        the same as mean, variance, scale and bias, for the reference layers
    fits_a_style         whether blobs have the number and shapes of one of the styles
    foreign_field        a field of a layer that belongs to no style
    choose_style         applies what the user says with --bn-style
    has_scale            whether the forks of its style have a Scale layer
    notes                what a user should know of the styles in a net
    neutralise_absorbed  makes Scales that Intel Caffe saved in a BatchNorm identities
    own_blocks           the text blocks that belong to such a layer's type

A style is a row of the table in ``styles.py``; docs/forks.md shows it. Where several fit, and give
other results, the layer is refused.
"""

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

"""Layers that normalise by stored statistics, BVLC's BatchNorm and those of forks.

    TYPES       the type strings
    style_of    which style a layer is of, by its type, its fields and its blobs; or why none
    affine      the map per channel that it is
    terms       the same as mean, variance, scale and bias, for the reference layers
    fitting     whether blobs are those of one of the styles
    foreign     a field of a layer that is of no style at all
    choose      what the user says with --bn-style
    notes       what a user should know of the styles found
    absorbed    Scales whose weights Intel Caffe saved in the BatchNorm before them
    own_blocks  the blocks of the text that go with such a layer

A style is a row of the table in ``styles.py``; docs/forks.md shows it. Where several fit, and give
other results, the layer is refused.
"""

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

"""Prior boxes of detectors: where they are, which the sizes of two blobs and the text say."""

from __future__ import annotations

from math import prod, sqrt
from typing import Dict, List, Optional, Tuple

from caffe_merge.arrays import Shape
from caffe_merge.layers.shapes.geometry import Rule, error, legacy
from caffe_merge.layers.spec import LayerSpec

Sizes = List[Tuple[float, float]]  # width and height in pixels


def box_sizes(layer: LayerSpec) -> Sizes:
    """The boxes around each place (SSD, prior_box_layer.cpp), sizes cut to whole pixels.

    For each min_size s: s x s; with a max_size S a square of sqrt(s S); and s sqrt(r) x s / sqrt(r)
    for each aspect_ratio r that is not 1, and with ``flip`` for 1 / r.
    """
    smallest, largest = ([int(s) for s in _numbers(layer, f"{m}_size")] for m in ("min", "max"))
    if not smallest or len(largest) not in (0, len(smallest)):
        raise error(layer, "a min_size, and a max_size for all or none", (smallest, largest))
    sizes = []
    for index, side in enumerate(smallest):
        squares = [float(side), *[sqrt(side * larger) for larger in largest[index : index + 1]]]
        sizes += [(square, square) for square in squares]
        sizes += [(side * sqrt(ratio), side / sqrt(ratio)) for ratio in _ratios(layer)]
    return sizes


def _ratios(layer: LayerSpec) -> List[float]:
    """The aspect ratios without 1, each once."""
    ratios = [1.0]
    for ratio in _numbers(layer, "aspect_ratio"):
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios.append(ratio)
            if layer.fork.flag("prior_box_param.flip", True):
                ratios.append(1 / ratio)
    return [ratio for ratio in ratios if abs(ratio - 1) >= 1e-6]


def clustered_sizes(layer: LayerSpec) -> Sizes:
    """The boxes that the text lists (OpenVINO, prior_box_clustered_layer.cpp)."""
    widths, heights = _numbers(layer, "width"), _numbers(layer, "height")
    if not widths or len(widths) != len(heights):
        raise error(layer, "as many heights as widths, at least one", (widths, heights))
    return list(zip(widths, heights))


def variances(layer: LayerSpec) -> Tuple[float, ...]:
    """One for each coordinate of a box."""
    variances = _numbers(layer, "variance") or (0.1,)
    if len(variances) not in (1, 4):
        raise error(layer, "1 or 4 variances", len(variances))
    return variances * (4 // len(variances))


def _numbers(layer: LayerSpec, name: str) -> Tuple[float, ...]:
    numbers = layer.fork.numbers(f"prior_box_param.{name}")
    if not all(0 < number < 2**24 for number in numbers):
        raise error(layer, f"each {name} larger than 0", numbers)
    return numbers


SIZES = {"PriorBox": box_sizes, "PriorBoxClustered": clustered_sizes}


def _priors(layer: LayerSpec, bottoms: List[Shape]) -> Optional[List[Shape]]:
    """Boxes in one row, their variances in another; one set for all images."""
    if len(bottoms) != 2:  # the second tells the size of the image
        return None
    variances(layer)
    places = prod(legacy(layer, bottoms[0])[2:])
    return [(1, 2, 4 * places * len(SIZES[layer.type](layer)))]


RULES: Dict[str, Rule] = dict.fromkeys(SIZES, Rule(_priors, bottoms=(1, None)))

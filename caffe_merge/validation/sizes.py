"""What a forward pass costs at other input shapes, and whether a net's layers allow them."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from caffe_merge.arrays import BlobShape, Shape
from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from caffe_merge.layers.spec import LayerSpec

Weights = List[Optional[List[BlobShape]]]


class Walk(NamedTuple):
    """The result of going through the layers once: their cost, largest blob, weights."""

    multiply_adds: int
    largest: int
    weights: Weights


class Cost:
    """Multiply-adds of a net (its layers, in order) as a function of its inputs.

    Layers of unknown type, and what depends on them, count nothing.
    """

    def __init__(self, specs: Sequence[LayerSpec], declared: Dict[str, Shape]) -> None:
        self._specs = specs
        self._walks: Dict[Any, Walk] = {}  # by the shapes of the inputs
        try:
            self._weights = self._walk(declared).weights
        except NetError:  # the shapes module is stricter than the engine: leave the net alone
            self._weights = []

    def __call__(self, inputs: Dict[str, Shape]) -> Optional[int]:
        """The cost at ``inputs``; None where a layer forbids them or its weights would not fit."""
        try:
            walk = self._walk(inputs)
        except NetError:
            return None
        return walk.multiply_adds if walk.weights == self._weights else None

    def largest(self, inputs: Dict[str, Shape]) -> int:
        """The number of values in the largest blob at ``inputs``, as far as it is known."""
        try:
            return self._walk(inputs).largest
        except NetError:  # the engine will say what is wrong
            return 0

    def _walk(self, inputs: Dict[str, Shape]) -> Walk:
        key = frozenset((name, tuple(shape)) for name, shape in inputs.items())
        if key not in self._walks:
            self._walks[key] = self._walked(inputs)
        return self._walks[key]

    def _walked(self, inputs: Dict[str, Shape]) -> Walk:
        shape_of: Dict[str, Optional[Shape]] = {}
        weights: Weights = []
        total = 0
        largest = max((math.prod(shape) for shape in inputs.values()), default=0)
        for spec in self._specs:
            param = spec.param
            fed = not param.bottom and not inputs.keys().isdisjoint(param.top)
            if param.type == "Input" or fed:
                shape_of.update({top: inputs.get(top) for top in param.top})
                continue
            bottoms = [shape_of.get(bottom) for bottom in param.bottom]
            tops = shapes.tops(spec, bottoms)
            weights.append(shapes.blobs(spec, bottoms))
            unknown: List[Optional[Shape]] = [None] * len(param.top)
            shape_of.update(zip(param.top, unknown if tops is None else tops))
            largest = max([largest, *(math.prod(top) for top in tops or [])])
            if tops:  # so every bottom is known
                total += (
                    shapes.multiply_adds(spec, [b for b in bottoms if b is not None], tops) or 0
                )
        return Walk(total, largest, weights)

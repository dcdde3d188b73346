"""What a forward pass costs at other input shapes, and whether the layers of nets allow them."""

import math
from functools import cached_property
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from caffe_merge.arrays import BlobShape, Shape
from caffe_merge.errors import NetError
from caffe_merge.layers import shapes
from caffe_merge.layers.catalogue import that
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.net.data_layers import source_shapes
from caffe_merge.validation.run import Version

_ABSOLUTE = that("absolute")
Weights = List[Optional[List[BlobShape]]]
Bottoms = List[Optional[Shape]]
Shapes = Dict[Version, Shape]


class Walk(NamedTuple):
    """The result of going through the layers once: their cost, largest blob, what each reads.

    ``tops`` are the shapes that are known of what the layers make.
    """

    multiply_adds: int
    largest: int
    bottoms: List[Bottoms]
    tops: Shapes


class Cost:
    """Multiply-adds of a net (its layers, in order) as a function of its inputs.

    Layers of unknown type, and what depends on them, count nothing. ``declared`` are the shapes of
    its inputs by its text.
    """

    def __init__(self, specs: Sequence[LayerSpec], declared: Dict[str, Shape]) -> None:
        self._specs = specs
        self.declared = declared
        self._walks: Dict[Any, Walk] = {}  # by the shapes of the inputs

    def __call__(self, inputs: Dict[str, Shape]) -> Optional[int]:
        """The cost at ``inputs``; None where a layer forbids them or its weights would not fit.

        None too where the rules, stricter than the engine, forbid what is declared.
        """
        try:
            walk = self._walk(inputs)
            as_declared = self._walk(self.declared)
            if walk is not as_declared and self._weights(walk) != self._declared_weights:
                return None
        except NetError:
            return None
        return walk.multiply_adds

    def largest(self, inputs: Dict[str, Shape]) -> int:
        """The number of values in the largest blob at ``inputs``, as far as it is known."""
        try:
            return self._walk(inputs).largest
        except NetError:  # the engine will say what is wrong
            return 0

    def tops(self, inputs: Dict[str, Shape]) -> Shapes:
        """The shapes of what layers make of ``inputs``, as far as they are known."""
        try:
            return self._walk(inputs).tops
        except NetError:
            return {}

    @cached_property
    def _declared_weights(self) -> Weights:
        return self._weights(self._walk(self.declared))

    def _weights(self, walk: Walk) -> Weights:
        """The shapes of weights that fit what layers read; raises NetError where none can."""
        return list(map(shapes.blobs, self._specs, walk.bottoms))

    def _walk(self, inputs: Dict[str, Shape]) -> Walk:
        key = frozenset((name, tuple(shape)) for name, shape in inputs.items())
        if key not in self._walks:
            self._walks[key] = self._walked(inputs)
        return self._walks[key]

    def _walked(self, inputs: Dict[str, Shape]) -> Walk:
        shape_of: Dict[str, Optional[Shape]] = {}
        read: List[Bottoms] = []
        top_shapes: Shapes = {}
        total = 0
        largest = max((math.prod(shape) for shape in inputs.values()), default=0)
        for index, spec in enumerate(self._specs):
            param = spec.param
            bottoms = [shape_of.get(bottom) for bottom in param.bottom]
            read.append(bottoms)
            sources = source_shapes(param, inputs)
            if sources:
                shape_of.update(sources)
                continue
            tops = shapes.tops(spec, bottoms)
            unknown: List[Optional[Shape]] = [None] * len(param.top)
            shape_of.update(zip(param.top, unknown if tops is None else tops))
            largest = max([largest, *(math.prod(top) for top in tops or [])])
            top_shapes.update(((name, index), top) for name, top in zip(param.top, tops or ()))
            if tops:  # so every bottom is known
                known_bottoms = [bottom for bottom in bottoms if bottom is not None]
                total += shapes.multiply_adds(spec, known_bottoms, tops) or 0
        return Walk(total, largest, read, top_shapes)


class CostOfBoth:
    """Multiply-adds of the old net, where both nets may be run at the inputs in question.

    ``pairs`` are the versions of blobs that are to be compared, of the old net and of the new one;
    ``changed`` are the layers of either that the other one has not.
    """

    def __init__(
        self,
        old: Cost,
        new: Cost,
        pairs: Sequence[Tuple[Version, Version]],
        changed: Iterable[Any] = (),
    ) -> None:
        self._old, self._new = old, new
        self._pairs = pairs
        self._is_fixed = any(layer.type in _ABSOLUTE for layer in changed)

    def __call__(self, inputs: Dict[str, Shape]) -> Optional[int]:
        """The cost at ``inputs``; None where one of the nets forbids them, as `Cost` has it.

        None too where shapes differ that are the same at the declared size, or a layer has changed
        that may do the same at one size alone: one net gives as a number what the other makes of
        its inputs.
        """
        cost = self._old(inputs)
        if inputs == self._old.declared or cost is None:
            return cost
        if self._is_fixed or self._new(inputs) is None:
            return None
        return cost if self._alike(*self.tops(inputs)) >= self._alike_as_declared else None

    def largest(self, inputs: Dict[str, Shape]) -> int:
        """The number of values in the largest blob of the old net at ``inputs``."""
        return self._old.largest(inputs)

    def tops(self, inputs: Dict[str, Shape]) -> Tuple[Shapes, Shapes]:
        """The shapes of what the layers of both nets make of ``inputs``, as `Cost` has them."""
        return self._old.tops(inputs), self._new.tops(inputs)

    @cached_property
    def _alike_as_declared(self) -> Set[int]:
        return self._alike(*(cost.tops(cost.declared) for cost in (self._old, self._new)))

    def _alike(self, was: Shapes, now: Shapes) -> Set[int]:
        """The pairs, by number, of one shape, or of shapes that are not known."""
        return {
            number
            for number, (before, after) in enumerate(self._pairs)
            if was.get(before) == now.get(after) or None in (was.get(before), now.get(after))
        }

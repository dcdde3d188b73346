"""What a forward pass costs at other input shapes, and whether a net's layers allow them."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from caffe_merge import shapes
from caffe_merge.errors import NetError

Shape = Tuple[int, ...]
Walk = Tuple[int, List[Optional[List[shapes.BlobShape]]]]


class Cost:
    """Multiply-adds of a net (LayerParameter messages, in order) as a function of its inputs.

    Layers of unknown type, and what depends on them, count nothing.
    """

    def __init__(self, params: Sequence[Any], declared: Dict[str, Shape]) -> None:
        self._params = params
        try:
            _, self._weights = self._walk(declared)
        except NetError:  # the shapes module is stricter than the engine: leave the net alone
            self._weights = []

    def __call__(self, inputs: Dict[str, Shape]) -> Optional[int]:
        """The cost at ``inputs``; None where a layer forbids them or its weights would not fit."""
        try:
            cost, weights = self._walk(inputs)
        except NetError:
            return None
        return cost if weights == self._weights else None

    def _walk(self, inputs: Dict[str, Shape]) -> Walk:
        known: Dict[str, Optional[Shape]] = {}
        weights: List[Optional[List[shapes.BlobShape]]] = []
        total = 0
        for param in self._params:
            fed = not param.bottom and not inputs.keys().isdisjoint(param.top)
            if param.type == "Input" or fed:
                known.update({top: inputs.get(top) for top in param.top})
                continue
            bottoms = [known.get(bottom) for bottom in param.bottom]
            tops = shapes.tops(param, bottoms)
            weights.append(shapes.blobs(param, bottoms))
            unknown: List[Optional[Shape]] = [None] * len(param.top)
            known.update(zip(param.top, unknown if tops is None else tops))
            if tops:  # so every bottom is known
                total += (
                    shapes.multiply_adds(param, [b for b in bottoms if b is not None], tops) or 0
                )
        return total, weights

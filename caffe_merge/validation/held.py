"""Which versions of two nets hold the same values: given to both, compared, or made alike.

Layers that are the same and read the same make the same, whether an engine can run them or not.
"""

from typing import AbstractSet, Any, List, NamedTuple, Sequence, Set

from caffe_merge.layers.moving import reads_shape_only
from caffe_merge.validation.pairing import Pair, Pairing, tops


class Held(NamedTuple):
    """``same`` are pairs of versions, of the old net and of the new one, that hold the same values.

    ``astray`` are the new net's black boxes that were not shown to read what the old net's read:
    the values that stand in for what they make show nothing.
    """

    same: Set[Pair]
    astray: List[int]


def held(
    pairing: Pairing,
    before: Sequence[Any],
    after: Sequence[Any],
    equal: AbstractSet[Pair],
    equal_shapes: AbstractSet[Pair],
) -> Held:
    """Follow the nets from what was given to both or compared.

    ``equal`` have the same values in the same shape, ``equal_shapes`` at least the same shape.
    """
    same = set(equal)
    astray: List[int] = []
    boxes = set(pairing.boxes)
    for index, twin in sorted(pairing.twins.items()):
        if not after[index].param.bottom:
            continue
        reads = zip(pairing.reads[0][twin], pairing.reads[1][index])
        if all(
            both in same or (both in equal_shapes and reads_shape_only(after[index], number))
            for number, both in enumerate(reads)
        ):
            same.update(tops(before, after, index, twin))
        elif index in boxes:
            astray.append(index)
    return Held(same, astray)

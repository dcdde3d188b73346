"""Where two nets must hold the same values, found from their layers before anything is run.

Two layers are twins if they have the same name, type, parameters and weights; their bottoms and
tops may have other names. The nets are compared at points: what twins read, the outputs of the
nets, and what a name holds in the end in both nets. A point is firm if both nets must agree there:

- an output;
- a name that twins write last in both nets;
- what twins read, if each of their tops is a firm point itself.

Names are trusted in the first comparison only. If it fails there is a second one (not ``by_name``),
in which the names that twins write are not firm.

At any other point a blob may have kept its name and hold something else: that of a convolution that
has taken in a BatchNorm, or of a ReLU that a scale was moved through.
"""

from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.catalogue import DROPOUT, of_family
from caffe_merge.layers.moving import reads_shape_only
from caffe_merge.net.data_layers import data_layers
from caffe_merge.validation.run import Plan, Version, outputs

# Fields that do not change what a layer computes from its bottoms.
_ASIDE = ("bottom", "top", "param", "include", "exclude", "loss_weight", "propagate_down", "blobs")
_TRANSPARENT = frozenset(("Split", *of_family(DROPOUT)))

Pair = Tuple[Version, Version]


class Point(NamedTuple):
    """A version of a blob in each net; ``name`` is the old net's, ``output`` one of its outputs.

    ``reader`` is the layer that reads it where the name holds something else in the end.
    """

    name: str
    before: Version
    after: Version
    output: bool = False
    firm: bool = False
    reader: str = ""


class Pairing(NamedTuple):
    """The points, in the old net's order, and what else is known before the nets are run.

    ``twins`` are indices of layers, new -> old. ``rewritten`` are the new net's layers without a
    twin, or whose tops replace those of another layer; each of them must be seen. ``missing`` are
    the old net's outputs that the new one does not have. ``fed`` are the new net's versions that
    both nets are fed, ``reads`` the versions that each of its layers reads. ``changed`` are the
    layers without a twin, of the old and of the new net. ``by_name``: see pair.
    """

    points: Tuple[Point, ...]
    twins: Dict[int, int]
    rewritten: Tuple[int, ...]
    missing: Tuple[str, ...]
    fed: FrozenSet[Version]
    reads: Sequence[Sequence[Version]]
    changed: Tuple[FrozenSet[int], FrozenSet[int]]
    by_name: bool = True


def pair(
    before: Sequence[Any],
    after: Sequence[Any],
    plans: Tuple[Plan, Plan],
    unknown: Set[int],
    by_name: bool = True,
) -> Pairing:
    """Compare the layers of two nets; ``unknown`` are the new net's layers that cannot be run.

    If not ``by_name``, names are not trusted: a blob may hold something else although a twin writes
    it. What changed layers of the same name read is compared then too.
    """
    twins = _twins(before, after)
    old, new = plans
    names = outputs([layer.param for layer in before])
    firm = {(old.final[name], new.final[name]): "" for name in names if name in new.final}
    ends = set(firm)
    kept = [(was, new.final[name]) for name, was in old.final.items() if name in new.final]
    if by_name:
        firm.update((both, "") for both in kept if twins.get(both[1][1]) == both[0][1])
    loose = dict.fromkeys((both for both in kept if both not in firm), "")
    for index in sorted(twins, reverse=True):
        read = list(zip(old.reads[twins[index]], new.reads[index]))
        target = firm if _confirmed(index, twins[index], before, after, firm) else loose
        for number, both in enumerate(read):
            if reads_shape_only(after[index], number):
                continue  # its values may be others: nothing that is made of them is
            target.setdefault(both, _reader(after[index], both, plans))
    if not by_name:
        for both in _renamed(before, after, plans, twins):
            loose.setdefault(both, "")
    fed = _inputs(before), _inputs(after) | _alike(after, twins, unknown)
    points = [
        Point(both[0][0], *both, both in ends, both in firm, reader)
        for both, reader in {**loose, **firm}.items()
        if both[1][1] >= 0 and not (both[1] in fed[1] and _is_given(both, fed[0], twins))
    ]
    points.sort(key=lambda point: (point.before[1], point.after[1], point.name))
    missing = tuple(name for name in names if name not in new.final)
    places = frozenset(range(len(before))), frozenset(range(len(after)))
    return Pairing(
        tuple(points),
        twins,
        tuple(sorted(_rewritten(before, after, twins, firm))),
        missing,
        frozenset(fed[1]),
        new.reads,
        (places[0].difference(twins.values()), places[1].difference(twins)),
        by_name,
    )


def _twins(before: Sequence[Any], after: Sequence[Any]) -> Dict[int, int]:
    """The new net's layers that did not change, each with its index in the old net."""
    places: Dict[str, List[int]] = {}
    for index, layer in enumerate(before):
        places.setdefault(layer.name, []).append(index)
    place_of: Dict[int, int] = {}
    for index, layer in enumerate(after):
        free = places.get(layer.name, [])
        place = next((place for place in free if _same(before[place], layer)), None)
        if place is not None:
            free.remove(place)
            place_of[index] = place
    return place_of


def _same(old: Any, new: Any) -> bool:
    counts = [(len(layer.param.bottom), len(layer.param.top)) for layer in (old, new)]
    facts = [(layer.type, layer.extra, layer.style, layer.missing) for layer in (old, new)]
    if counts[0] != counts[1] or facts[0] != facts[1] or _bare(old.param) != _bare(new.param):
        return False
    shapes = [[blob.shape for blob in layer.blobs] for layer in (old, new)]
    return shapes[0] == shapes[1] and all(map(_equal, old.blobs, new.blobs))


def _equal(was: Any, now: Any) -> bool:
    """Whether blobs of one shape have the same values; few are read where they have not."""
    first = slice(0, 1)
    if not np.array_equal(was.rounded(first), now.rounded(first)):
        return False
    return was.shape[:1] in ((), (1,)) or all(
        np.array_equal(was.rounded(rows), now.rounded(rows)) for rows in was.spans()
    )


def _bare(param: Any) -> Any:
    bare = LayerParameter()
    bare.CopyFrom(param)
    for field in _ASIDE:
        bare.ClearField(field)
    return bare


def _confirmed(
    index: int, twin: int, before: Sequence[Any], after: Sequence[Any], firm: Dict[Pair, str]
) -> bool:
    """Whether the tops of the twins ``index`` and ``twin`` show that they read the same.

    One top in ``firm`` is not enough: a part of a Slice may be the same although the bottoms differ
    in the channels of another part. It is enough for a Split, whose tops are all the same.
    """
    tops = zip(before[twin].param.top, after[index].param.top)
    pairs = {(new, index): (old, twin) for old, new in tops}
    behind = [(was, now) for was, now in firm if now in pairs]
    confirmed = {now for _, now in behind}
    enough = len(confirmed) == len(pairs) or (bool(confirmed) and after[index].type in _TRANSPARENT)
    return enough and all(pairs[now] == was for was, now in behind)


def _reader(layer: Any, both: Pair, plans: Tuple[Plan, Plan]) -> str:
    """The name of ``layer`` if one of ``both`` is later overwritten under its name; else ""."""
    final = all(plan.final.get(version[0]) == version for plan, version in zip(plans, both))
    return "" if final else str(layer.name)


def _renamed(
    before: Sequence[Any], after: Sequence[Any], plans: Tuple[Plan, Plan], twins: Dict[int, int]
) -> Iterator[Pair]:
    """What changed layers of the same name read, if the blob has another name now."""
    places = {layer.name: index for index, layer in enumerate(before)}
    for index, layer in enumerate(after):
        if index not in twins and layer.name in places:
            for both in zip(plans[0].reads[places[layer.name]], plans[1].reads[index]):
                if both[0][0] != both[1][0]:
                    yield both


def _inputs(layers: Sequence[Any]) -> Set[Version]:
    """The versions whose values come from outside the net."""
    params = [layer.param for layer in layers]
    data = {id(param) for param in data_layers(params)}
    return {
        (top, index)
        for index, param in enumerate(params)
        if param.type == "Input" or id(param) in data
        for top in param.top
    }


def _alike(layers: Sequence[Any], twins: Dict[int, int], unknown: Set[int]) -> Set[Version]:
    """The versions of constants that are in both nets, a Parameter's too, and of black boxes."""
    constants = {index for index in twins if not layers[index].param.bottom}
    return {(top, index) for index in constants | unknown for top in layers[index].param.top}


def _is_given(both: Pair, fed: Set[Version], twins: Dict[int, int]) -> bool:
    return both[0] in fed or twins.get(both[1][1]) == both[0][1]


def _rewritten(
    before: Sequence[Any], after: Sequence[Any], twins: Dict[int, int], firm: Dict[Pair, str]
) -> Iterator[int]:
    """The new layers without a twin, and those whose tops replace another layer's."""
    stand = {
        now[1]
        for was, now in firm
        if now[1] >= 0 and twins.get(now[1]) != was[1] and not _transparent(before, was)
    }
    for index, layer in enumerate(after):
        if layer.param.bottom and layer.param.top and (index not in twins or index in stand):
            yield index


def _transparent(before: Sequence[Any], version: Version) -> bool:
    return version[1] >= 0 and before[version[1]].type in _TRANSPARENT

"""Where two nets must hold the same values, found from their layers before anything is run.

Two layers are twins if they have the same name, type, parameters and weights; their bottoms and
tops may have other names. The nets are compared at points: what twins read, the outputs of the
nets, and what a name holds in the end in both nets. A point is firm if both nets must agree there:

- an output;
- a name that twins write last in both nets;
- what twins read, if each of their tops is a firm point itself;
- what twins read that are black boxes, in its shape too: nothing behind them would show it.

Names are trusted in the first comparison only. If it fails there is a second one (not ``by_name``),
in which the names that twins write are not firm.

At any other point a blob may have kept its name and hold something else: that of a convolution that
has taken in a BatchNorm, or of a ReLU that a scale was moved through.
"""

from typing import (
    AbstractSet,
    Any,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.catalogue import DROPOUT, of_family
from caffe_merge.layers.moving import reads_shape_only
from caffe_merge.net.data_layers import data_layers, is_constant
from caffe_merge.validation.run import Plan, Version, feedable, outputs

# Fields that do not change what a layer computes from its bottoms.
_ASIDE = ("bottom", "top", "param", "include", "exclude", "loss_weight", "propagate_down", "blobs")
_TRANSPARENT = frozenset(("Split", *of_family(DROPOUT)))

Pair = Tuple[Version, Version]


class Point(NamedTuple):
    """A version of a blob in each net; ``name`` is the old net's, ``output`` one of its outputs.

    ``reader`` is the layer that reads it where the name holds something else in the end. If it is
    ``exact`` the shapes must be the same too.
    """

    name: str
    before: Version
    after: Version
    output: bool = False
    firm: bool = False
    reader: str = ""
    exact: bool = False


class Pairing(NamedTuple):
    """The points, in the old net's order, and what else is known before the nets are run.

    ``twins`` are indices of layers, new -> old. ``rewritten`` are the new net's layers without a
    twin, or whose tops replace those of another layer; each of them must be seen. ``boxes`` are the
    new net's layers that can be run in neither net and have a twin.

    ``outputs`` are the old net's, with the versions that must be the same; ``missing`` those that
    the new net has not; ``added`` the new net's alone, with both versions if the old net has such a
    blob. ``sources`` are versions that both nets are fed, or that twins without bottoms make;
    ``unlike`` the old net's blobs of other layers without bottoms. ``reads`` are the versions that
    each layer reads, ``changed`` the layers without a twin, of the old and of the new net.
    ``by_name``: see pair.
    """

    points: Tuple[Point, ...]
    twins: Dict[int, int]
    rewritten: Tuple[int, ...]
    boxes: Tuple[int, ...]
    outputs: Tuple[Tuple[str, Pair], ...]
    missing: Tuple[str, ...]
    added: Tuple[Tuple[str, Optional[Pair]], ...]
    sources: FrozenSet[Pair]
    unlike: FrozenSet[str]
    reads: Tuple[Sequence[Sequence[Version]], Sequence[Sequence[Version]]]
    changed: Tuple[FrozenSet[int], FrozenSet[int]]
    by_name: bool = True


def pair(
    before: Sequence[Any],
    after: Sequence[Any],
    plans: Tuple[Plan, Plan],
    unknown: Tuple[AbstractSet[int], AbstractSet[int]],
    by_name: bool = True,
) -> Pairing:
    """Compare the layers of two nets; ``unknown`` are the layers of each that cannot be run.

    If not ``by_name``, names are not trusted: a blob may hold something else although a twin writes
    it. What changed layers of the same name read is compared then too.
    """
    twins = {
        index: twin
        for index, twin in _twins(before, after).items()
        if (index in unknown[1]) == (twin in unknown[0])
    }
    boxes = {index for index in twins if index in unknown[1]}
    old, new = plans
    names, new_names = (outputs([layer.param for layer in side]) for side in (before, after))
    kept = {name: (was, new.final[name]) for name, was in old.final.items() if name in new.final}
    ends = {name: kept[name] for name in names if name in kept}
    sources = _sources(before, after, twins)
    points = _points(before, after, plans, (twins, boxes), (kept, ends), by_name)
    needless = sources.union(*(tops(before, after, index, twins[index]) for index in boxes))
    firm = [(point.before, point.after) for point in points if point.firm]
    places = frozenset(range(len(before))), frozenset(range(len(after)))
    return Pairing(
        points=tuple(p for p in points if p.after[1] >= 0 and (p.before, p.after) not in needless),
        twins=twins,
        rewritten=tuple(sorted(_rewritten(before, after, twins, firm))),
        boxes=tuple(sorted(boxes)),
        outputs=tuple((name, both) for name, both in ends.items() if both not in sources),
        missing=tuple(name for name in names if name not in new_names),
        added=tuple((name, kept.get(name)) for name in new_names if name not in names),
        sources=sources,
        unlike=frozenset(feedable(layer.param for layer in before))
        - {was for (was, _), _ in sources},
        reads=(old.reads, new.reads),
        changed=(places[0].difference(twins.values()), places[1].difference(twins)),
        by_name=by_name,
    )


def _points(
    before: Sequence[Any],
    after: Sequence[Any],
    plans: Tuple[Plan, Plan],
    same: Tuple[Mapping[int, int], AbstractSet[int]],
    names: Tuple[Mapping[str, Pair], Mapping[str, Pair]],
    by_name: bool,
) -> List[Point]:
    """All points, those of sources and black boxes too.

    ``same`` are twins and boxes, ``names`` the versions that names and outputs hold in the end.
    """
    twins, boxes = same
    kept, ends = names
    firm = dict.fromkeys(ends.values(), "")
    if by_name:
        firm.update((both, "") for both in kept.values() if twins.get(both[1][1]) == both[0][1])
    loose = dict.fromkeys((both for both in kept.values() if both not in firm), "")
    exact: Set[Pair] = set()
    for index in sorted(twins, reverse=True):
        is_box = index in boxes
        is_confirmed = is_box or _confirmed(index, twins[index], before, after, firm)
        for number, both in enumerate(zip(plans[0].reads[twins[index]], plans[1].reads[index])):
            reads_shape = reads_shape_only(after[index], number)
            if reads_shape and not is_box:
                continue  # its values may be others: nothing that is made of them is
            target = firm if is_confirmed and not reads_shape else loose
            target.setdefault(both, _reader(after[index], both, plans))
            if is_box and not reads_shape:
                exact.add(both)
    if not by_name:
        for both in _renamed(before, after, plans, twins):
            loose.setdefault(both, "")
    outer = set(ends.values())
    points = [
        Point(both[0][0], *both, both in outer, both in firm, reader, both in exact)
        for both, reader in {**loose, **firm}.items()
    ]
    return sorted(points, key=lambda point: (point.before[1], point.after[1], point.name))


def tops(before: Sequence[Any], after: Sequence[Any], index: int, twin: int) -> Iterator[Pair]:
    """What the twins ``index`` (of the new net) and ``twin`` make, one version each."""
    for was, now in zip(before[twin].param.top, after[index].param.top):
        yield (was, twin), (now, index)


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
    if _is_reordered(old.param, new.param):
        return False
    shapes = [[blob.shape for blob in layer.blobs] for layer in (old, new)]
    return shapes[0] == shapes[1] and all(map(_equal, old.blobs, new.blobs))


def _is_reordered(old: Any, new: Any) -> bool:
    """Whether an Eltwise reads the same blobs in another order: what it makes is compared then."""
    bottoms, new_bottoms = list(old.bottom), list(new.bottom)
    is_other = bottoms != new_bottoms and sorted(bottoms) == sorted(new_bottoms)
    return old.type == "Eltwise" and is_other


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
    pairs = {now: was for was, now in tops(before, after, index, twin)}
    behind = [(was, now) for was, now in firm if now in pairs]
    confirmed = {now for _, now in behind}
    enough = len(confirmed) == len(pairs) or (bool(confirmed) and after[index].type in _TRANSPARENT)
    return enough and all(pairs[now] == was for was, now in behind)


def _reader(layer: Any, both: Pair, plans: Tuple[Plan, Plan]) -> str:
    """The name of ``layer`` if one of ``both`` is later overwritten under its name; else ""."""
    final = all(plan.final.get(version[0]) == version for plan, version in zip(plans, both))
    return "" if final else str(layer.name)


def _renamed(
    before: Sequence[Any], after: Sequence[Any], plans: Tuple[Plan, Plan], twins: Mapping[int, int]
) -> Iterator[Pair]:
    """What changed layers of the same name read, if the blob has another name now."""
    places = {layer.name: index for index, layer in enumerate(before)}
    for index, layer in enumerate(after):
        if index not in twins and layer.name in places:
            for both in zip(plans[0].reads[places[layer.name]], plans[1].reads[index]):
                if both[0][0] != both[1][0]:
                    yield both


def _sources(
    before: Sequence[Any], after: Sequence[Any], twins: Mapping[int, int]
) -> FrozenSet[Pair]:
    """What both nets are fed by its name, and what twins without bottoms make, a Parameter too."""
    old, new = _inputs(before), _inputs(after)
    alike = set()
    for name in old.keys() & new.keys():
        (was, kind), (now, its_kind) = old[name], new[name]
        if kind is None or its_kind is None or kind == its_kind:
            alike.add((was, now))
    fed = {index for (_, index), _ in new.values()}
    for index, twin in twins.items():
        if not after[index].param.bottom and index not in fed:
            alike.update(tops(before, after, index, twin))
    return frozenset(alike)


def _inputs(layers: Sequence[Any]) -> Dict[str, Tuple[Version, Optional[Tuple[int, bool]]]]:
    """The versions whose values come from outside the net, by name; of a data layer also which.

    That is the number of the top, and whether the layer says itself what it makes.
    """
    params = [layer.param for layer in layers]
    data = {id(param) for param in data_layers(params)}
    return {
        top: ((top, index), (number, is_constant(param)) if id(param) in data else None)
        for index, param in enumerate(params)
        if param.type == "Input" or id(param) in data
        for number, top in enumerate(param.top)
    }


def _rewritten(
    before: Sequence[Any], after: Sequence[Any], twins: Dict[int, int], firm: Iterable[Pair]
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

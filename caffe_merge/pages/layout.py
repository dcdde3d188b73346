"""Where each layer of a net stands: rows along the flow, columns for what runs side by side.

A net is long and narrow: a main path and short branches. It is cut into chains, paths of which
each layer hands on to the next. A chain stands in one column, which is free down to the layer that
takes it in, if that is not far, so that the edge at its end finds its way. Time and memory are
linear in layers and edges, times the chains that run side by side.
"""

from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence

TAIL = 9  # rows below a chain that stay free for the edge at its end


class Place(NamedTuple):
    """A place in the grid, both numbers from 0."""

    row: int
    column: int


def places(reads: Mapping[int, Sequence[int]]) -> Dict[int, Place]:
    """The place of each layer; ``reads`` has, in net order, the layers that it reads.

    What stands no earlier in that order is not looked at: such an edge goes up.
    """
    order = {layer: at for at, layer in enumerate(reads)}
    above = {
        layer: [other for other in bottoms if order.get(other, at) < at]
        for at, (layer, bottoms) in enumerate(reads.items())
    }
    below: Dict[int, List[int]] = {layer: [] for layer in above}
    rows: Dict[int, int] = {}
    for layer, others in above.items():
        rows[layer] = 1 + max((rows[other] for other in others), default=-1)
        for other in others:
            below[other].append(layer)
    for layer, others in above.items():
        if not others and below[layer]:  # an input stands just above who reads it first
            rows[layer] = min(rows[other] for other in below[layer]) - 1
    columns = _columns(_chains(above, below, rows), below, rows)
    return {layer: Place(rows[layer], columns[layer]) for layer in above}


def _chains(
    above: Mapping[int, Sequence[int]],
    below: Mapping[int, Sequence[int]],
    rows: Mapping[int, int],
) -> List[List[int]]:
    """The layers as paths; the longest way through the net is one of them."""
    height: Dict[int, int] = {}
    for layer in reversed(list(above)):
        height[layer] = 1 + max((height[other] for other in below[layer]), default=0)
    chains: Dict[int, List[int]] = {}
    chain_of: Dict[int, List[int]] = {}
    for layer, others in above.items():
        upper = max(others, key=rows.__getitem__, default=None)
        if upper is not None and max(below[upper], key=height.__getitem__) == layer:
            chain_of[layer] = chain_of[upper]
        else:
            chain_of[layer] = chains[layer] = []
        chain_of[layer].append(layer)
    return list(chains.values())


def _columns(
    chains: Sequence[Sequence[int]],
    below: Mapping[int, Sequence[int]],
    rows: Mapping[int, int],
) -> Dict[int, int]:
    """The first column for each chain that no chain before it takes; the longest come first."""
    taken: List[int] = []  # for each column the rows that are, as bits
    columns: Dict[int, int] = {}
    for chain in sorted(chains, key=len, reverse=True):
        last = rows[chain[-1]] + 1
        end = min((rows[other] for other in below[chain[-1]]), default=last)
        if end > last + TAIL:
            end = last
        bits = (1 << end) - (1 << rows[chain[0]])
        column = next((at for at, others in enumerate(taken) if not others & bits), len(taken))
        if column == len(taken):
            taken.append(0)
        taken[column] |= bits
        columns.update(dict.fromkeys(chain, column))
    return columns


def interleaved(first: Iterable[int], second: Iterable[int]) -> List[int]:
    """The numbers of both, each once, in an order that is that of both."""
    rest = list(first)
    common = set(rest)
    waiting = iter(rest)
    out: List[int] = []
    for number in second:
        if number in common:
            for other in waiting:
                out.append(other)
                if other == number:
                    break
        else:
            out.append(number)
    return [*out, *waiting]

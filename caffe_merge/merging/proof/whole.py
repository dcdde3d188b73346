"""The proof on the net's own shapes, with every channel: for what cannot be run on a small patch.

A Reshape to fixed sizes, an InnerProduct along the batch, a stride larger than any patch: such
layers take no other input than the one that the net gives them. It is slower and always possible
where the shapes are known.
"""

from __future__ import annotations

from functools import partial
from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from caffe_merge import reference
from caffe_merge.arrays import Float64 as Values
from caffe_merge.arrays import count
from caffe_merge.errors import CaffeMergeError, NetError
from caffe_merge.layers import shapes
from caffe_merge.merging.proof.sampling import (
    Reading,
    Step,
    absolute,
    check_size,
    compared,
    noise,
    rounded,
)
from caffe_merge.merging.proof.wiring import Node, Wiring
from caffe_merge.net.graph import Version

MOST_MULTIPLY_ADDS = 1 << 31  # of a layer; some seconds


def prove(wiring: Wiring) -> Optional[str]:
    """Run a region before and after the rewrite; what differs, or None if nothing does."""
    try:
        patch = {version: _noise(version) for version in wiring.inputs}
        before = partial(_run, wiring.old, patch, wiring.outputs)
        after = _run(wiring.new, patch, wiring.new_outputs, rounded)
        absolute_patch = {version: np.abs(values) for version, values in patch.items()}
        terms = _run(wiring.new, absolute_patch, wiring.new_outputs, rounded, signs=False)
        return compared(before, after, terms)
    except CaffeMergeError as error:
        return f"it cannot be run: {error}"


def _noise(version: Version) -> Values:
    if version.shape is None:
        raise NetError(f"the shape of {version.name!r} is not known")
    check_size(count(version.shape))
    return noise(version.shape)


def _run(
    nodes: Sequence[Node],
    patch: Mapping[Version, Values],
    outputs: Sequence[Version],
    reading: Reading,
    signs: bool = True,
) -> List[Values]:
    """The ``outputs`` of ``nodes``, run in order on ``patch``."""
    values: Dict[Version, Values] = dict(patch)
    for node in nodes:
        bottoms = [values[bottom] for bottom in node.bottoms]
        _check_cost(node, bottoms)
        step = Step(node.spec, [reading(blob) for blob in node.blobs])
        tops = reference.forward(*(step if signs else absolute(step)), bottoms)
        values.update(zip(node.tops, tops))
    return [values[output] for output in outputs]


def _check_cost(node: Node, bottoms: Sequence[Values]) -> None:
    """Raise NetError where ``node`` gives out or computes more than is run for a proof."""
    sizes = [bottom.shape for bottom in bottoms]
    tops = shapes.tops(node.spec, sizes) or []
    for top in tops:
        check_size(count(top))
    cost = shapes.multiply_adds(node.spec, sizes, tops) or 0
    if cost > MOST_MULTIPLY_ADDS:
        raise NetError(f"layer {node.spec.name!r} would take {cost:,} multiply-adds")

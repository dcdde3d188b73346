"""The reference engine's comparison: both pairs loaded, run side by side, and judged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Generator, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from caffe_merge.layers.catalogue import POINTWISE, of_family
from caffe_merge.validation import black_boxes, inputs, limits, side_by_side
from caffe_merge.validation.beyond import differing
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.held import held
from caffe_merge.validation.judging import (
    Judging,
    Sample,
    check_fed,
    compared,
    is_smaller,
    least_limit,
    raw_inputs,
    samples,
)
from caffe_merge.validation.loaded import Net, Values, check_inputs, cost_of_both, declared
from caffe_merge.validation.pairing import Pairing, Point, pair, tops
from caffe_merge.validation.responses import Side
from caffe_merge.validation.run import Run
from caffe_merge.validation.sessions import Paths
from caffe_merge.validation.side_by_side import Progress
from caffe_merge.validation.verdict import FAILED, Comparison

_POINTWISE = frozenset(of_family(POINTWISE))


def judged(
    before: Paths, after: Paths, judging: Judging, own_limit: float, most: float
) -> Iterator[Union[Progress, Comparison]]:
    """Compare two pairs; yield progress, and the Comparison in the end.

    ``own_limit`` and ``most`` are the engine's: see registry.Engine. Where a layer turns out to be
    such as cannot be run it becomes a black box in both nets, and all is done again.
    """
    nets = Net(before, judging), Net(after, judging)
    check_inputs(nets[0].inputs, nets[1].inputs, judging)
    comparison: Optional[Comparison] = None
    while comparison is None:
        comparison = yield from _attempt(nets, judging, own_limit, most)
    if comparison.status == FAILED:
        # Another script may have kept names of blobs that hold something else now.
        without_names = yield from _attempt(nets, judging, own_limit, most, by_name=False)
        if without_names is not None and without_names.ok:
            comparison = without_names
    _check_given(nets[0], judging)
    yield comparison


def _attempt(
    nets: Tuple[Net, Net], judging: Judging, own_limit: float, most: float, by_name: bool = True
) -> Generator[Progress, None, Optional[Comparison]]:
    """Compare the nets; None where black boxes were found that were not known to be such.

    ``by_name``: see pairing.pair.
    """
    old, new = nets
    plans = old.program.plan, new.program.plan
    pairing = pair(old.layers, new.layers, plans, (old.boxes, new.boxes), by_name)
    cost = cost_of_both(old, new, pairing)
    at = declared(old, judging, cost)
    fed = samples(at, _of_inputs(old, judging), cost, most)
    check_fed(pairing, fed)
    least, follows = least_limit(judging, own_limit)
    findings = Findings(pairing, least, follows)
    seconds = 0.0, 0.0
    for turn, sample in enumerate(fed):
        runs = _runs(findings, nets, sample, judging)
        took = yield from side_by_side.follow(findings, runs, turn, len(fed))
        if _more_boxes(nets, runs):
            return None
        seconds = seconds[0] + took[0], seconds[1] + took[1]
    if is_smaller(fed):
        findings.compare_shapes(*cost.tops(at))
    _measure_noise(findings, old, fed, judging)
    findings.compensate(
        lambda point: any(
            side_by_side.is_compensated(findings, _runs(findings, nets, sample, judging), point)
            for sample in fed
        )
    )
    if follows and findings.agree():
        _respond(findings, nets, judging)
    evidence = findings.evidence(old.layers, new.layers, raw_inputs(fed))
    evidence = replace(evidence, layer_by_layer=True)
    comparison = compared("reference", least, judging, evidence, fed, (old.names, new.names))
    return replace(comparison, seconds=seconds)


def _measure_noise(findings: Findings, old: Net, fed: Sequence[Sample], judging: Judging) -> None:
    """Find what rounding is worth where the nets do not agree, with one seed or with several."""
    exceeding = findings.exceeding()
    for seed in range(limits.SEEDS if exceeding else 0):
        weights = partial(limits.nudged, seed=seed)
        for sample in fed:
            values = _boxes(old, findings.pairing, judging, sample)
            runs = old.run(sample.before, values), old.run(sample.before, values, weights)
            side_by_side.measure_noise(findings, runs, exceeding)
        if not findings.near_noise(exceeding):
            break


def _runs(
    findings: Findings, nets: Tuple[Net, Net], sample: Sample, judging: Judging
) -> Tuple[Run, Run]:
    """Both nets, ready to run on the values of ``sample``."""
    old, new = nets
    values = _boxes(old, findings.pairing, judging, sample)
    twins = findings.pairing.twins.items()
    after = {index: values[twin] for index, twin in twins if twin in values}
    return old.run(sample.before, values), new.run(sample.after, after)


def _respond(findings: Findings, nets: Tuple[Net, Net], judging: Judging) -> None:
    """Compare what both nets make of impulses, wherever they were found to hold the same values."""
    old, new = (net.layers for net in nets)
    pairing = findings.pairing
    twins = pairing.twins

    def is_judged(point: Point) -> bool:
        """A layer that keeps its top's name may hold nearly the same, and is judged behind it."""
        place, its_place = point.before[1], point.after[1]
        is_other_layer = old[place].name != new[its_place].name
        is_twin = twins.get(its_place) == place
        return point.firm or findings.is_witness(point) or is_other_layer or is_twin

    points = findings.same()
    cuts = {(point.before, point.after) for point in points}
    some_channels = {
        point: channels
        for point, channels in findings.narrowed.items()
        if channels is not None and is_judged(point)
    }
    narrowed = {(point.before, point.after): kept for point, kept in some_channels.items()}
    # What both nets are given is the same, unless one of them takes raw pixels.
    is_same = judging.raw is None
    fed = {n for n in twins if is_same and (n in pairing.boxes or not new[n].param.bottom)}
    for index in fed:
        cuts.update(tops(old, new, index, twins[index]))
    cuts = held(pairing, old, new, cuts, frozenset()).same
    for index, twin in sorted(twins.items()):
        reads = list(zip(pairing.reads[0][twin], pairing.reads[1][index]))
        is_followed = new[index].type in _POINTWISE and len(reads) == 1 and index not in fed
        if is_followed and reads[0] in narrowed and reads[0] not in cuts:
            narrowed.update(dict.fromkeys(tops(old, new, index, twin), narrowed[reads[0]]))
    responses = [side.by_layer for side in findings.impulse_responses]
    both = Side(nets[0].program, responses[0]), Side(nets[1].program, responses[1])
    judged_points = [*filter(is_judged, points), *some_channels]
    findings.beyond = differing(both, cuts, judged_points, narrowed, findings.least)


def _more_boxes(nets: Tuple[Net, Net], runs: Tuple[Run, Run]) -> bool:
    """Whether layers could not be run that were thought to be such as can; now they are boxes."""
    more = [run.unable - net.boxes for net, run in zip(nets, runs)]
    for net, unable in zip(nets, more):
        net.boxes |= unable
    return any(more)


def _of_inputs(old: Net, judging: Judging) -> Judging:
    """The same, without what the user says of what layers make: those are no inputs."""
    computed = {top for layer in old.layers if layer.param.bottom for top in layer.param.top}
    computed -= {*old.inputs, *old.data}
    shapes, files = judging.shapes or {}, judging.files or {}
    return judging._replace(
        shapes={name: shape for name, shape in shapes.items() if name not in computed},
        files={name: array for name, array in files.items() if name not in computed},
    )


def _check_given(old: Net, judging: Judging) -> None:
    """Raise UsageError for a blob of which the user says something though the net makes it."""
    free = [*old.inputs, *old.data, *_box_tops(old)]
    for name in [*(judging.shapes or {}), *(judging.files or {})]:
        if name not in free:
            inputs.refuse(name, old.inputs)


def _box_tops(net: Net) -> List[str]:
    return [top for index in sorted(net.boxes) for top in net.layers[index].param.top]


def _boxes(old: Net, pairing: Pairing, judging: Judging, sample: Sample) -> Values:
    """Seeded values for the tops of black boxes in both nets, None where no size is known."""
    boxes = {pairing.twins[index] for index in pairing.boxes}
    if not boxes:
        return {}
    known_shapes = {
        **(judging.shapes or {}),
        **{n: v.shape for n, v in (judging.files or {}).items()},
    }
    known_shapes.update((entry.name, entry.array.shape) for entry in sample.used)
    top_shapes = black_boxes.sizes(old.program, old.boxes, known_shapes)
    values: Values = {}
    for index in sorted(boxes):
        values[index] = []
        for top in old.layers[index].param.top:
            array = (judging.files or {}).get(top)
            if array is None and top in top_shapes:
                inputs.check_size(int(np.prod(top_shapes[top])))
                array = inputs.noise(top, top_shapes[top], judging.seed)
            values[index].append(None if array is None else np.asarray(array, np.float64))
    return values

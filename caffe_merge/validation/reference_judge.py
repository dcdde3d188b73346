"""The reference engine's comparison: both pairs loaded, run side by side, and judged."""

from dataclasses import replace
from typing import Iterator, List, Union

import numpy as np

from caffe_merge.validation import black_boxes, inputs, side_by_side
from caffe_merge.validation.findings import Findings
from caffe_merge.validation.judging import Judging, Sample, compared, least_limit, samples
from caffe_merge.validation.loaded import Net, Paths, Values, check_inputs, declared
from caffe_merge.validation.pairing import pair
from caffe_merge.validation.run import plan
from caffe_merge.validation.side_by_side import Progress
from caffe_merge.validation.verdict import Comparison


def judged(
    before: Paths, after: Paths, judging: Judging, own_limit: float, most: float
) -> Iterator[Union[Progress, Comparison]]:
    """Compare two pairs; yield progress, and the Comparison in the end.

    ``own_limit`` and ``most`` are the engine's: see registry.Engine.
    """
    old, new = Net(before, judging), Net(after, judging)
    check_inputs(old.inputs, new.inputs)
    pairing = pair(old.layers, new.layers, (plan(old.layers), plan(new.layers)), new.boxes)
    cost = old.cost()
    made = samples(declared(old, judging, cost), _without_boxes(old, judging), cost, most)
    least, follows = least_limit(judging, own_limit)
    findings = Findings(pairing, least, follows)
    seconds = 0.0, 0.0
    for turn, sample in enumerate(made):
        values = _boxes(old, judging, sample)
        twins = {index: values[twin] for index, twin in pairing.twins.items() if twin in values}
        took = yield from side_by_side.follow(
            findings,
            (old.run(sample.before, values), new.run(sample.after, twins)),
            turn,
            len(made),
        )
        seconds = seconds[0] + took[0], seconds[1] + took[1]
    exceeding = findings.exceeding()
    if exceeding:
        from caffe_merge.validation.limits import nudged

        for sample in made:
            values = _boxes(old, judging, sample)
            runs = old.run(sample.before, values), old.run(sample.before, values, nudged)
            side_by_side.measure_noise(findings, runs, exceeding)
    boxes = sorted(index for index in pairing.twins if index in new.boxes)
    evidence = findings.evidence(old.layers, new.layers, boxes)
    comparison = compared("reference", least, judging, evidence, made, (old.names, new.names))
    yield replace(comparison, seconds=seconds)


def _box_tops(net: Net) -> List[str]:
    return [top for index in sorted(net.boxes) for top in net.layers[index].param.top]


def _without_boxes(old: Net, judging: Judging) -> Judging:
    """The same, without what the user says of black boxes: those are no inputs."""
    tops = set(_box_tops(old)) - set(old.inputs) - set(old.data)
    shapes, files = judging.shapes or {}, judging.files or {}
    return judging._replace(
        shapes={name: shape for name, shape in shapes.items() if name not in tops},
        files={name: array for name, array in files.items() if name not in tops},
    )


def _boxes(old: Net, judging: Judging, sample: Sample) -> Values:
    """Seeded values for the tops of the old net's black boxes, None where no size is known."""
    if not old.boxes:
        return {}
    given = {**(judging.shapes or {}), **{n: v.shape for n, v in (judging.files or {}).items()}}
    given.update((entry.name, entry.array.shape) for entry in sample.used)
    top_shapes = black_boxes.sizes(old.layers, given)
    values: Values = {}
    for index in sorted(old.boxes):
        values[index] = []
        for top in old.layers[index].param.top:
            array = (judging.files or {}).get(top)
            if array is None and top in top_shapes:
                inputs.check_size(int(np.prod(top_shapes[top])))
                array = inputs.noise(top, top_shapes[top], judging.seed)
            values[index].append(None if array is None else np.asarray(array, np.float64))
    return values

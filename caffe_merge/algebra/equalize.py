"""Cross-layer equalisation: scales that bring the ranges of channels together; arrays, no layers.

A channel that one layer makes and another reads can be divided by s > 0 in the first and multiplied
by s in the second where what lies between hands multipliers on. With the ranges r1 and r2, the
largest magnitudes of the weights that make and that read it,

    s = sqrt(r1 / r2)        gives both the range sqrt(r1 r2)

which makes the sum of r1 r2 / (R1 R2) over the channels as large as it can be, R1 and R2 the
largest ranges (Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", equations 8 to 10). Ranges count here as parts of their layer's
largest: each layer has a step of its own, so only the parts matter.

Where several layers make a channel, as before an Eltwise, what they make is added up or compared:
r1 and R1 are the largest of all of them. Where several read it, r2 is the largest part. Chains of
layers, as a depthwise one between two others, are balanced one pair after the other until nothing
moves.
"""

from typing import List, NamedTuple, Sequence

import numpy as np

from caffe_merge.arrays import Float64, Indices

MOST_SWEEPS = 100
CLOSE = 2.0**-6  # bits; a sweep that moves nothing further ends the search
FAINT = 2.0**-16  # of the largest range: such channels are noise, and stay


class Tensor(NamedTuple):
    """The weights of one layer, as far as scales are concerned.

    ``ranges`` (groups, outputs, inputs) are the largest magnitudes that lead from an input channel
    to an output channel of the same group. ``outputs`` (groups, outputs) are the numbers of the
    scales that divide them, ``inputs`` (groups, inputs) of those that multiply them; number 0 is
    the scale that is always 1.
    """

    ranges: Float64
    outputs: Indices
    inputs: Indices


def equalized(tensors: Sequence[Tensor], component_of: Indices) -> Float64:
    """The scales, by number, that equalise ``tensors``.

    ``component_of`` has the component of each number, those that are found together; 0 for numbers
    whose scale stays 1.
    """
    scales = np.ones(len(component_of))
    components = [np.flatnonzero(component_of == at) for at in range(1, component_of.max() + 1)]
    near: List[List[Tensor]] = [[] for _ in components]
    for tensor in tensors:
        numbers = np.concatenate([tensor.outputs.ravel(), tensor.inputs.ravel()])
        for component in sorted({*component_of[numbers].tolist()} - {0}):
            near[component - 1].append(tensor)
    for _ in range(MOST_SWEEPS):
        moved = 0.0
        for numbers, touched in zip(components, near):
            factors = _factors(touched, scales)[numbers]
            scales[numbers] *= factors
            moved = max(moved, float(np.abs(np.log2(factors)).max(initial=0.0)))
        if moved < CLOSE:
            break
    return scales


def _factors(tensors: List[Tensor], scales: Float64) -> Float64:
    """What each scale is to be multiplied with; 1 where a range is 0 or faint."""
    output_range, largest_range, input_range = (np.zeros_like(scales) for _ in range(3))
    for tensor in tensors:
        factors = scales[tensor.inputs][:, np.newaxis, :] / scales[tensor.outputs][:, :, np.newaxis]
        ranges = tensor.ranges * factors
        largest = ranges.max(initial=0.0)
        if largest > 0:
            np.maximum.at(output_range, tensor.outputs, ranges.max(axis=2))
            np.maximum.at(largest_range, tensor.outputs, largest)
            np.maximum.at(input_range, tensor.inputs, ranges.max(axis=1) / largest)
    output_range = np.divide(output_range, largest_range, out=output_range, where=largest_range > 0)
    moving = (output_range > FAINT) & (input_range > FAINT)
    return np.sqrt(np.divide(output_range, input_range, out=np.ones_like(scales), where=moving))

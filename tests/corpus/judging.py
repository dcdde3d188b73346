"""A net before and after a merge, run on the same values and compared blob by blob."""

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

import caffe_merge
from caffe_merge.formats.schema.messages import LayerParameter
from caffe_merge.layers.layer import Layer
from caffe_merge.net.loading import Net
from caffe_merge.validation.run import input_shapes, run

Arrays = Dict[str, np.ndarray]
Pair = Tuple[Path, Path]
Shapes = Mapping[str, Sequence[int]]


class Judged(NamedTuple):
    """What a comparison found; ``errors`` are of a blob's largest value."""

    errors: Dict[str, float]
    sizes: Dict[str, float]  # root mean square
    unjudged: List[str]


def noise(name: str, shape: Sequence[int], deviation: float = 1.0) -> np.ndarray:
    """Seeded normal values, others for every name."""
    random = np.random.default_rng([*name.encode()])
    return (random.standard_normal(tuple(shape)) * deviation).astype(np.float32)


def inputs(net: Net, feed: Shapes, deviation: float) -> Arrays:
    """Noise for every Input of ``net``; ``feed`` are shapes other than the text's."""
    shapes = dict(input_shapes([layer.param for layer in net.layers]))
    return {name: noise(name, feed.get(name, shapes[name]), deviation) for name in shapes}


def reference(pair: Pair, fed: Mapping[str, np.ndarray], stand_ins: Shapes) -> Arrays:
    """Every blob of the net of ``pair`` that can be computed in float64, layer by layer.

    In the place of a layer of ``stand_ins`` (name -> shape of its tops) comes noise, the same in
    every net: what is before it and behind it is judged though nobody here knows what it does.
    """
    net = caffe_merge.load(str(pair[0]), str(pair[1]))
    result: Arrays = {}
    layers = list(_standing_in(net.layers, stand_ins, result))
    blobs = run(layers, {**fed, **result})
    return {
        name: array
        for name, array, _ in blobs
        if array is not None and not np.array_equal(array, result.get(name, ()))
    }


def _standing_in(layers: Sequence[Layer], shapes: Shapes, result: Arrays) -> Iterator[Layer]:
    for layer in layers:
        if layer.name in shapes:
            for top in layer.param.top:  # a merge may name it otherwise: noise by the layer's name
                result[top] = noise(layer.name, shapes[layer.name])
            layer = Layer(LayerParameter(name=layer.name, type="Input", top=layer.param.top))
        yield layer


def compared(before: Arrays, after: Arrays, names: Sequence[str]) -> Judged:
    """The blobs ``names`` of two nets, where both could be computed."""
    errors, sizes = {}, {}
    for name in names:
        if name in before and name in after:
            old, new = (side[name].astype(np.float64) for side in (before, after))
            assert old.shape == new.shape, name
            assert np.isfinite(old).all(), name
            assert np.ptp(old) > 0, f"{name} is constant: it proves nothing"
            errors[name] = float(np.max(np.abs(new - old)) / np.max(np.abs(old)))
            sizes[name] = float(np.sqrt(np.mean(np.square(old))))
    return Judged(errors, sizes, sorted(set(names) - set(errors)))


def names(before: Net, after: Net) -> List[str]:
    """The blobs that layers of both nets compute."""
    was, now = (
        dict.fromkeys(top for layer in net.layers if layer.param.bottom for top in layer.param.top)
        for net in (before, after)
    )
    return [name for name in was if name in now]

"""Seeded weights of the right shapes, with the statistics that trained nets have.

Convolutions are scaled (He) by the size of what they read, so that values stay near 1 however deep
a net is; means and variances differ from channel to channel by orders of magnitude; BVLC's factor
is that of a long training; scales are of either sign.
"""

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from caffe_merge.formats.weights.wire import field, varint
from caffe_merge.layers import norms, shapes
from caffe_merge.layers.fork_fields import has_unknown, spec_of
from caffe_merge.layers.layer import Layer

Shape = Tuple[int, ...]
Step = Tuple[Layer, List[Optional[Shape]], List[Optional[Shape]]]

# The blobs of normalising layers by style, as docs/forks.md has them.
ROLES: Dict[str, Sequence[str]] = {
    "bvlc": ("mean", "variance", "factor"),
    "intel": ("mean", "variance", "factor", "scale", "bias"),
    "nvidia": ("mean", "variance", "one", "scale", "bias"),
    "segnet": ("scale", "bias"),
    "yjxiong": ("scale", "bias", "mean", "variance"),
}
LONG_TRAINING = 999.98  # what BVLC's factor comes to: nearly the sum of all 0.999 ** n
_DRAWN = 1 << 20  # more values than these are drawn once and repeated: half a net is its first fc
_LINEAR = ("Convolution", "ConvolutionDepthwise", "Deconvolution", "InnerProduct")


def walk(layers: Iterable[Layer], known_shapes: Mapping[str, Shape]) -> Iterator[Step]:
    """Each layer with the shapes of its bottoms and tops; ``known_shapes`` has some of them."""
    held: Dict[str, Optional[Shape]] = {}
    for layer in layers:
        bottoms = [held[name] for name in layer.param.bottom]
        tops = None if has_unknown(layer) else shapes.tops(spec_of(layer), bottoms)
        actual: List[Optional[Shape]] = list(tops or [None] * len(layer.param.top))
        actual = [known_shapes.get(name, shape) for name, shape in zip(layer.param.top, actual)]
        held.update(zip(layer.param.top, actual))
        yield layer, bottoms, actual


class Filler:
    """The weights of one net, layer by layer. ``style`` is that of its normalising layers."""

    def __init__(self, style: str, seed: int) -> None:
        self.style = style
        self.random = np.random.default_rng(seed)
        self.size: Dict[str, float] = {}  # root mean square of each blob, about

    def fill(self, steps: Iterable[Step]) -> Iterator[Tuple[Layer, List[np.ndarray]]]:
        """The blobs of every layer; [] where it has none, or none that are known."""
        for layer, bottoms, _ in steps:
            sizes = [self.size.get(name, 1.0) for name in layer.param.bottom]
            result = list(self.blobs(layer, bottoms, max(sizes, default=1.0)))
            size = max(sizes, default=None)
            if layer.type in ("Axpy", "Eltwise"):
                size = float(np.sqrt(np.sum(np.square(sizes))))
            elif result and layer.type != "PReLU":
                size = 1.0
            if size is not None:
                self.size.update(dict.fromkeys(layer.param.top, size))
            yield layer, result

    def blobs(self, layer: Layer, bottoms: Sequence[Any], size: float) -> Iterator[np.ndarray]:
        """The blobs of ``layer``, which reads values of about ``size``."""
        if layer.type in norms.TYPES:
            yield from self.norm(layer, bottoms[0][1], size)
            return
        expected: Any = None if has_unknown(layer) else shapes.blobs(spec_of(layer), bottoms)
        for number, shape in enumerate(expected or ()):
            assert shape is not None, (layer, bottoms)
            assert None not in shape, (layer, shape)
            yield self.values(layer.type, number, shape, size).astype(np.float32)

    def values(self, kind: str, number: int, shape: Shape, size: float) -> np.ndarray:
        """Blob ``number`` of a layer that does not normalise."""
        if number == 0 and kind in (*_LINEAR, "LSTM"):
            fan_in = int(np.prod(shape[1:])) or 1
            return self.normal(shape) * ((2 / fan_in) ** 0.5 / size)
        if number == 2 and kind == "LSTM":
            return self.normal(shape) * shape[1] ** -0.5
        if number == 0 and kind == "Scale":
            return self.signed(shape)
        if kind == "PReLU":
            return self.random.uniform(0.05, 0.4, shape)
        if kind == "Normalize":
            return self.random.uniform(5, 20, shape)
        return self.normal(shape) * 0.3

    def norm(self, layer: Layer, channels: int, size: float) -> Iterator[np.ndarray]:
        """The blobs of a normalising layer, in the order of its style."""
        factor = np.float32(LONG_TRAINING) if "factor" in ROLES[self.style] else np.float32(1)
        # As many channels are made smaller as larger: the mean of 1 / variance is 1.
        variance = np.exp(self.random.normal(0.5, 1.0, channels)) * size**2
        result = {
            "mean": self.normal((channels,)) * 0.5 * size * factor,
            "variance": variance * factor,
            "factor": np.array([factor]),
            "one": np.ones(1),
            "scale": self.signed((channels,)),
            "bias": self.normal((channels,)) * 0.3,
        }
        if self.style == "segnet":
            result["scale"] /= np.sqrt(variance)
        for role in ROLES[self.style]:
            blob = result[role].astype(np.float32)
            yield blob if layer.type == "BatchNorm" else blob.reshape(1, -1, 1, 1)

    def normal(self, shape: Shape) -> np.ndarray:
        """Normal values of deviation 1."""
        count = int(np.prod(shape))
        drawn = self.random.standard_normal(min(count, _DRAWN), np.float32)
        return np.resize(drawn, count).reshape(shape)

    def signed(self, shape: Shape) -> np.ndarray:
        """Factors of either sign, whose mean square is 1."""
        return (
            self.random.uniform(0.5, 1.5, shape)
            / (13 / 12) ** 0.5
            * self.random.choice([-1.0, 1.0], shape)
        )


def caffemodel(filled: Iterable[Tuple[Layer, Sequence[np.ndarray]]]) -> Iterator[bytes]:
    """The pieces of a caffemodel, layer by layer, as Caffe writes it."""
    for layer, blobs in filled:
        parts = [field(1, layer.name.encode()), field(2, layer.type.encode())]
        for blob in blobs:
            dims = b"".join(varint(dim) for dim in blob.shape)
            parts.append(field(7, field(7, field(1, dims)) + field(5, blob.tobytes())))
        yield field(100, b"".join(parts))

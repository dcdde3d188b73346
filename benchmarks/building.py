"""Pairs in the making: text and weights of a net, a layer at a time, from seeded random numbers."""

from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple, Tuple, Union

import numpy as np

from caffe_merge.formats.weights.wire import field, header, varint

Pair = Tuple[Path, Path]
Sides = Union[int, Tuple[int, int]]  # of a kernel: a square one, or height and width

FACTOR = 999.98  # what Caffe's moving average tends to, at its default fraction of 0.999
INPUT = "  input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }\n"


class Blob(NamedTuple):
    """A blob of a net: its name, its channels, and about what the mean of its squares is."""

    name: str
    channels: int
    power: float


class Building:
    """The layers so far; each method adds one to the text, and its weights to the file.

    Convolutions are He-scaled, without bias. The statistics of a BatchNorm are near those of what
    it normalises, so that values neither vanish nor explode, however deep the net is.
    """

    def __init__(self, name: str, weights: BinaryIO) -> None:
        self.spread = 0.0  # of the logarithms of what Scales multiply channels with, beyond 0.5-1.5
        self.text = f'name: "{name}"\n'
        self._weights = weights
        self._random = np.random.Generator(np.random.PCG64(152))
        weights.write(field(1, name.encode()))

    def input(self) -> Blob:
        """An image of 3x224x224."""
        self._layer("data", "Input", (), "data", INPUT)
        return Blob("data", 3, 1.0)

    def conv(self, x: Blob, name: str, outputs: int, kernel: Sides, stride: int = 1) -> Blob:
        """A Convolution, padded by half its kernel."""
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        window = f"    kernel_size: {height}\n    pad: {height // 2}\n"
        if height != width:
            window = f"    kernel_h: {height}\n    kernel_w: {width}\n"
            window += f"    pad_h: {height // 2}\n    pad_w: {width // 2}\n"
        fields = f"    num_output: {outputs}\n    bias_term: false\n{window}    stride: {stride}\n"
        self._layer(name, "Convolution", (x,), name, f"  convolution_param {{\n{fields}  }}\n")
        shape = (outputs, x.channels, height, width)
        deviation = (2 / (x.channels * height * width)) ** 0.5
        self._blobs(name, deviation * self._random.standard_normal(shape, np.float32))
        return Blob(name, outputs, 2 * x.power)

    def depthwise(self, x: Blob, name: str, stride: int = 1, kernel: int = 3) -> Blob:
        """A Convolution on each channel by itself, BatchNorm and Scale in place."""
        fields = f"    num_output: {x.channels}\n    bias_term: false\n    group: {x.channels}\n"
        fields += f"    kernel_size: {kernel}\n    pad: {kernel // 2}\n    stride: {stride}\n"
        self._layer(name, "Convolution", (x,), name, f"  convolution_param {{\n{fields}  }}\n")
        shape = (x.channels, 1, kernel, kernel)
        weights = 2**0.5 / kernel * self._random.standard_normal(shape, np.float32)
        self._blobs(name, weights)
        return self.normalise(Blob(name, x.channels, 2 * x.power), name)

    def normalise(self, x: Blob, name: str, top: str = "") -> Blob:
        """A BatchNorm and a Scale: in place, or the BatchNorm writes ``top``."""
        top = top or x.name
        self._layer(f"bn_{name}", "BatchNorm", (x,), top)
        mean = (x.power / 4) ** 0.5 * self._random.standard_normal(x.channels)
        variance = x.power * (0.5 + 0.5 * self._random.random(x.channels))
        self._blobs(f"bn_{name}", FACTOR * mean, FACTOR * variance, np.array([FACTOR]))
        scale = 0.5 + self._random.random(x.channels)
        if self.spread:
            scale *= np.exp(self.spread * self._random.standard_normal(x.channels))
        shift = 0.3 * self._random.standard_normal(x.channels)
        out = Blob(top, x.channels, self._power(x, mean, variance, scale, shift))
        self._layer(f"scale_{name}", "Scale", (out,), top, "  scale_param { bias_term: true }\n")
        self._blobs(f"scale_{name}", scale, shift)
        return out

    @staticmethod
    def _power(x: Blob, mean: Any, variance: Any, scale: Any, shift: Any) -> float:
        squares = scale**2 * (x.power + mean**2) / variance + shift**2
        return float(np.mean(squares))

    def conv_norm(self, x: Blob, name: str, outputs: int, kernel: Sides, stride: int = 1) -> Blob:
        """A Convolution, and BatchNorm and Scale in place."""
        return self.normalise(self.conv(x, name, outputs, kernel, stride), name)

    def relu(self, x: Blob) -> Blob:
        """A ReLU in place."""
        self._layer(f"relu_{x.name}", "ReLU", (x,), x.name)
        return x._replace(power=x.power / 2)

    def norm_relu(self, x: Blob, name: str) -> Blob:
        """BatchNorm, Scale and ReLU to a blob of its own: ``x`` has other readers."""
        return self.relu(self.normalise(x, name, name))

    def pool(self, x: Blob, name: str, fields: str) -> Blob:
        """A Pooling; ``fields`` are its fields."""
        self._layer(name, "Pooling", (x,), name, f"  pooling_param {{ {fields} }}\n")
        return x._replace(name=name)

    def add(self, name: str, *bottoms: Blob) -> Blob:
        """An Eltwise, the sum."""
        self._layer(name, "Eltwise", bottoms, name)
        return Blob(name, bottoms[0].channels, sum(x.power for x in bottoms))

    def product(self, name: str, x: Blob, y: Blob) -> Blob:
        """An Eltwise, the product."""
        self._layer(name, "Eltwise", (x, y), name, "  eltwise_param { operation: PROD }\n")
        return Blob(name, x.channels, x.power * y.power)

    def hard_sigmoid(self, x: Blob, name: str) -> Blob:
        """``max(x + 3, 0) / 6``: a Power, a ReLU (BVLC has no ReLU6) and a Power."""
        self._layer(f"{name}_plus", "Power", (x,), f"{name}_plus", "  power_param { shift: 3 }\n")
        y = self.relu(Blob(f"{name}_plus", x.channels, x.power + 9))
        fields = "  power_param { scale: 0.16666667 }\n"
        self._layer(f"{name}_div", "Power", (y,), f"{name}_div", fields)
        return Blob(f"{name}_div", x.channels, y.power / 18)

    def excite(self, x: Blob, name: str) -> Blob:
        """Squeeze and excitation: each channel times what is made of the means of all."""
        y = self.pool(x, f"{name}_mean", "pool: AVE global_pooling: true")
        y = self.relu(self.conv(y, f"{name}_squeeze", x.channels // 4, 1))
        y = self.hard_sigmoid(self.conv(y, f"{name}_excite", x.channels, 1), name)
        self._layer(f"{name}_flat", "Flatten", (y,), f"{name}_flat")
        fields = "  scale_param { axis: 0 }\n"
        self._layer(name, "Scale", (x, y._replace(name=f"{name}_flat")), name, fields)
        return Blob(name, x.channels, x.power * y.power)

    def concat(self, name: str, *bottoms: Blob) -> Blob:
        """A Concat of channels."""
        self._layer(name, "Concat", bottoms, name)
        channels = sum(x.channels for x in bottoms)
        return Blob(name, channels, sum(x.channels * x.power for x in bottoms) / channels)

    def classify(self, x: Blob) -> None:
        """The mean over the image, and an InnerProduct to 1000 classes: the net's output."""
        x = self.pool(x, "mean", "pool: AVE global_pooling: true")
        fields = "  inner_product_param { num_output: 1000 }\n"
        self._layer("fc", "InnerProduct", (x,), "fc", fields)
        deviation = (x.channels * x.power) ** -0.5
        weights = deviation * self._random.standard_normal((1000, x.channels), np.float32)
        self._blobs("fc", weights, np.zeros(1000))

    def _layer(
        self, name: str, kind: str, bottoms: Tuple[Blob, ...], top: str, fields: str = ""
    ) -> None:
        reads = "".join(f'  bottom: "{x.name}"\n' for x in bottoms)
        self.text += (
            f'layer {{\n  name: "{name}"\n  type: "{kind}"\n{reads}  top: "{top}"\n{fields}}}\n'
        )

    def _blobs(self, name: str, *arrays: Any) -> None:
        payload = [field(1, name.encode())]
        for array in arrays:
            dims = b"".join(varint(dim) for dim in array.shape)
            data = np.ascontiguousarray(array, "<f4").tobytes()
            head = field(7, field(1, dims)) + header(5, len(data))
            payload += [header(7, len(head) + len(data)), head, data]
        self._weights.write(header(100, sum(map(len, payload))))
        self._weights.writelines(payload)


def write_pair(folder: Path, name: str, build: Callable[[Building], None]) -> Pair:
    """The pair ``name`` in ``folder``, built unless it is there."""
    prototxt, caffemodel = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    if not (prototxt.exists() and caffemodel.exists()):
        with open(caffemodel, "wb") as handle:
            building = Building(name, handle)
            build(building)
        prototxt.write_text(building.text)  # last: a text that is there has its weights
    return prototxt, caffemodel

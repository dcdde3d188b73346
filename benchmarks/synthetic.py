"""Synthetic pairs of any size: a ResNet-152 of conv + BatchNorm + Scale, seeded values."""

from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np

from caffe_merge.weights.wire import field, header, varint

# Stage: blocks, width of the inner convolutions; a block's output is four times as wide.
STAGES = ((3, 64), (8, 128), (36, 256), (3, 512))

Conv = Tuple[str, str, int, int, int, int]  # name, bottom, inputs, outputs, kernel, stride


def write_pair(folder: Path, name: str, repeat: int = 1) -> Tuple[Path, Path]:
    """Write a pair of about 240 MB, or with its blocks repeated ``repeat`` times; the two paths."""
    prototxt, caffemodel = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    if prototxt.exists() and caffemodel.exists():
        return prototxt, caffemodel
    random = np.random.Generator(np.random.PCG64(152))
    text = [
        f'name: "{name}"',
        'layer {\n  name: "data"\n  type: "Input"\n  top: "data"\n'
        "  input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }\n}",
    ]
    with open(caffemodel, "wb") as handle:
        handle.write(field(1, name.encode()))
        for kind, item in _layers(repeat):
            if kind == "text":
                text.append(str(item))
                continue
            conv, bottom, inputs, outputs, kernel, stride = item  # type: ignore[misc]
            text.append(_conv_text(conv, bottom, outputs, kernel, stride))
            weights = (outputs, inputs, kernel, kernel)
            deviation = (2 / (inputs * kernel * kernel)) ** 0.5
            one = random.random
            for layer, blobs in (
                (conv, [deviation * random.standard_normal(weights, np.float32)]),
                (f"bn_{conv}", [one(outputs) * 99, 500 + one(outputs) * 999, np.array([999.98])]),
                (f"scale_{conv}", [0.5 + one(outputs), one(outputs)]),
            ):
                _write_layer(handle, layer, blobs)
        fc = 0.01 * random.standard_normal((1000, 2048), np.float32)
        _write_layer(handle, "fc", [fc, np.zeros(1000)])
    prototxt.write_text("\n".join(text) + "\n")
    return prototxt, caffemodel


def _layers(repeat: int) -> Iterator[Tuple[str, object]]:
    yield "conv", ("conv1", "data", 3, 64, 7, 2)
    yield "text", _simple("relu1", "ReLU", "conv1", "conv1")
    pool = "  pooling_param { kernel_size: 3 stride: 2 }\n"
    yield "text", _simple("pool1", "Pooling", "conv1", "pool1", pool)
    bottom, channels = "pool1", 64
    for stage, (blocks, width) in enumerate(STAGES):
        for block in range(blocks * repeat):
            name = f"s{stage}b{block}"
            stride = 2 if stage and not block else 1
            shortcut = bottom
            if not block:
                shortcut = f"{name}_proj"
                yield "conv", (shortcut, bottom, channels, 4 * width, 1, stride)
            yield "conv", (f"{name}_a", bottom, channels, width, 1, stride)
            yield "text", _simple(f"{name}_a_relu", "ReLU", f"{name}_a", f"{name}_a")
            yield "conv", (f"{name}_b", f"{name}_a", width, width, 3, 1)
            yield "text", _simple(f"{name}_b_relu", "ReLU", f"{name}_b", f"{name}_b")
            yield "conv", (f"{name}_c", f"{name}_b", width, 4 * width, 1, 1)
            both = f'  bottom: "{shortcut}"\n'
            yield "text", _simple(f"{name}_sum", "Eltwise", f"{name}_c", f"{name}_sum", both)
            yield "text", _simple(f"{name}_relu", "ReLU", f"{name}_sum", f"{name}_sum")
            bottom, channels = f"{name}_sum", 4 * width
    everything = "  pooling_param { pool: AVE global_pooling: true }\n"
    yield "text", _simple("pool5", "Pooling", bottom, "pool5", everything)
    classes = "  inner_product_param { num_output: 1000 }\n"
    yield "text", _simple("fc", "InnerProduct", "pool5", "fc", classes)
    yield "text", _simple("prob", "Softmax", "fc", "prob")


def _simple(name: str, kind: str, bottom: str, top: str, more: str = "") -> str:
    return (
        f'layer {{\n  name: "{name}"\n  type: "{kind}"\n  bottom: "{bottom}"\n{more}'
        f'  top: "{top}"\n}}'
    )


def _conv_text(name: str, bottom: str, outputs: int, kernel: int, stride: int) -> str:
    own = (
        f"  convolution_param {{\n    num_output: {outputs}\n    bias_term: false\n"
        f"    kernel_size: {kernel}\n    pad: {kernel // 2}\n    stride: {stride}\n  }}\n"
    )
    return "\n".join(
        [
            _simple(name, "Convolution", bottom, name, own),
            _simple(f"bn_{name}", "BatchNorm", name, name),
            _simple(f"scale_{name}", "Scale", name, name, "  scale_param { bias_term: true }\n"),
        ]
    )


def _write_layer(handle: "object", name: str, blobs: "List[np.ndarray]") -> None:
    payload = [field(1, name.encode())]
    for blob in blobs:
        dims = b"".join(varint(dim) for dim in blob.shape)
        data = np.ascontiguousarray(blob, "<f4").tobytes()
        head = field(7, field(1, dims)) + header(5, len(data))
        payload += [header(7, len(head) + len(data)), head, data]
    handle.write(header(100, sum(map(len, payload))))  # type: ignore[attr-defined]
    for piece in payload:
        handle.write(piece)  # type: ignore[attr-defined]

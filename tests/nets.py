"""The one way to a net in tests: prototxt from a few words, seeded or given weights, files, a Net.

    text = prototxt("data 2 3 8 7", "conv: Convolution data -> conv { convolution_param { ... } }")
    net = load(tmp_path, text)                       # with seeded weights of matching shapes
    pair = write_pair(tmp_path, text, {"conv": [kernel, bias]})
    net = load_pair(pair, keep_dtype=True)
    net = parse(text)                                # no files and no weights
    layer = make_layer('type: "Bias"', values)      # one layer, without a net

The tests of the text and wire readers build their inputs byte by byte, by themselves.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from google.protobuf import text_format

import caffe_merge
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.syntax import Document
from caffe_merge.formats.text.upgrade import upgrade
from caffe_merge.formats.weights.blobs import Dense
from caffe_merge.layers import shapes
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.layers.state import State
from caffe_merge.net.graph import Graph
from caffe_merge.net.loading import Net

Pair = Tuple[Path, Path]
Arrays = Mapping[str, Sequence[np.ndarray]]  # layer name -> blobs
Weights = Dict[str, List[np.ndarray]]

_INPUT = re.compile(r"(\S+)((?: \d+)+)$")
_LAYER = re.compile(r"(\S+): (\w+)(.*?) -> (.*?)(?: \{(.*)\})?$", re.DOTALL)


def prototxt(*lines: str) -> str:
    """The text of a net: ``data 2 3 8 7`` is an input, ``name: Type bottom -> top {...}`` a layer.

    Of bottoms and tops there may be several. What is in braces is the rest of the layer's own text.
    """
    return "".join(_block(line) for line in lines)


def _block(line: str) -> str:
    entry = _INPUT.match(line)
    if entry:
        name = entry.group(1)
        dims = " ".join(f"dim: {dim}" for dim in entry.group(2).split())
        return _layer(name, "Input", "", name, f"input_param {{ shape {{ {dims} }} }}")
    layer = _LAYER.match(line)
    assert layer, line
    return _layer(*layer.groups(default=""))


def _layer(name: str, kind: str, bottoms: str, tops: str, body: str) -> str:
    lines = [f'  name: "{name}"', f'  type: "{kind}"']
    lines += [f'  bottom: "{bottom}"' for bottom in bottoms.split()]
    lines += [f'  top: "{top}"' for top in tops.split()]
    lines += [f"  {body.strip()}"] if body.strip() else []
    return "layer {\n" + "\n".join(lines) + "\n}\n"


def parse(text: str, state: Optional[State] = None) -> Net:
    """The net of ``text``, upgraded to the current format, without weights."""
    document, _ = upgrade(Document(text.encode(), "net.prototxt"))
    return Net(document, None, state or State())


def parse_layer(body: str, **fields: Any) -> Any:
    """The LayerParameter of prototxt without the ``layer { }`` around it, and ``fields``."""
    param = LayerParameter(**fields)
    text_format.Merge(body, param)
    return param


def parse_spec(body: str, **fields: Any) -> LayerSpec:
    """The same as what the shapes and the reference engine take."""
    return LayerSpec(parse_layer(body, **fields))


def make_layer(body: str, *blobs: Any, bottoms: int = 1) -> Layer:
    """A layer called "it" of this text and these blobs, outside of any net."""
    layer = Layer(parse_layer(body, name="it", bottom=["x", "y"][:bottoms], top=["z"]))
    layer.load_blobs([Dense(blob) for blob in blobs])
    return layer


def seeded(text: str, seed: int = 0) -> Weights:
    """Weights of the right shapes for the net ``text``, the statistics of BatchNorm realistic."""
    net = parse(text)
    graph = Graph(net.layers, {})
    out: Weights = {}
    for number, layer in enumerate(net.layers):
        expected = shapes.blobs(
            LayerSpec(layer.param), [bottom.shape for bottom in graph.bottoms[layer]]
        )
        random = np.random.default_rng([seed, number])
        complete = [shape for shape in expected or [] if shape is not None and None not in shape]
        values = [_values(layer.type, at, shape, random) for at, shape in enumerate(complete)]
        if layer.type == "BatchNorm" and len(values) == 3:
            factor = np.float32(random.choice([1.0, 999.98, 0.37]))
            values = [values[0] * factor, values[1] * factor, np.array([factor])]
        out[layer.name] = values  # like Caffe: every layer is in the file
    return out


def _values(kind: str, number: int, shape: Any, random: np.random.Generator) -> np.ndarray:
    if kind == "BatchNorm" and number == 1:
        return random.uniform(0.2, 2, shape)
    if kind == "Scale" and number == 0:
        return random.uniform(0.4, 1.6, shape) * random.choice([-1.0, 1.0], shape)
    if number == 0 and kind in ("Convolution", "Deconvolution", "InnerProduct"):
        return random.standard_normal(shape) / max(1.0, np.prod(shape[1:])) ** 0.5
    return random.standard_normal(shape) * 0.5


def caffemodel(blobs: Arrays) -> bytes:
    """The bytes of a caffemodel that holds ``blobs``, as Caffe writes it."""
    net = NetParameter()
    for name, arrays in blobs.items():
        layer = net.layer.add(name=name)
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(np.shape(array))
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
    return bytes(net.SerializeToString())


class Stored(NamedTuple):
    """A blob as it is stored: its dims, and whether as num/channels/height/width."""

    dims: Tuple[int, ...]
    legacy: bool = False


def stored(layers: Sequence[Tuple[str, Sequence[Stored]]], random: np.random.Generator) -> bytes:
    """A caffemodel of these records in this order, names repeated or not, of positive values."""
    net = NetParameter()
    for name, blobs in layers:
        layer = net.layer.add(name=name)
        for dims, legacy in blobs:
            blob = layer.blobs.add()
            blob.data.extend(random.uniform(0.5, 2, int(np.prod(dims))).astype("f4").tolist())
            if legacy:
                blob.num, blob.channels, blob.height, blob.width = dims
            else:
                blob.shape.dim.extend(dims)
    return bytes(net.SerializeToString())


def write_pair(
    folder: Path,
    text: Union[str, bytes],
    weights: Union[Arrays, bytes, None] = None,
    stem: str = "net",
) -> Pair:
    """Write ``stem``.prototxt and ``stem``.caffemodel; without ``weights``, seeded ones.

    Bytes are written as they are, so that a test can give a file of its own making.
    """
    if weights is None:
        weights = seeded(text if isinstance(text, str) else text.decode())
    pair = folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel"
    pair[0].write_bytes(text if isinstance(text, bytes) else text.encode())
    pair[1].write_bytes(weights if isinstance(weights, bytes) else caffemodel(weights))
    return pair


def load_pair(pair: Sequence[Union[Path, str, None]], **options: Any) -> Net:
    """The net of two files, the second perhaps None; ``options`` are those of caffe_merge.load."""
    text, weights = pair
    return caffe_merge.load(str(text), None if weights is None else str(weights), **options)


def load(
    folder: Path, text: str, weights: Union[Arrays, bytes, None] = None, **options: Any
) -> Net:
    """`write_pair`, then `load_pair`."""
    return load_pair(write_pair(folder, text, weights), **options)

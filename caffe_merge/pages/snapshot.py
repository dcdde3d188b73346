"""A net at one moment as plain data: its layers, who reads whom, what a page says of each."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from google.protobuf import text_format

from caffe_merge.arrays import Shape
from caffe_merge.formats.schema.messages import Message, copied
from caffe_merge.layers.layer import Layer
from caffe_merge.net.graph import Graph, Version
from caffe_merge.net.measures import multiply_adds
from caffe_merge.wording import counted

_SHOWN = 60  # lines of a layer's parameters
_FILLER = "_filler"
_ELSEWHERE = (
    "name",
    "type",
    "bottom",
    "top",
    "blobs",
    "include",
    "exclude",
)  # fields that are not among the parameters


class Node(NamedTuple):
    """One layer. ``reads`` has the numbers of the layers whose tops it reads, each once.

    ``number`` tells the layer: it has the same one in all snapshots of its net. ``outputs`` are the
    shapes of its tops, ``blobs`` those of its weights, ``parameters`` the lines of its text.
    """

    number: int
    name: str
    type: str
    reads: Tuple[int, ...]
    bottoms: Tuple[str, ...]
    tops: Tuple[str, ...]
    outputs: Tuple[Optional[Shape], ...]
    blobs: Tuple[Shape, ...]
    values: Optional[int]
    multiply_adds: Optional[int]
    parameters: Tuple[str, ...]


Nets = Tuple[Sequence[Node], Sequence[Node]]  # before and after


class Snapshots:
    """Takes snapshots of one net; a layer keeps its number from one to the next."""

    def __init__(self) -> None:
        self._numbers: Dict[Layer, int] = {}

    def take(self, graph: Graph, counts: Optional[Sequence[Optional[int]]] = None) -> List[Node]:
        """The layers of ``graph`` in net order; ``counts`` are their values, if not all loaded."""
        for layer in graph.layers:
            self._numbers.setdefault(layer, len(self._numbers))
        values = counts or [layer.parameters for layer in graph.layers]
        return [self._node(graph, layer, count) for layer, count in zip(graph.layers, values)]

    def _node(self, graph: Graph, layer: Layer, values: Optional[int]) -> Node:
        bottoms = graph.bottoms[layer]
        return Node(
            number=self._numbers[layer],
            name=layer.name,
            type=layer.type,
            reads=tuple(dict.fromkeys(self._numbers[version.producer] for version in bottoms)),
            bottoms=_names(bottoms),
            tops=_names(graph.tops[layer]),
            outputs=tuple(version.shape for version in graph.tops[layer]),
            blobs=tuple(tuple(blob.shape) for blob in layer.blobs),
            values=values,
            multiply_adds=multiply_adds(graph, layer),
            parameters=_parameters(layer),
        )


def _names(versions: Sequence[Version]) -> Tuple[str, ...]:
    return tuple(version.name for version in versions)


def _parameters(layer: Layer) -> Tuple[str, ...]:
    """The lines of its text without names, wiring, weights and what is for training alone.

    Behind them are the fields that only a fork has.
    """
    param: Any = copied(layer.param)
    for name in _ELSEWHERE:
        param.ClearField(name)
    if not any(spec.name for spec in param.param):
        param.ClearField("param")
    for _, block in param.ListFields():
        for field, _ in block.ListFields() if isinstance(block, Message) else ():
            if field.name.endswith(_FILLER):
                block.ClearField(field.name)
    lines = text_format.MessageToString(param, as_utf8=True).splitlines()
    lines += [f"{name}: {value}" if value else name for name, value in layer.extra.items()]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"... and {counted(len(lines) - _SHOWN, 'more line')}"]
    return tuple(lines)

"""What ``inspect`` tells of a net: its layers as data, as a table, and as JSON."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from caffe_merge.errors import NetError
from caffe_merge.layers.catalogue import POOLING, WINDOWED, of_family
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.geometry import Window, convolution_window, pooling_window
from caffe_merge.net.graph import Graph
from caffe_merge.net.measures import activation_bytes, multiply_adds
from caffe_merge.wording import counted, visible

SCHEMA = "caffe_merge.inspect/1"


class Row(NamedTuple):
    """One layer; None stands for what is not known."""

    layer: str
    type: str
    kernel: Optional[Tuple[int, ...]]
    stride: Optional[Tuple[int, ...]]
    pad: Optional[Tuple[int, ...]]
    dilation: Optional[Tuple[int, ...]]
    group: Optional[int]
    outputs: List[Optional[Tuple[int, ...]]]
    parameters: Optional[int]
    multiply_adds: Optional[int]


class Total(NamedTuple):
    """Sums over ``layers`` layers of what is known; ``unknown`` layers are not in the sum."""

    layers: int
    parameters: Optional[int]
    multiply_adds: Optional[int]
    unknown_parameters: int
    unknown_multiply_adds: int


class Inspection(NamedTuple):
    """A net as ``inspect`` shows it. ``inputs`` are the shapes that all counts are for.

    ``activation_bytes`` is what Caffe holds for the values of all blobs, None if that is not known.
    """

    inputs: Dict[str, Optional[Tuple[int, ...]]]
    rows: List[Row]
    activation_bytes: Optional[int] = None

    @classmethod
    def of(cls, graph: Graph, parameters: Sequence[Optional[int]]) -> "Inspection":
        """The layers of ``graph``, which have so many ``parameters``."""
        inputs = {
            version.name: version.shape
            for layer in graph.layers
            if not graph.bottoms[layer]
            for version in graph.tops[layer]
        }
        rows = [_row(graph, *pair) for pair in zip(graph.layers, parameters)]
        return cls(inputs, rows, activation_bytes(graph))

    @property
    def types(self) -> Dict[str, Total]:
        """The sums over each type, the one with most multiply-adds first."""
        rows: Dict[str, List[Row]] = {}
        for row in self.rows:
            rows.setdefault(row.type, []).append(row)
        totals = {kind: _total(of_type) for kind, of_type in rows.items()}
        return dict(sorted(totals.items(), key=lambda item: -(item[1].multiply_adds or 0)))

    @property
    def total(self) -> Total:
        """The sums over all layers."""
        return _total(self.rows)

    def to_json(self) -> Dict[str, Any]:
        """The same as plain data; docs/report.md describes every entry."""
        return {
            "schema": SCHEMA,
            "inputs": self.inputs,
            "layers": [row._asdict() for row in self.rows],
            "types": {kind: total._asdict() for kind, total in self.types.items()},
            "total": self.total._asdict(),
            "activation_bytes": self.activation_bytes,
        }

    def lines(self) -> Iterator[str]:
        """The layers as a table, the sums by type as another, and what they count for."""
        total = self.total
        yield from table(_LAYER_HEADS, [_cells(row, total) for row in self.rows], left=7)
        yield ""
        types = [(kind, *_sums(of_type, total)) for kind, of_type in self.types.items()]
        yield from table(_TYPE_HEADS, [*types, ("all", *_sums(total, total))], left=1)
        yield ""
        shapes = ", ".join(f"{visible(name)} {_size(size)}" for name, size in self.inputs.items())
        yield f"counted for {shapes}" if shapes else "no input"
        if self.activation_bytes is not None:
            yield f"activations: {self.activation_bytes:,} bytes, all blobs as Caffe holds them"
        if total.unknown_multiply_adds:
            layers = counted(total.unknown_multiply_adds, "layer")
            yield f"the multiply-adds of {layers} are not known"


_LAYER_HEADS = (
    "layer", "type", "kernel", "stride", "pad", "group", "output",
    "parameters", "multiply-adds", "share",
)  # fmt: skip
_TYPE_HEADS = ("type", "layers", "parameters", "multiply-adds", "share")


def _row(graph: Graph, layer: Layer, parameters: Optional[int]) -> Row:
    window, group = _window(graph, layer)
    kernel, stride, pad, _, dilation = window or (None,) * 5
    outputs = [version.shape for version in graph.tops[layer]]
    cost = multiply_adds(graph, layer)
    return Row(
        layer.name, layer.type, kernel, stride, pad, dilation, group, outputs, parameters, cost
    )


def _window(graph: Graph, layer: Layer) -> Tuple[Optional[Window], Optional[int]]:
    """The sliding window and the group of a layer that has them."""
    shape = graph.bottoms[layer][0].shape if graph.bottoms[layer] else None
    if shape is None:
        return None, None
    spec = spec_of(layer)
    conv_param = spec.param.convolution_param
    try:
        if layer.type in WINDOWED:
            spatial = len(shape) - 1 - conv_param.axis
            return convolution_window(spec, spatial), conv_param.group
        if layer.type in of_family(POOLING):
            return pooling_window(spec, shape[2:]), None
    except NetError:
        pass  # a fork's, or one whose shapes nobody can tell
    return None, None


def _total(rows: Sequence[Row]) -> Total:
    parameters = [row.parameters for row in rows if row.parameters is not None]
    costs = [row.multiply_adds for row in rows if row.multiply_adds is not None]
    return Total(
        len(rows),
        sum(parameters) if parameters else None,
        sum(costs) if costs else None,
        len(rows) - len(parameters),
        len(rows) - len(costs),
    )


def _cells(row: Row, total: Total) -> Tuple[str, ...]:
    pad = _each(row.pad)
    dilated = row.dilation is not None and any(step > 1 for step in row.dilation)
    return (
        visible(row.layer),
        visible(row.type),
        _each(row.kernel) + (f" dilated {_each(row.dilation)}" if dilated else ""),
        _each(row.stride),
        "" if pad == "0" else pad,
        "" if row.group in (None, 1) else str(row.group),
        ", ".join(map(_size, row.outputs)),
        _number(row.parameters),
        _number(row.multiply_adds),
        _share(row.multiply_adds, total.multiply_adds),
    )


def _sums(part: Total, total: Total) -> Tuple[str, ...]:
    return (
        str(part.layers),
        _sum(part.parameters, part.unknown_parameters),
        _sum(part.multiply_adds, part.unknown_multiply_adds),
        _share(part.multiply_adds, total.multiply_adds),
    )


def _sum(value: Optional[int], unknown: int) -> str:
    return f">= {value:,}" if value is not None and unknown else _number(value)


def _number(value: Optional[int]) -> str:
    return "?" if value is None else f"{value:,}"


def _share(value: Optional[int], total: Optional[int]) -> str:
    return f"{100 * value / total:.1f} %" if value and total else ""


def _each(sizes: Optional[Tuple[int, ...]]) -> str:
    """One number for all axes, if it is the same on all but for kernels; 3x1 else."""
    if not sizes:
        return ""
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _size(shape: Optional[Tuple[int, ...]]) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """``rows`` below ``heads``; the first ``left`` columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for number, row in enumerate([heads, *rows]):
        if number == 1:
            yield "-" * (sum(widths) + 2 * (len(widths) - 1))
        cells = [cell.ljust(width) for cell, width in zip(row[:left], widths)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:])]
        yield "  ".join(cells).rstrip()

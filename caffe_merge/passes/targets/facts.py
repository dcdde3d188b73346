"""Facts about a layer and about a net, by name: what the conditions of the table ask for.

A name that is not among those below is a field of the layer's own block in the text: ``transpose``,
``pool``, ``local_size``. Enum values are words; a field that is given several times has its first.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from caffe_merge.errors import CaffeMergeError
from caffe_merge.formats.schema.messages import is_repeated
from caffe_merge.layers.catalogue import CATALOGUE, POOLING, WINDOWED, of_family
from caffe_merge.layers.fork_fields import spec_of
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.shapes.geometry import Window, convolution_window, pooled, pooling_window
from caffe_merge.layers.spec import LayerSpec, apart
from caffe_merge.net.graph import Graph, Version
from caffe_merge.net.loading import Net
from caffe_merge.passes.targets.conditions import Clause, Value

_POOLINGS = of_family(POOLING)
_SIDES = ("kernel", "stride", "pad")


class LayerFacts:
    """What is asked of one layer of a graph; ``param`` and ``blobs`` may be those it is to get."""

    def __init__(
        self, graph: Graph, layer: Layer, param: Any = None, blobs: Optional[Sequence[Any]] = None
    ) -> None:
        self.graph, self.layer = graph, layer
        self.param, self.extra = apart(layer.param if param is None else param, layer.extra)
        self._new_spec = param if isinstance(param, LayerSpec) else LayerSpec(self.param)
        self.blobs = layer.blobs if blobs is None else blobs
        self.bottoms: Sequence[Version] = graph.bottoms[layer]
        self.tops: Sequence[Version] = graph.tops[layer]

    @property
    def type(self) -> str:
        """The layer's type."""
        return str(self.param.type)

    def meets(self, clauses: Sequence[Clause]) -> bool:
        """Whether all ``clauses`` are true of it."""
        return all(clause.holds(self._value(clause)) for clause in clauses)

    def _value(self, clause: Clause) -> Value:
        if clause.is_about_presence:
            return self._is_given(clause.fact)
        try:
            return OF_LAYERS[clause.fact](self) if clause.fact in OF_LAYERS else self._field(clause)
        except CaffeMergeError:
            return None  # of a layer that no Caffe would build, a fork's perhaps

    # -- the text ---------------------------------------------------------------------------

    @property
    def block(self) -> Any:
        """The block of the text with the layer's own parameters; None if its type has none."""
        row = CATALOGUE.get(self.type)
        name = row.block if row is not None else ""
        return getattr(self.param, name, None) if name else None

    def _is_given(self, name: str) -> bool:
        row = CATALOGUE.get(self.type)
        if row is not None and f"{row.block}.{name}" in self.extra:
            return True
        field = self.block.DESCRIPTOR.fields_by_name.get(name) if self.block is not None else None
        if field is None:
            return False
        return bool(getattr(self.block, name)) if is_repeated(field) else self.block.HasField(name)

    def _field(self, clause: Clause) -> Value:
        """A field of the layer's block, of the schema or a fork's; None if there is none."""
        row, name = CATALOGUE.get(self.type), clause.fact
        field = self.block.DESCRIPTOR.fields_by_name.get(name) if self.block is not None else None
        if field is None:
            text = self.extra.get(f"{row.block}.{name}") if row is not None else None
            return text if text is None else _plain(text)
        value = getattr(self.block, name)
        if is_repeated(field):
            value = value[0] if value else None
        if value is not None and field.enum_type is not None:
            return str(field.enum_type.values_by_number[value].name)
        return value  # type: ignore[no-any-return]

    # -- the window -------------------------------------------------------------------------

    @property
    def window(self) -> Optional[Window]:
        """Its sliding window; None if it has none, or the sizes are not known."""
        rank = self.bottoms[0].rank if self.bottoms else None
        if self.type in WINDOWED:
            return convolution_window(self._spec, 2 if rank is None else rank - 2)
        shape = self.bottoms[0].shape if self.bottoms else None
        if self.type not in _POOLINGS or (
            shape is None and self.param.pooling_param.global_pooling
        ):
            return None
        return pooling_window(self._spec, (1, 1) if shape is None else shape[2:])

    @property
    def _spec(self) -> LayerSpec:
        return spec_of(self.layer) if self.param is self.layer.param else self._new_spec


def _plain(text: str) -> Value:
    number = text.replace(".", "", 1).lstrip("-")
    return float(text) if number.isdigit() else text


def _largest(part: str) -> Callable[[LayerFacts], Value]:
    def largest(facts: LayerFacts) -> Value:
        window = facts.window
        return None if window is None else max(getattr(window, part), default=None)

    return largest


def _area(facts: LayerFacts) -> Value:
    window = facts.window
    if window is None:
        return None
    area = 1
    for size in window.kernel:
        area *= size
    return area


def _smallest_kernel(facts: LayerFacts) -> Value:
    window = facts.window
    return None if window is None else min(window.kernel, default=None)


def _listed(facts: LayerFacts) -> Value:
    block = facts.block
    if facts.type not in WINDOWED:
        return any(len(facts._spec.fork.integers(f"pooling_param.{name}")) > 1
                   for name in ("kernel_size", "stride", "pad"))  # fmt: skip
    return any(len(getattr(block, name)) > 1 for name in ("kernel_size", "stride", "pad"))


def _one_side(facts: LayerFacts) -> Value:
    block = facts.block
    return any(block.HasField(f"{name}_h") != block.HasField(f"{name}_w") for name in _SIDES)


def _mixed(facts: LayerFacts) -> Value:
    """Whether some of kernel, stride and pad are given by sides and others not."""
    block = facts.block
    sided = [block.HasField(f"{name}_h") for name in _SIDES]
    return any(sided) and not all(sided)


def _dilation_differs(facts: LayerFacts) -> Value:
    window = facts.window
    return window is not None and len(set(window.dilation)) > 1


def _partial(facts: LayerFacts) -> Value:
    """Whether the last window of a Pooling reaches beyond the padded input."""
    window, shape = facts.window, facts.bottoms[0].shape if facts.bottoms else None
    if window is None or shape is None or facts.type not in _POOLINGS:
        return None
    sizes = pooled(facts._spec, window, shape[2:])
    rows = zip(sizes, window.stride, window.kernel, shape[2:], window.pads)
    return any((n - 1) * stride + kernel > size + pads for n, stride, kernel, size, pads in rows)


def _depthwise(facts: LayerFacts) -> Value:
    shape = facts.bottoms[0].shape
    group = facts.param.convolution_param.group if facts.type in WINDOWED else 1
    return None if shape is None else group == shape[1] > 1


def _multiplier(facts: LayerFacts) -> Value:
    param = facts.param.convolution_param
    return param.num_output / param.group if param.group else None


def _coefficients(facts: LayerFacts) -> Value:
    return any(coefficient != 1 for coefficient in facts.param.eltwise_param.coeff)


def _scaled(facts: LayerFacts) -> Value:
    return any(abs(coefficient) != 1 for coefficient in facts.param.eltwise_param.coeff)


def _factor(facts: LayerFacts) -> Value:
    if len(facts.blobs) != 3 or facts.blobs[2].shape not in ((), (1,)):
        return None
    return float(facts.blobs[2].float64().reshape(-1)[0])


def _in_place(facts: LayerFacts) -> Value:
    return facts.graph.overwritten_by(facts.tops[0]) is not None if facts.tops else None


def _rewrites(facts: LayerFacts) -> Value:
    """How many layers, it included, have written the first top over in place."""
    count, version = 0, facts.tops[0] if facts.tops else None
    while version is not None:
        version = facts.graph.overwritten_by(version)
        count += version is not None
    return count


def _reader(facts: LayerFacts) -> Value:
    readers = facts.tops[0].readers if facts.tops else []
    return readers[0][0].type if len(readers) == 1 else ""


def _producer(facts: LayerFacts) -> Value:
    return facts.bottoms[0].producer.type if facts.bottoms else ""


def _blanks(facts: LayerFacts) -> Value:
    names = (facts.param.name, *facts.param.bottom, *facts.param.top)
    return any(any(char.isspace() for char in name) for name in names)


def _order(facts: LayerFacts) -> Value:
    return facts.extra.get("permute_param.order", "") if facts.type == "Permute" else None


def _batch_moves(facts: LayerFacts) -> Value:
    return facts.type == "Permute" and not str(_order(facts)).startswith("0")


def _stored_type(facts: LayerFacts) -> Value:
    """Whether its record in the weights names another type than the text, or none."""
    record = facts.layer.record
    return record is not None and record.type != facts.type


def _axis_from_front(facts: LayerFacts) -> Value:
    axis, rank = (
        getattr(facts.block, "axis", None),
        facts.bottoms[0].rank if facts.bottoms else None,
    )
    if axis is None or (axis < 0 and rank is None):
        return None
    return axis + rank if axis < 0 else axis  # type: ignore[no-any-return]


OF_LAYERS: Dict[str, Callable[[LayerFacts], Value]] = {
    "axis_from_front": _axis_from_front,
    "batch_moves": _batch_moves,
    "blanks": _blanks,
    "blob_rank": lambda facts: len(facts.blobs[0].shape) if facts.blobs else None,
    "bottoms": lambda facts: len(facts.bottoms),
    "coefficients": _coefficients,
    "depthwise": _depthwise,
    "dilation": _largest("dilation"),
    "dilation_differs": _dilation_differs,
    "factor": _factor,
    "implicit": lambda facts: facts.layer.implicit,
    "in_place": _in_place,
    "kernel": _largest("kernel"),
    "kernel_area": _area,
    "listed": _listed,
    "mixed": _mixed,
    "multiplier": _multiplier,
    "name": lambda facts: str(facts.param.name),
    "one_side": _one_side,
    "order": _order,
    "output": lambda facts: any(top.is_output for top in facts.tops),
    "pad": _largest("pad"),
    "partial": _partial,
    "producer": _producer,
    "rank": lambda facts: facts.bottoms[0].rank if facts.bottoms else None,
    "reader": _reader,
    "rewrites": _rewrites,
    "scaled": _scaled,
    "shape_known": lambda facts: bool(facts.tops and facts.tops[0].shape is not None),
    "shared": lambda facts: any(spec.name for spec in facts.param.param),
    "smallest_kernel": _smallest_kernel,
    "stored_type": _stored_type,
    "stride": _largest("stride"),
    "tops": lambda facts: len(facts.tops),
}  # fmt: skip

OF_NETS: Dict[str, Callable[[Net], Value]] = {
    "inputs": lambda net: sum(len(la.param.top) for la in net.layers if la.type == "Input"),
    "old_format": lambda net: any(note.kind == "upgraded" for note in net.notes),
    "other_states": lambda net: len(net.all_layers) > len(net.layers),
    "hdf5": lambda net: net.index is not None and net.index.kind == "hdf5",
}  # fmt: skip


def net_meets(net: Net, clauses: Sequence[Clause]) -> bool:
    """Whether all ``clauses`` are true of the net as a whole."""
    return all(clause.holds(OF_NETS[clause.fact](net)) for clause in clauses)

"""A net while it is run in caffe_merge's own float64 layers, one layer at a time.

Blobs are executed by name, in layer order, as Caffe does it: an in-place layer overwrites, and what
it writes is seen under every name that shares the memory (Flatten, Reshape, Split). What a layer
unknown to the reference makes, and all that depends on it, has a reason in place of values.
"""

from typing import (
    Any,
    Callable,
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np

from caffe_merge import reference
from caffe_merge.errors import (
    CaffeMergeError,
    OptionName,
    ShapeError,
    Text,
    ValidationError,
    WeightsError,
)
from caffe_merge.layers import standard
from caffe_merge.layers.layer import shares_memory
from caffe_merge.layers.spec import LayerSpec
from caffe_merge.net.data_layers import constants, is_source
from caffe_merge.notes import UNKNOWN, Reason
from caffe_merge.wording import counted

Arrays = Sequence[np.ndarray]
Forward = Callable[[Any, Arrays, Arrays], List[np.ndarray]]
Weights = Callable[[Any, List[np.ndarray]], List[np.ndarray]]
Form = Union[standard.Standard, Reason]  # a layer in BVLC's terms, or why it has none
Version = Tuple[str, int]  # a blob's name, and the index of the layer that writes it


class Plan(NamedTuple):
    """Who writes and reads which blob; names may share memory in Caffe, and in-place writes.

    For each layer: ``aliases``, the other names under which each of its in-place tops is seen, and
    ``reads``, the versions that are its bottoms. ``ready`` has for a layer the names that nobody
    writes any more after it, ``needed`` for each name the layer after which nobody reads it, and
    ``final`` its last version, in the order in which names come up.
    """

    aliases: List[Dict[str, List[str]]]
    reads: List[List[Version]]
    ready: Dict[int, List[str]]
    needed: Dict[str, int]
    final: Dict[str, Version]


class Program(NamedTuple):
    """A net that is run any number of times: its layers, the form of each, and its Plan."""

    layers: Sequence[Any]
    forms: Sequence[Form]
    plan: Plan


class Step(NamedTuple):
    """One layer that was run: its parameters and weights as they were computed with."""

    spec: LayerSpec
    blobs: List[np.ndarray]
    bottoms: List[np.ndarray]
    tops: Sequence[Optional[np.ndarray]]


class Run:
    """A net while it is run: ``arrays`` by name, as they are now, or ``reasons`` why there is none.

    ``inputs`` are the values of data layers by top; ``stand_ins`` those of the tops of layers that
    are not run, by the layer's index. ``weights(layer, blobs)`` may replace float64 weights. Errors
    begin with ``path``. ``unable`` are the layers, by index, that could not be run although their
    bottoms have values.
    """

    path = ""

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, np.ndarray],
        stand_ins: Optional[Mapping[int, Sequence[Optional[np.ndarray]]]] = None,
        forward: Optional[Forward] = None,
        weights: Optional[Weights] = None,
    ) -> None:
        self.layers, self._forms, self.plan = program
        self.arrays: Dict[str, np.ndarray] = {}
        self.reasons: Dict[str, str] = {}
        self.unable: Set[int] = set()
        self.forward = forward or reference.forward
        self._inputs = inputs
        self._stand_ins = stand_ins or {}
        self._weights = weights

    def step(self, index: int) -> Optional[Step]:
        """Run a layer; return what it computed, None where it was fed or could not be run."""
        try:
            return self._step(index)
        except CaffeMergeError as error:
            if not self.path:
                raise
            raise error.of(self.path) from error

    def _step(self, index: int) -> Optional[Step]:
        layer = self.layers[index]
        done: Optional[Step] = None
        result = self._execute(index)
        if isinstance(result, Step):
            done = result
            tops, reason = result.tops, f"{_label(layer)}: it has "
            reason += counted(len(layer.param.top), "top")
        else:
            tops, reason = result
        for position, top in enumerate(layer.param.top):
            value = tops[position] if position < len(tops) else None
            for name in {top, *(self.plan.aliases[index].get(top, ()))}:
                old = self.arrays.pop(name, None)
                self.reasons.pop(name, None)
                if value is None:
                    self.reasons[name] = reason
                else:
                    keeps = old is not None and name != top
                    self.arrays[name] = value.reshape(old.shape) if keeps else value  # type: ignore[union-attr]
        return done

    def drop(self, index: int) -> None:
        """Forget the blobs that nobody needs after the layer ``index``."""
        needed = self.plan.needed
        for name in [name for name in self.arrays if needed[name] <= index]:
            del self.arrays[name]

    def _execute(self, index: int) -> Any:
        """The layer's Step; or its tops, and the reason why some or all are missing."""
        layer = self.layers[index]
        param, name = layer.param, _label(layer)
        if index in self._stand_ins:
            fed = self._stand_ins[index]
            text = f"{name}: the size of what it makes is not known: give "
            return fed, Text(text, _shapes_of(param.top))
        values = {} if param.bottom else {**self._constants(index), **self._inputs}
        if any(top in values for top in param.top):
            arrays = [values.get(top) for top in param.top]
            fed = [None if value is None else value.astype(np.float64) for value in arrays]
            return fed, without_data(layer, values)
        for bottom in param.bottom:
            if bottom in self.reasons:
                return [], self.reasons[bottom]
            if bottom not in self.arrays:
                raise ValidationError(
                    f"layer {param.name!r} reads {bottom!r}, which nothing produces"
                )
        form = self._forms[index]
        if isinstance(form, Reason):
            return [], f"{name}: {form}"
        try:
            return self._compute(layer, *form)
        except reference.Unsupported as error:
            reason = Text(error.message)
            if not param.bottom:
                reason = without_data(layer, self._inputs)
        except WeightsError as error:
            if not layer.extra:  # what a fork's fields make of blobs is not for us to refuse
                raise
            reason = Text(f"{name}: {error}")
        except ShapeError as error:  # a fork's rule may be another
            reason = Text(str(error))
        if param.bottom:
            self.unable.add(index)
        return [], reason

    def _constants(self, index: int) -> Dict[str, np.ndarray]:
        """What a layer makes of nothing but its text; not what a later layer writes over.

        Caffe fills that once alone: the next forward pass begins with what was written.
        """
        values = constants(self.layers[index].param)
        return {top: value for top, value in values.items() if self.plan.final[top] == (top, index)}

    def _compute(self, layer: Any, spec: LayerSpec, stored: Sequence[Any]) -> Step:
        bottoms = [self.arrays[bottom] for bottom in layer.param.bottom]
        try:
            blobs = float64_weights(layer, stored, self._weights)
            return Step(spec, blobs, bottoms, self.forward(spec, blobs, bottoms))
        except CaffeMergeError:
            raise
        except (ArithmeticError, LookupError, ValueError) as error:
            raise ValidationError(f"{_label(layer)}: {error}") from error


def run(
    layers: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    forward: Optional[Forward] = None,
) -> Iterator[Tuple[str, Optional[np.ndarray], str]]:
    """Execute ``layers``; yield (name, array, "") or (name, None, why not) for every blob.

    Each name comes once, with what it holds in the end, as soon as that is known. An array is
    dropped after its last reader, a layer's float64 weights after the layer.
    """
    net = Run(program(layers), inputs, forward=forward)
    for index in range(len(layers)):
        net.step(index)
        for name in net.plan.ready.get(index, ()):
            yield name, net.arrays.get(name), net.reasons.get(name, "")
        net.drop(index)


def program(layers: Sequence[Any]) -> Program:
    """The Program of a net. Raises WeightsError where a layer's values make no sense."""
    return Program(layers, [_form(layer) for layer in layers], plan(layers))


def _form(layer: Any) -> Form:
    """The form of a layer as it stands in a net."""
    if _loses_its_bottom(layer):
        return Reason("it writes over what it has yet to read, and Caffe loses that", UNKNOWN)
    return standard.standard(layer)


def _loses_its_bottom(layer: Any) -> bool:
    """Whether it writes in place and Caffe's code needs a value after it was written over.

    As pycaffe does it: a sum begins with zeros (eltwise_layer.cpp), a 1x1 convolution is a product
    of the blob itself (base_conv_layer.cpp), LRN and Pooling read neighbours.
    """
    param = layer.param
    if not param.top or param.top[0] not in param.bottom:
        return False
    if layer.type == "Eltwise":
        is_sum = param.eltwise_param.operation == param.eltwise_param.SUM
        return bool(is_sum and len(param.bottom) > 1)
    if layer.type == "LRN":
        return bool(param.lrn_param.norm_region == param.lrn_param.ACROSS_CHANNELS)
    if layer.type == "Convolution":
        return bool(layer.blobs) and all(n == 1 for n in layer.blobs[0].shape[2:])
    return bool(layer.type == "Pooling")


def float64_weights(
    layer: Any, stored: Sequence[Any], weights: Optional[Weights]
) -> List[np.ndarray]:
    """The arrays of the blobs ``stored`` of a layer, or what ``weights`` has in their place."""
    blobs = [np.asarray(blob.array(), np.float64) for blob in stored]
    return blobs if weights is None else weights(layer, blobs)


class _Memory:
    """What blobs hold their values in: the names that have it now, and who writes it last."""

    def __init__(self) -> None:
        self.names: List[str] = []
        self.written = -1


def plan(layers: Sequence[Any]) -> Plan:
    """The Plan of a net."""
    memory: Dict[str, _Memory] = {}  # what a name has now
    writer: Dict[str, int] = {}
    order = Plan([], [], {}, {}, {})
    for index, layer in enumerate(layers):
        bottoms, tops = list(layer.param.bottom), list(layer.param.top)
        order.reads.append([(name, writer.get(name, -1)) for name in bottoms])
        also: Dict[str, List[str]] = {}
        for position, top in enumerate(tops):
            held = memory.get(top)
            if held is not None and position < len(bottoms) and bottoms[position] == top:
                also[top] = [name for name in held.names if name != top]
            else:
                if held is not None:
                    held.names.remove(top)
                shared = memory.get(bottoms[0]) if shares_memory(layer) else None
                held = memory[top] = shared or _Memory()
                held.names.append(top)
            held.written = index
            writer.update(dict.fromkeys([top, *also.get(top, ())], index))
        order.needed.update(dict.fromkeys([*bottoms, *tops], index))
        order.aliases.append(also)
    order.final.update((name, (name, index)) for name, index in writer.items())
    for name in writer:
        last = memory[name].written
        order.ready.setdefault(max(writer[name], last), []).append(name)
        order.needed[name] = max(order.needed[name], last)
    return order


def outputs(params: Iterable[Any]) -> List[str]:
    """The blobs that nobody reads after they were last written: what Caffe calls net outputs."""
    unread: Dict[str, None] = {}
    for param in params:
        for bottom in param.bottom:
            unread.pop(bottom, None)
        unread.update(dict.fromkeys(param.top))
    return list(unread)


def input_shapes(params: Iterable[Any]) -> Iterator[Tuple[str, List[int]]]:
    """Name and shape of every top of an Input layer; one shape may serve all its tops."""
    for param in params:
        if param.type != "Input":
            continue
        shapes = [list(shape.dim) for shape in param.input_param.shape]
        for index, top in enumerate(param.top):
            yield top, shapes[min(index, len(shapes) - 1)] if shapes else []


def feedable(params: Iterable[Any]) -> List[str]:
    """The blobs beside the inputs that can be fed."""
    return [top for param in params if is_source(param) for top in param.top]


def without_data(layer: Any, fed: Container[str]) -> Text:
    """Why a data layer makes no values for those of its tops that are not ``fed``."""
    tops = [top for top in layer.param.top if top not in fed]
    return Text(f"{_label(layer)}: its data are not here: give ", _shapes_of(tops))


def _shapes_of(tops: Iterable[str]) -> Text:
    """The options that give the shapes of ``tops``."""
    return Text.joined(" ", [Text(OptionName("input_shape"), f" {top}=...") for top in tops])


def _label(layer: Any) -> str:
    return f"layer {layer.param.name!r} ({layer.param.type})"

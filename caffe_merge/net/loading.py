"""A Net: the layers of a prototxt, each with its typed view, its place in the text, its blobs.

``load`` reads both files; ``save`` (caffe_merge.net.saving) writes them back with the changes made.
"""

import contextlib
from typing import (
    TYPE_CHECKING,
    Collection,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
)

from caffe_merge.arrays import Shape
from caffe_merge.errors import About, NetError, Text, UsageError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter
from caffe_merge.formats.text.spelling import for_caffe
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.upgrade import upgrade
from caffe_merge.formats.text.view import SEVERAL, View, extra_fields
from caffe_merge.formats.weights.formats import open_index
from caffe_merge.formats.weights.index import Index
from caffe_merge.layers.layer import Layer
from caffe_merge.layers.state import State
from caffe_merge.net import data_layers, fitting, joining, training
from caffe_merge.net.graph import Graph
from caffe_merge.net.inputs import read_text, reject_weights
from caffe_merge.net.propagation import top_shapes
from caffe_merge.notes import Note

if TYPE_CHECKING:
    from caffe_merge.net.dialect import Dialect


class Place(NamedTuple):
    """Where a layer stands in its document."""

    field: Field
    element: int

    @property
    def block(self) -> Value:
        """The layer's own block."""
        return self.field.values[self.element]


class Net:
    """Text, weights and layers of one model.

    ``all_layers`` are in file order, those that the state leaves out included; ``layers`` are the
    ones in the net. Passes edit ``layer.param`` and ``layer.blobs``; nothing else is written.
    ``dialect`` is the schema of the user's own Caffe, if one was given; ``rewritten`` tells that
    ``document`` says something that the file, read by itself, does not.
    """

    def __init__(
        self,
        document: Document,
        index: Optional[Index],
        state: State,
        dialect: "Optional[Dialect]" = None,
    ) -> None:
        self.document = document
        self.index = index
        self.state = state
        self.dialect = dialect
        self.rewritten = False
        self.stored_types = False  # the weights file gets the types of the text
        self.notes: List[Note] = []
        self._unknown: List[Tuple[Note, Layer, str]] = []  # a fork's field, as noted
        self.input_shapes: Dict[str, Shape] = {}  # of what data layers bring, where it is known
        self.places: Dict[Layer, Place] = {}
        self.message = NetParameter()
        self.all_layers: List[Layer] = self._read()
        self.loaded: Tuple[Layer, ...] = tuple(self.all_layers)

    @property
    def name(self) -> str:
        """The net's own name, perhaps empty."""
        return str(self.message.name)

    @property
    def layers(self) -> List[Layer]:
        """The layers in the net, in order."""
        return [layer for layer in self.all_layers if layer.active]

    def graph(self, input_shapes: Optional[Mapping[str, Shape]] = None) -> Graph:
        """The graph of the net as it is now; ``input_shapes`` come before those that it knows.

        Raises NetError, with its place in the text, for a net that Caffe would not build.
        """
        self.check_data()
        with self.located():
            return Graph(self.layers, {**self.input_shapes, **(input_shapes or {})})

    def check_data(self) -> None:
        """Raise NetError where a layer reads what a data layer of another phase or stage makes."""
        inactive = [layer for layer in self.all_layers if not layer.active]
        with self.located():
            training.check_data(self.layers, inactive)

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Have a NetError of this block say where in the text it is."""
        try:
            yield
        except NetError as error:
            place = self.places.get(error.layer)
            if place is None:
                raise NetError(error.message, path=self.document.path) from error
            at = place.block.start
            same = [field for field in place.block.fields or () if field.name == error.field]
            values = [value for field in same for value in field.values]
            if error.number < len(values):
                at = values[error.number].start
            self._fail(at, error.message, error)

    def _fail(self, at: int, message: str, cause: Optional[Exception] = None) -> NoReturn:
        """Raise a NetError that points at the offset ``at`` of the text."""
        line, column = self.document.place(at)
        error = NetError(Text(f"{self.document.path}:{line}:{column}: ", message))
        error.path = self.document.path
        raise error from cause

    def _read(self) -> List[Layer]:
        view = View(self.document)
        rest = [field for field in self.document.fields if field.name != "layer"]
        view.read(rest, self.message)
        # Of the net's own state Caffe keeps the stages; phase and level are the caller's.
        stages = (*self.state.stages, *self.message.state.stage)
        self.state = State(self.state.phase, self.state.level, stages)
        layers: List[Layer] = []
        for unknown in view.unknown:
            self._note_unknown("", unknown.name, unknown.at)
        for field in self.document.fields:
            if field.name != "layer":
                continue
            for element, value in enumerate(field.values):
                if value.fields is None:
                    self.document.fail(value.start, "expected a { block } for 'layer'")
                view.unknown = []
                param = LayerParameter()
                view.read(value.fields, param)
                layer = Layer(param, phase=self.state.phase)
                self.places[layer] = Place(field, element)
                with self.located(), About(layer):
                    layer.active = self.state.includes(param)
                layer.extra = layer.written = extra_fields(view.unknown)
                for unknown in view.unknown:
                    note = self._note_unknown(layer.name, unknown.name, unknown.at)
                    self._unknown.append((note, layer, unknown.name))
                layers.append(layer)
        return [*self._inputs([layer for layer in layers if layer.active]), *layers]

    def _note_unknown(self, layer: str, name: str, at: int) -> Note:
        """The note on a field that the schema does not know.

        It is reported unless there is a dialect, which knows them all, or would have refused them.
        """
        line, column = self.document.place(at)
        what = "one value, not several, in a layer" if name in SEVERAL else "not a field"
        text = f"{line}:{column}: {name} is {what} of BVLC Caffe; kept as it is"
        note = Note("unknown-field", layer, text)
        if self.dialect is None:
            self.notes.append(note)
        return note

    @property
    def changed(self) -> bool:
        """Whether anything of it is not as it was loaded."""
        return len(self.all_layers) != len(self.loaded) or any(
            layer is not old or layer.is_rewritten or layer.blobs is not layer.loaded
            for layer, old in zip(self.all_layers, self.loaded)
        )

    def missing_shapes(self) -> Dict[str, Text]:
        """The inputs whose shapes nothing tells, and for each the flag that would give it."""
        layers = self.layers
        versions = [top for tops in self.graph().tops.values() for top in tops]
        shaped = {version.name for version in versions if version.shape is not None}
        params = [layer.param for layer in layers]
        extras = [layer.extra for layer in layers]
        return data_layers.missing_shapes(params, extras, self.index, shaped)

    def require_shapes(self, shaped: Collection[str], otherwise: str = "") -> None:
        """Raise UsageError for an Input whose shape nothing tells, unless its blob is ``shaped``.

        ``otherwise`` ends the message: what else the caller may do.
        """
        inputs = [layer for layer in self.layers if layer.type == "Input"]
        if all(layer.param.input_param.shape for layer in inputs):
            return  # as good as always
        tops = {top for layer in inputs for top in layer.param.top}
        for name, flag in self.missing_shapes().items():
            if name in tops and name not in shaped:
                raise UsageError(
                    f"the shape of input {name!r} is not known, so the net cannot be run: give ",
                    *(flag, otherwise),
                    path=self.document.path,
                )

    def lost_fields(self) -> List[Note]:
        """The notes on fields of forks that are no longer in the net."""
        kept = set(self.all_layers)
        return [
            note
            for note, layer, name in self._unknown
            if layer not in kept or name not in layer.extra
        ]

    def _inputs(self, layers: Sequence[Layer]) -> List[Layer]:
        """The Input layer that the net's own ``input`` fields stand for (upgrade_proto.cpp).

        Caffe drops inputs where no shape stands beside them. Those that a layer reads and none
        makes are kept: their shape is the user's to give.
        """
        message = self.message
        inputs = list(message.input)
        if not (message.input_shape or message.input_dim):
            produced = {top for layer in layers for top in layer.param.top}
            read = {bottom for layer in layers for bottom in layer.param.bottom}
            inputs = [name for name in inputs if name in read - produced]
        if not inputs:
            return []
        param = LayerParameter(name="input", type="Input", top=inputs)
        count = len(inputs)
        if message.input_shape:
            if len(message.input_shape) < count:  # more are ignored, as in Caffe
                self._fail(
                    self._first("input_shape"),
                    f"expected {count} input_shape, one for each input, "
                    f"found {len(message.input_shape)}",
                )
            param.input_param.shape.MergeFrom(message.input_shape[:count])
        elif message.input_dim:
            if len(message.input_dim) < 4 * count:
                self._fail(
                    self._first("input_dim"),
                    f"expected {4 * count} input_dim, four for each input, "
                    f"found {len(message.input_dim)}",
                )
            for at in range(count):
                param.input_param.shape.add(dim=message.input_dim[4 * at : 4 * at + 4])
        return [Layer(param, True, implicit=True)]

    def _first(self, name: str) -> int:
        """The offset of the first field ``name`` of the net itself."""
        return next(field.start for field in self.document.fields if field.name == name)


class Reading(NamedTuple):
    """How files are read: each is the argument of ``load`` of this name.

    ``forms`` are those of net/text_forms.py that the text is put in first.
    """

    state: Optional[State] = None
    input_shapes: Optional[Mapping[str, Shape]] = None
    deploy: bool = False
    keep_dtype: bool = False
    proto: Optional[str] = None
    use_stored_statistics: bool = False
    forms: Sequence[str] = ()


def load(
    prototxt: str,
    caffemodel: Optional[str],
    state: Optional[State] = None,
    input_shapes: Optional[Mapping[str, Shape]] = None,
    *,
    deploy: bool = False,
    keep_dtype: bool = False,
    proto: Optional[str] = None,
    use_stored_statistics: bool = False,
) -> Net:
    """Read a pair. ``caffemodel`` None reads the text alone, every layer without weights.

    ``deploy`` makes a training file one to deploy; ``keep_dtype`` writes half precision as such;
    ``proto`` is the caffe.proto of the Caffe that the text is for, if that is not BVLC's;
    ``use_stored_statistics`` reads ``use_global_stats: false`` as true.
    Raises TextError with file:line:column, WeightsError with layer and blob, NetError for a net
    that Caffe would not build, FileError for a file that cannot be read.
    """
    how = Reading(state, input_shapes, deploy, keep_dtype, proto, use_stored_statistics)
    return load_as(prototxt, caffemodel, how)


def load_as(prototxt: str, caffemodel: Optional[str], how: Reading) -> Net:
    """``load``, read as ``how`` says. Raises likewise."""
    document, notes, dialect, respelled = read_document(prototxt, how.proto)
    index = None
    if caffemodel is not None:
        reject_weights(caffemodel)
        index = open_index(caffemodel, keep_half=how.keep_dtype)
    state, input_shapes = how.state or State(), how.input_shapes or {}
    if how.deploy:
        from caffe_merge.net import deployment

        document = deployment.rewrite(document, state, input_shapes, index, notes)
    if how.use_stored_statistics:
        from caffe_merge.net import statistics

        document = statistics.use_stored(document, notes)
    read = document
    if how.forms:
        from caffe_merge.net.text_forms import TEXT_FORMS

        for form in how.forms:
            document = TEXT_FORMS[form](document, notes)
    net = Net(document, index, state, dialect)
    rewritten = how.deploy or how.use_stored_statistics or respelled or document is not read
    net.rewritten = rewritten or (dialect is not None and dialect.changed)
    net.notes[:0] = notes
    if not net.layers:
        raise NetError(f"no layers in it: {_without_layers(document)}", path=prototxt)
    _join_weights(net, input_shapes)
    return net


def _join_weights(net: Net, input_shapes: Mapping[str, Shape]) -> None:
    """Give the layers their weights, and the net the shapes of its inputs as far as known."""
    _check_inputs(net, input_shapes)
    params = [layer.param for layer in net.layers]
    training.note_training(params, net.notes)
    extras = [layer.extra for layer in net.layers]
    net.input_shapes = {**data_layers.known_shapes(params, extras, net.index), **input_shapes}
    with net.located(), fitting.naming_shapes(input_shapes):
        joining.weights(net.layers, net.all_layers, net.index, net.notes, net.input_shapes)


class ReadText(NamedTuple):
    """A text as Caffe reads it, in the current format, and what was done to it.

    ``dialect`` is the user's own schema, if one was given; ``respelled`` tells that Caffe's reader
    would have refused the file as it is.
    """

    document: Document
    notes: List[Note]
    dialect: "Optional[Dialect]"
    respelled: bool


def read_document(prototxt: str, proto: Optional[str]) -> ReadText:
    """The text of the file ``prototxt``, by the schema at ``proto`` if it is not BVLC's."""
    document, spelling = for_caffe(Document(read_text(prototxt), prototxt))
    dialect = None
    if proto is not None:
        from caffe_merge.net.dialect import Dialect  # which compiles it: for those who have one

        dialect = Dialect(proto)
        document = dialect.named(document)
    document, notes = upgrade(document)
    if spelling is not None:
        notes.insert(0, Note("spelling", "", spelling))
    if dialect is not None:
        document = dialect.explicit(document, notes)
    return ReadText(document, notes, dialect, spelling is not None)


def _without_layers(document: Document) -> str:
    """What a text without layers is."""
    if {"net", "train_net", "base_lr"} & {field.name for field in document.fields}:
        return "a solver's settings: the net is the file that its `net` names"
    return "not the text of a net"


def _check_inputs(net: Net, input_shapes: Mapping[str, Shape]) -> None:
    """Raise UsageError for a shape of what needs none; NetError where the net lacks its data."""
    tops = [top for layer in net.layers if not layer.param.bottom for top in layer.param.top]
    if set(input_shapes).issubset(tops):
        return
    with net.located():
        layers_and_shapes = [*zip(net.layers, top_shapes(net.layers, {}))]
    unknown = {
        top
        for layer, shapes in layers_and_shapes
        for top, shape in zip(layer.param.top, shapes)
        if shape is None
    }
    for name in input_shapes:
        if name not in tops and name not in unknown:
            net.check_data()
            names = ", ".join(map(repr, tops)) or "none"
            raise UsageError(f"the net has no input {name!r} (its inputs: {names})")

"""``--proto``: reads a text by the schema of the user's own Caffe, beside BVLC's.

The text must be what that Caffe would read: each field one of its schema, each value of that
field's type. What both schemas know is then read by ours, as ever, so where the two would not read
the same from the same text, the text is made to say it: numbers of enum values become names, and
defaults that are not BVLC's are written out. What only theirs knows stays as opaque as it was: a
field's name and type do not tell its effect.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from caffe_merge.errors import FileError
from caffe_merge.formats.schema.messages import LayerParameter, NetParameter, is_repeated
from caffe_merge.formats.schema.protoc import compiled
from caffe_merge.formats.text.edits import Edits
from caffe_merge.formats.text.splices import Splices
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.values import parse_integer
from caffe_merge.formats.text.view import FieldInfo, View, field_infos
from caffe_merge.layers.catalogue import CATALOGUE
from caffe_merge.notes import Note


class _Default(NamedTuple):
    """A field with another default than BVLC's; ``value`` is theirs, in terms of our schema."""

    block: str
    name: str
    value: Any


class Dialect:
    """The NetParameter of the .proto file at ``path``.

    ``changed`` tells whether the text of a net was made to say more than it did.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed = False
        files = reversed(compiled(path))
        nets = [message for file in files for message in file.message_types_by_name.values()]
        nets = [message for message in nets if message.name == "NetParameter"]
        lists = field_infos(nets[0]) if nets else {}
        layers = [lists[name].message for name in ("layer", "layers") if name in lists]
        if not layers or layers[0] is None:
            raise FileError(
                "expected the schema of a Caffe, with a message NetParameter that has `layer` or "
                "`layers`; found none",
                path=path,
            )
        self._net = nets[0]
        self._defaults = _differing(layers[0])

    def check(self, document: Document) -> None:
        """Raise TextError where this Caffe would not read ``document``."""
        self._checked(document)

    def named(self, document: Document) -> Document:
        """``document``, checked, with names for the enum values that it has by other numbers."""
        numbers = self._checked(document)
        if not numbers:
            return document
        self.changed = True
        splices = Splices(document)
        for value, name in numbers:
            splices.splice(value.start, value.end, name)
        return splices.rewritten()

    def explicit(self, document: Document, notes: List[Note]) -> Document:
        """``document``, of the current format, with the defaults that are not BVLC's in it."""
        if not self._defaults:
            return document
        edits = Edits(document)
        written: Dict[_Default, int] = {}
        blocks = [v for f in document.fields if f.name == "layer" for v in f.values]
        for block in blocks:
            old, new = LayerParameter(), LayerParameter()
            view = View(document)
            view.read(block.fields or [], old)
            new.CopyFrom(old)
            unreadable = {
                unknown.name for unknown in view.unknown
            }  # with a value that we do not know
            for default in self._defaults:
                if f"{default.block}.{default.name}" not in unreadable and _lacks(old, default):
                    setattr(getattr(new, default.block), default.name, default.value)
                    written[default] = written.get(default, 0) + 1
            edits.update(block, old, new)
        if not written:
            return document
        self.changed = True
        for default, number in written.items():
            text = (
                f"{default.block}.{default.name} is written out in {number} "
                f"layer{'s'[: number > 1]}: "
                f"its default in {self.path} is not BVLC's"
            )
            notes.append(Note("fork-default", "", text))
        return edits.rewritten()

    def _checked(self, document: Document) -> List[Tuple[Value, str]]:
        check = _Check(View(document), self.path)
        check.fields(document.fields, self._net, NetParameter.DESCRIPTOR, 0)
        return check.numbers


class _Check:
    """One walk over a document by their schema and ours side by side."""

    def __init__(self, view: View, path: str) -> None:
        self.view = view
        self.path = path
        self.numbers: List[Tuple[Value, str]] = []  # enum values by number, and their names

    def fields(self, fields: List[Field], theirs: Any, ours: Optional[Any], at: int) -> None:
        """Hold the fields of the block at ``at`` against their message; ``ours`` is its like."""
        document = self.view.document
        our_fields = field_infos(ours) if ours is not None else {}
        their_fields = field_infos(theirs)
        seen: Dict[str, int] = {}
        for field in fields:
            if field.name.startswith("["):
                continue  # an extension, which no Caffe is known to have
            info = their_fields.get(field.name)
            if info is None:
                message = f"expected a field of {theirs.name} in {self.path}, found {field.name!r}"
                document.fail(field.start, message)
            first = seen.setdefault(field.name, field.start)
            if not info.repeated:
                self.view.check_single(field, first)
            for value in field.values:
                self.value(field, value, info, our_fields.get(field.name))
        missing = [n for n, info in their_fields.items() if info.required and n not in seen]
        if missing:
            message = f"expected {missing[0]!r} here, which {theirs.name} in {self.path} requires"
            document.fail(at, message)

    def value(
        self, field: Field, value: Value, theirs: FieldInfo, ours: Optional[FieldInfo]
    ) -> None:
        """Hold one value against their field; ``ours`` is the field of the same name."""
        if theirs.message is not None:
            inner = self.view.block(field, value)
            self.fields(inner, theirs.message, ours and ours.message, value.start)
            return
        scalar = self.view.scalar(theirs, field, value)
        if theirs.enum is None:
            return
        source = self.view.document.source(value)
        if scalar is None:
            self.view.fail(value, f"found {source} for {field.name!r}, expected {theirs.expected}")
        if ours is None or ours.enum is None or parse_integer(source) is None:
            return
        names = [name for name, number in theirs.enum.items() if number == scalar]
        if all(ours.enum.get(name) != scalar for name in names):
            self.numbers.append((value, names[0]))


def _differing(layer: Any) -> List[_Default]:
    """The defaults in the parameters of a layer that their schema and ours both state."""
    out = []
    for block in LayerParameter.DESCRIPTOR.fields:
        other = layer.fields_by_name.get(block.name)
        if other is None or not (block.message_type and other.message_type) or is_repeated(block):
            continue
        if block.name.endswith("data_param"):
            continue  # what reads data is neither merged nor run by us
        for ours in block.message_type.fields:
            theirs = other.message_type.fields_by_name.get(ours.name)
            if theirs is None or not (ours.has_default_value and theirs.has_default_value):
                continue
            value = _in_our_terms(theirs, ours)
            if value is not None and value != ours.default_value:
                out.append(_Default(block.name, ours.name, value))
    return out


def _in_our_terms(theirs: Any, ours: Any) -> Any:
    """Their default as a value of our field; None where it is none: an engine of theirs, say."""
    if theirs.cpp_type != ours.cpp_type:
        return None
    if ours.enum_type is None:
        return theirs.default_value
    name = theirs.enum_type.values_by_number[theirs.default_value].name
    value = ours.enum_type.values_by_name.get(name)
    return None if value is None else value.number


def _lacks(param: Any, default: _Default) -> bool:
    """Whether a layer depends on a default: its block is there without the field, or is not."""
    if param.HasField(default.block):
        return not getattr(param, default.block).HasField(default.name)
    if param.type in CATALOGUE:
        return default.block in CATALOGUE[param.type].blocks
    stem = default.block[: -len("_param")].replace("_", "")
    return bool(param.type.lower() == stem)

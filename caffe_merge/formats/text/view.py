"""The typed view: the fields of a syntax tree that are in the schema, as protobuf messages.

What is not in the schema (a fork's field, a fork's enum value) is listed and skipped; it stays in
the text. What is in it must be well formed, as for Caffe, or a TextError says where it is not.
"""

from functools import lru_cache
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Set,
    Tuple,
)

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_merge.formats.schema import strings
from caffe_merge.formats.schema.messages import is_repeated, is_required
from caffe_merge.formats.text.syntax import Document, Field, Value
from caffe_merge.formats.text.values import parse_bool, parse_float, parse_integer, parse_string
from caffe_merge.wording import listed, quoted


class Unknown(NamedTuple):
    """A field that the schema does not know: its dotted name, its offset, its text (if scalar).

    ``inner`` has the same for every field inside it, if it is a block.
    """

    name: str
    at: int
    source: str
    inner: Tuple[Tuple[str, str], ...] = ()


def extra_fields(unknown: Iterable[Unknown]) -> Dict[str, str]:
    """The text of all of ``unknown`` and of what is inside, by dotted name; "" for a block.

    Several values of one name are joined by blanks, in the order of the text.
    """
    texts: Dict[str, List[str]] = {}
    for field in unknown:
        for name, source in ((field.name, field.source), *field.inner):
            texts.setdefault(name, []).extend([source] if source else [])
    return {name: " ".join(values) for name, values in texts.items()}


_INT32 = (-(2**31), 2**31 - 1, "a 32-bit integer")
_INT64 = (-(2**63), 2**63 - 1, "a 64-bit integer")
_UINT32 = (0, 2**32 - 1, "a 32-bit integer of at least 0")
_UINT64 = (0, 2**64 - 1, "a 64-bit integer of at least 0")
_INTEGERS: Dict[int, Tuple[int, int, str]] = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}
_FLOAT_LIMIT = 3.4028235677973366e38  # what is nearer to 0 rounds to a finite float32

Convert = Callable[[str], Optional[Any]]


def _integer(kind: int) -> Convert:
    low, high, _ = _INTEGERS[kind]

    def convert(source: str) -> Optional[int]:
        value = parse_integer(source)
        return value if value is not None and low <= value <= high else None

    return convert


def _float32(source: str) -> Optional[float]:
    value = parse_float(source)
    if value is not None and abs(value) >= _FLOAT_LIMIT:
        return float("inf") if value > 0 else float("-inf")  # as Caffe's own cast does
    return value


_FLOATS: Dict[int, Convert] = {
    FieldDescriptor.TYPE_FLOAT: _float32,
    FieldDescriptor.TYPE_DOUBLE: parse_float,
}


def _bytes(source: str) -> bytes:
    return strings.encode(parse_string(source))


class FieldInfo:
    """What View needs of one FieldDescriptor, computed once."""

    __slots__ = (
        "convert",
        "enum",
        "expected",
        "is_text",
        "message",
        "name",
        "repeated",
        "required",
        "type",
    )

    def __init__(self, field: FieldDescriptor) -> None:
        kind = self.type = field.type
        self.name = field.name
        self.repeated = is_repeated(field)
        self.required = is_required(field)
        self.message: Any = field.message_type  # None for a scalar
        self.enum: Optional[Dict[str, int]] = None
        self.convert: Convert = _bytes
        self.is_text = kind in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        self.expected = "text in quotes"
        if kind in _INTEGERS:
            self.convert, self.expected = _integer(kind), _INTEGERS[kind][2]
        elif kind in _FLOATS:
            self.convert, self.expected = _FLOATS[kind], "a number"
        elif kind == FieldDescriptor.TYPE_BOOL:
            self.convert, self.expected = parse_bool, "true or false"
        elif kind == FieldDescriptor.TYPE_STRING:
            self.convert = parse_string
        elif kind == FieldDescriptor.TYPE_ENUM:
            self.enum = _numbers(field.enum_type)
            self.expected = "one of " + listed(list(self.enum), 12)


def _numbers(enum: Any) -> Dict[str, int]:
    return {value.name: value.number for value in enum.values}


@lru_cache(maxsize=1024)
def field_infos(descriptor: Any) -> Dict[str, FieldInfo]:
    """The fields of a message by their name in text (a group has that of its type)."""
    group = FieldDescriptor.TYPE_GROUP
    return {
        (field.message_type if field.type == group else field).name: FieldInfo(field)
        for field in descriptor.fields
    }


# Fields of which BVLC's schema has one value, and forks one for each spatial axis (ECO's 3-D
# pooling). Several values are a fork's field of that name.
SEVERAL = ("pooling_param.kernel_size", "pooling_param.stride", "pooling_param.pad")

MAX_UNKNOWN = 32 << 20  # characters in the dotted names of all unknown fields


def _several(fields: List[Field]) -> Set[str]:
    """The names of SEVERAL that have more than one value among the fields of their block."""
    values: Dict[str, int] = {}
    for field in fields:
        if "pooling_param." + field.name in SEVERAL:
            values[field.name] = values.get(field.name, 0) + len(field.values)
    return {name for name, number in values.items() if number > 1}


class View:
    """Reads fields of ``document`` into messages and gathers what the schema does not know."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.unknown: List[Unknown] = []
        self._named = 0

    def read(self, fields: List[Field], message: Message, path: str = "") -> None:
        """Set on ``message`` every one of ``fields`` that its schema knows.

        Raises TextError where a value does not fit its field, or a singular field comes twice.
        """
        infos = field_infos(message.DESCRIPTOR)
        seen: Dict[str, int] = {}
        several = _several(fields) if message.DESCRIPTOR.name == "PoolingParameter" else ()
        for field in fields:
            info = infos.get(field.name)
            if info is None or field.name in several:
                self.note(field, path)
                continue
            if not info.repeated:
                self.check_single(field, seen.setdefault(field.name, field.start))
            for value in field.values:
                self.set(message, info, field, value, path)

    def set(self, message: Message, info: FieldInfo, field: Field, value: Value, path: str) -> None:
        if info.message is not None:
            fields = self.block(field, value)
            inner = getattr(message, info.name)
            if info.repeated:
                inner = inner.add()
            else:
                inner.SetInParent()
            self.read(fields, inner, f"{path}{field.name}.")
            return
        converted = self.scalar(info, field, value)
        if converted is None:
            self.note(field, path)  # a fork's value, such as an engine
        elif info.repeated:
            getattr(message, info.name).append(converted)
        else:
            setattr(message, info.name, converted)

    def block(self, field: Field, value: Value) -> List[Field]:
        """The fields inside a value that must be a block."""
        if value.fields is None:
            self.fail(value, f"expected a {{ block }} for {quoted(field.name)}")
        return value.fields

    def scalar(self, info: FieldInfo, field: Field, value: Value) -> Any:
        """The value of a scalar; None for a name or number that its enum does not have."""
        if value.fields is not None:
            self.fail(value, f"expected {info.expected} for {field.name!r}, found a block")
        source = self.document.source(value)
        if info.enum is not None:
            number = info.enum.get(source, parse_integer(source))
            if number is None and not (source[0].isalpha() or source[0] == "_"):
                self.mismatch(info, value)
            return number if number in info.enum.values() else None
        converted = info.convert(source) if info.is_text == (source[0] in "\"'") else None
        if converted is None:
            self.mismatch(info, value)
        return converted

    def note(self, field: Field, path: str) -> None:
        (name, source), *inner = self.inside(field, path)
        self.unknown.append(Unknown(name, field.start, source, tuple(inner)))

    def inside(self, field: Field, path: str) -> Iterator[Tuple[str, str]]:
        """Dotted name and text of ``field``, then of every field in its blocks."""
        self._named += len(path) + len(field.name)
        if self._named > MAX_UNKNOWN:
            limit = f"expected at most {MAX_UNKNOWN >> 20} MB of names"
            self.document.fail(field.start, f"{limit} of fields that BVLC Caffe does not know")
        scalars = [self.document.source(value) for value in field.values if value.fields is None]
        yield path + field.name, " ".join(scalars)
        for value in field.values:
            for inner in value.fields or ():
                yield from self.inside(inner, f"{path}{field.name}.")

    def mismatch(self, info: FieldInfo, value: Value) -> NoReturn:
        shown = quoted(self.document.source(value))
        self.fail(value, f"expected {info.expected} for {info.name!r}, found {shown}")

    def fail(self, value: Value, message: str) -> NoReturn:
        self.document.fail(value.start, message)

    def check_single(self, field: Field, first: int) -> None:
        if first != field.start:
            line, _ = self.document.place(first)
            self.document.fail(
                field.start,
                f"expected {field.name!r} once in its block, it is there at line {line}",
            )
        if len(field.values) != 1:
            self.document.fail(
                field.start, f"expected one value for {field.name!r}, found {len(field.values)}"
            )

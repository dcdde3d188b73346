"""Messages of the schema, and prototxt that says them in every form the text format has."""

from typing import Any, Callable, List

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from caffe_merge.formats.schema.messages import LayerParameter, NetParameter, is_repeated

GAPS = [" ", "  ", "\t", "\n", "\r\n", " # a comment: with { [ < \" '\n", "\n\n#\n\t", "\f\v"]
NAMES = st.text("abc_/.é😀 \\'\"#{}\n\t\r\x01\x7f", max_size=6)
INTEGERS = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
}
SCALARS = {
    **INTEGERS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: NAMES,
    FieldDescriptor.TYPE_BYTES: NAMES.map(str.encode),
    # Neither NaN nor -0, of which == makes something else.
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32, allow_nan=False).map(lambda x: x + 0),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False).map(lambda x: x + 0),
}


@st.composite
def messages(draw: Any, kind: Callable[[], Message] = LayerParameter, depth: int = 3) -> Message:
    """A message of type ``kind`` with some of its fields set, to anything they can hold."""
    message = kind()
    fields = [f for f in message.DESCRIPTOR.fields if depth or not f.message_type]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique=True)) if fields else []
    for field in chosen:
        size = draw(st.integers(1, 3)) if is_repeated(field) else 1
        for _ in range(size):
            value = draw(values(field, depth))
            if not is_repeated(field) and not field.message_type:
                setattr(message, field.name, value)
            elif not is_repeated(field):
                getattr(message, field.name).CopyFrom(value)
            elif field.message_type:
                getattr(message, field.name).add().CopyFrom(value)
            else:
                getattr(message, field.name).append(value)
    missing: Any = message.FindInitializationErrors  # type: ignore[attr-defined]
    for name in missing():  # the schema has two required fields
        if "." not in name:
            setattr(message, name, 0)
    return message


def values(field: Any, depth: int) -> st.SearchStrategy:
    """Values of one field."""
    if field.message_type:
        # A class of the private pool: found through an instance, as its module has no name.
        kind = type(_instance(field))
        return messages(kind, depth - 1)
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.type]


def _instance(field: Any) -> Message:
    owner = _owner(field.containing_type)
    result = getattr(owner, field.name)
    return result.add() if is_repeated(field) else result


_OWNERS = {m.DESCRIPTOR.full_name: m for m in (LayerParameter, NetParameter)}


def _owner(descriptor: Any) -> Message:
    if descriptor.full_name not in _OWNERS:
        for known_shapes in list(_OWNERS.values()):
            _register(known_shapes())
    return _OWNERS[descriptor.full_name]()


def _register(message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type and field.message_type.full_name not in _OWNERS:
            result = getattr(message, field.name)
            inner = result.add() if is_repeated(field) else result
            _OWNERS[field.message_type.full_name] = type(inner)
            _register(inner)


@st.composite
def styled(draw: Any, message: Message) -> str:
    """Text that says ``message``, each field in a form and with gaps of its own."""
    groups: List[List[str]] = []
    for field, value in message.ListFields():
        elements = list(value) if is_repeated(field) else [value]
        shown = [draw(_value(field, element)) for element in elements]
        if len(shown) > 1 and draw(st.booleans()):
            comma = draw(st.sampled_from(GAPS)) + "," + draw(st.sampled_from(["", *GAPS]))
            groups.append([f"{field.name}{_colon(draw)}[{comma.join(shown)}]"])
        elif field.message_type and draw(st.booleans()):
            groups.append([f"{field.name}{draw(st.sampled_from(GAPS))}{text}" for text in shown])
        else:
            groups.append([f"{field.name}{_colon(draw)}{text}" for text in shown])
    order = draw(st.permutations(range(len(groups))))
    parts = [part for at in order for part in groups[at]]
    ends = st.sampled_from([*GAPS, ";\n", ",", " ; ", " ,\t"])
    return "".join(part + draw(ends) for part in parts)


def _colon(draw: Any) -> str:
    return draw(st.sampled_from(["", *GAPS])) + ":" + draw(st.sampled_from(["", *GAPS]))


@st.composite
def _value(draw: Any, field: Any, value: Any) -> str:
    if field.message_type:
        inner = draw(styled(value))
        opening, closing = draw(st.sampled_from(["{}", "<>"]))
        return opening + draw(st.sampled_from(["", *GAPS])) + inner + closing
    if field.enum_type:
        by_number = field.enum_type.values_by_number
        return draw(st.sampled_from([by_number[value].name, str(value)]))
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        text = value if isinstance(value, str) else value.decode()
        at = draw(st.integers(0, len(text)))
        parts = [text] if draw(st.booleans()) else [text[:at], text[at:]]
        return draw(st.sampled_from(GAPS)).join(draw(_quoted(part)) for part in parts)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw(st.sampled_from(["true", "True", "t", "1"] if value else ["false", "f", "0"]))
    if field.type in INTEGERS:
        sign, size = "-" if value < 0 else "", abs(value)
        return sign + draw(st.sampled_from([f"{size}", f"0x{size:x}", f"0X{size:X}", f"0{size:o}"]))
    if field.type == FieldDescriptor.TYPE_FLOAT and abs(value) < 3.4e38:
        return draw(
            st.sampled_from([repr(value), f"{value:.9g}", f"{value:.9e}f", f"{value:.30e}"])
        )
    return repr(value)


@st.composite
def _quoted(draw: Any, text: str) -> str:
    quote = draw(st.sampled_from("'\""))
    out = []
    for char in text:
        plain = char not in (quote, "\\", "\n")
        octal = "".join(f"\\{byte:03o}" for byte in char.encode())
        hexadecimal = "".join(f"\\x{byte:02x}" for byte in char.encode())
        simple = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", quote: "\\" + quote}
        forms = [simple.get(char, octal), octal] + [char] * 3 * plain
        # A hex escape must not be followed by what reads as one more digit of it.
        out.append(draw(st.sampled_from([*forms, hexadecimal] if ord(char) > 127 else forms)))
    return quote + "".join(out) + quote

"""The protobuf text format as a syntax tree that remembers where every field stands.

The tree holds offsets into the text and nothing else, so comments, spacing, line ends and a byte
order mark survive by not being touched: a document written back without edits is the same bytes.

Grammar (what protobuf's own TextFormat reads)::

    message := { field [";" | ","] }
    field   := name ":" value | name [":"] block
    name    := identifier | "[" extension "]"
    value   := string { string } | ["-"] number | ["-"] identifier | "[" [value {"," value}] "]"
    block   := "{" message "}" | "<" message ">"
"""

import re
from bisect import bisect_right
from typing import List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from caffe_merge.errors import TextError
from caffe_merge.wording import quoted

MAX_BYTES = 32 << 20  # the largest published prototxt is about 2 MB
MAX_FIELDS = 300_000  # values of lists included; a bound on time and memory
MAX_DEPTH = 100  # protobuf's own limit

BOM = "\ufeff"

SKIP = re.compile(r"(?:[ \t\r\n\f\v]+|#[^\n]*)*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\[[ \t]*[A-Za-z_][A-Za-z0-9_./-]*[ \t]*\]")
_ATOM = re.compile(r"-?(?:[A-Za-z_][A-Za-z0-9_]*|\.?[0-9](?:[eE][+-]|[A-Za-z0-9_.])*)")
_PLAIN = re.compile(  # most fields: name, value and what is skipped behind it in one match
    rf"([A-Za-z_][A-Za-z0-9_]*):[ \t]*({_ATOM.pattern}|\"[^\"\\\n]*\"){SKIP.pattern}"
)
_GOES_ON = frozenset("\"';,")  # behind a plain field: a string with more to it, or a separator
# Few texts have one of these, so they are compiled (and kept, by re) when one does.
_MINUS_GAP = r"-(?:[ \t\r\n\f\v]+|#[^\n]*)+"
_STRING_STOP = {'"': r'["\\\n]', "'": r"['\\\n]"}
_CLOSER = {"{": "}", "<": ">"}


class Value:
    """One value: text[start:end], and the fields inside if it is a block (else ``fields`` None)."""

    __slots__ = ("end", "fields", "start")

    def __init__(self, start: int, end: int, fields: "Optional[List[Field]]" = None) -> None:
        self.start = start
        self.end = end
        self.fields = fields


class Field:
    """``name: value``; any number of values in the list form ``name: [a, b]``.

    ``start`` is the name's offset, ``end`` lies behind the value and its separator, if any.
    """

    __slots__ = ("end", "is_list", "name", "start", "values")

    def __init__(self, name: str, start: int, end: int, *values: Value) -> None:
        self.name = name
        self.start = start
        self.end = end
        self.is_list = False
        self.values = list(values)


class Origin(NamedTuple):
    """Where a rewritten text comes from, so that errors give places in the user's file.

    Piece ``n`` starts at ``starts[n]`` and stands for ``document.text[at:end]`` with
    ``at, end = spans[n]``: copied from there, or new text in its place.
    """

    document: "Document"
    starts: Sequence[int]
    spans: Sequence[Tuple[int, int]]

    def offset(self, offset: int) -> int:
        """The offset in ``document`` of what is at ``offset`` in the rewritten text."""
        piece = max(bisect_right(self.starts, offset) - 1, 0)
        at, end = self.spans[piece]
        return min(at + offset - self.starts[piece], max(end - 1, at))


class Document:
    """A prototxt: its text, where it came from, and its top-level fields."""

    def __init__(self, data: bytes, path: str = "<text>", origin: Optional[Origin] = None) -> None:
        if len(data) > MAX_BYTES:
            limit = f"expected a prototxt of at most {MAX_BYTES >> 20} MB"
            raise TextError(path, 1, 1, f"{limit}, found {len(data):,} bytes")
        self.path = path
        self.origin = origin
        # surrogateescape: bytes that are not UTF-8 (old comments) come back as they were.
        self.text = data.decode("utf-8", "surrogateescape")
        self.newline = "\r\n" if 2 * self.text.count("\r\n") > self.text.count("\n") else "\n"
        self._lines: Optional[List[int]] = None  # where each line starts, once somebody asks
        self.fields = _Parser(self).parse()

    def place(self, offset: int) -> Tuple[int, int]:
        """Line and column of ``offset``, both from 1, the column in characters.

        Of a rewritten document they are those of its origin.
        """
        if self.origin is not None:
            return self.origin.document.place(self.origin.offset(offset))
        if self._lines is None:  # a fork's file may need a place for each of its many fields
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, offset)
        start = self._lines[line - 1]
        if start == 0 and self.text.startswith(BOM):
            start = min(1, offset)
        return line, offset - start + 1

    def fail(self, offset: int, message: str) -> NoReturn:
        """Raise a TextError that points at ``offset``."""
        raise TextError(self.path, *self.place(offset), message)

    def source(self, value: Value) -> str:
        """The text of ``value`` as it stands."""
        return self.text[value.start : value.end]


def encode(text: str) -> bytes:
    """The bytes of ``text``, undecodable ones as they were read."""
    return text.encode("utf-8", "surrogateescape")


class _Parser:
    """Recursive descent; MAX_DEPTH keeps the recursion short."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.text
        self.count = 0

    def parse(self) -> List[Field]:
        fields: List[Field] = []
        self.message(fields, self.skip(1 if self.text.startswith(BOM) else 0), None, 0)
        return fields

    def skip(self, at: int) -> int:
        """The offset behind blanks and comments."""
        match = SKIP.match(self.text, at)
        return match.end() if match else at

    def message(self, fields: List[Field], at: int, opener: Optional[int], depth: int) -> int:
        """Read fields up to the closer of ``opener`` (or the end of the text); its offset."""
        text = self.text
        closer = "" if opener is None else _CLOSER[text[opener]]
        while True:
            match = _PLAIN.match(text, at)
            if match is not None and text[match.end() : match.end() + 1] not in _GOES_ON:
                self.tally(at)
                start, end = match.span(2)
                fields.append(Field(match[1], at, end, Value(start, end)))
                at = match.end()
                continue
            match = _NAME.match(text, at)
            if match is None:
                if text[at : at + 1] == closer:
                    return at
                if opener is None:
                    self.fail(at, "expected a field name")
                line, column = self.document.place(opener)
                self.fail(
                    at, f"expected a field name or {closer!r} for the block of {line}:{column}"
                )
            self.tally(at)
            field = Field(match[0], at, at)
            fields.append(field)
            at = self.field(field, self.skip(match.end()), depth)
            field.end = at
            at = self.skip(at)
            if text[at : at + 1] in (";", ","):
                field.end = at + 1
                at = self.skip(at + 1)

    def tally(self, at: int) -> None:
        self.count += 1
        if self.count > MAX_FIELDS:
            self.fail(at, f"expected at most {MAX_FIELDS} fields")

    def field(self, field: Field, at: int, depth: int) -> int:
        """Read what follows a field's name; the offset behind it."""
        colon = self.text[at : at + 1] == ":"
        if colon:
            at = self.skip(at + 1)
        char = self.text[at : at + 1]
        if char in _CLOSER:
            return self.block(field, at, depth)
        if char == "[":
            field.is_list = True
            return self.elements(field, at, depth)
        if not colon:
            self.fail(at, f"expected ':' or '{{' after {quoted(field.name)}")
        return self.scalar(field, at)

    def block(self, field: Field, at: int, depth: int) -> int:
        if depth >= MAX_DEPTH:
            self.fail(at, f"expected blocks nested at most {MAX_DEPTH} deep")
        inner: List[Field] = []
        value = Value(at, at, inner)
        field.values.append(value)
        value.end = self.message(inner, self.skip(at + 1), at, depth + 1) + 1
        return value.end

    def elements(self, field: Field, at: int, depth: int) -> int:
        """Read the list form, scalars or blocks."""
        text = self.text
        at = self.skip(at + 1)
        if text[at : at + 1] == "]":
            return at + 1
        while True:
            self.tally(at)
            is_block = text[at : at + 1] in _CLOSER
            at = self.skip(self.block(field, at, depth) if is_block else self.scalar(field, at))
            char = text[at : at + 1]
            if char == "]":
                return at + 1
            if char != ",":
                self.fail(at, f"expected ',' or ']' in the list of {quoted(field.name)}")
            at = self.skip(at + 1)

    def scalar(self, field: Field, at: int) -> int:
        text = self.text
        if text[at : at + 1] in _STRING_STOP:
            start = at
            while text[at : at + 1] in _STRING_STOP:  # adjacent strings are one
                end = self.string(at)
                at = self.skip(end)
            field.values.append(Value(start, end))
            return end
        gap = re.compile(_MINUS_GAP).match(text, at) if text[at : at + 1] == "-" else None
        match = _ATOM.match(text, gap.end() if gap else at)
        if match is None or (gap and match.group().startswith("-")):
            self.fail(at, f"expected a value for {quoted(field.name)}")
        field.values.append(Value(at, match.end()))
        return match.end()

    def string(self, at: int) -> int:
        """The offset behind the string that opens at ``at``."""
        quote = self.text[at]
        stop = re.compile(_STRING_STOP[quote])
        position = at + 1
        while True:
            match = stop.search(self.text, position)
            if match is not None and match.group() == quote:
                return match.end()
            if match is None or match.group() == "\n":
                self.document.fail(at, f"expected {quote} to end this string on its line")
            position = match.end() + (self.text[match.end() : match.end() + 1] != "\n")

    def fail(self, at: int, expected: str) -> NoReturn:
        character = self.text[at : at + 1]
        shown = repr(character) if character else "the end of the file"
        self.document.fail(at, f"{expected}, found {shown}")

"""Edits of a prototxt, each the difference of two typed views, replayed on the text.

Whatever the two views agree on is not touched: the author's comments, order and spacing stay.
New fields are written the way their neighbours are: on lines of their own with the same indent,
or on the same line where the file is written so.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_merge.formats.schema import strings
from caffe_merge.formats.schema.messages import changed_fields, is_repeated
from caffe_merge.formats.text.splices import BLANK_OR_COMMENT, Splices
from caffe_merge.formats.text.syntax import BOM, Document, Field, Value
from caffe_merge.formats.text.values import format_float, format_string

_COMMENT_LINE = re.compile(r"[ \t]*#")
_INDENT = re.compile(r"[ \t]*")
_APART = " \t\r\n\f\v}>#"  # a value may be followed by these without a blank


class Edits(Splices):
    """Gathers the edits of one document; ``text()`` is the document with them made.

    ``keep_comments``: a field that ``update`` deletes leaves the comment behind it.
    """

    def __init__(self, document: Document, keep_comments: bool = False) -> None:
        super().__init__(document)
        self._keep_comments = keep_comments
        self._removed: Dict[Field, Set[int]] = {}
        self._gone: Dict[int, int] = {}  # lines removed: where they end -> where they start

    def finish(self) -> None:
        """Make the removals; they come last, because neighbours share blank lines."""
        for field in sorted(self._removed, key=lambda field: field.start):
            self._remove(field, self._removed.pop(field))

    # -- edits ------------------------------------------------------------------------------

    def update(self, block: Value, old: Message, new: Message) -> None:
        """Change the fields of ``block``, which reads as ``old``, so that it reads as ``new``."""
        fields = block.fields or []
        removed: List[Field] = []
        missing: List[Tuple[FieldDescriptor, List[Any]]] = []
        for descriptor in changed_fields(old, new):
            old_values = [
                (f, i) for f in fields if f.name == descriptor.name for i in range(len(f.values))
            ]
            old_elements, new_elements = _elements(old, descriptor), _elements(new, descriptor)
            uses_list = any(field.is_list for field, _ in old_values)
            if len(old_values) != len(old_elements) or (
                uses_list and len(old_elements) != len(new_elements)
            ):
                # A value the schema does not know, or brackets to be resized: write it anew.
                removed += [field for field, i in old_values if i == 0]
                missing.append((descriptor, new_elements))
                continue
            for (field, i), before, after in zip(old_values, old_elements, new_elements):
                self._replace(descriptor, field.values[i], before, after)
            removed += [field for field, _ in old_values[len(new_elements) :]]
            if len(new_elements) > len(old_elements):
                missing.append((descriptor, new_elements[len(old_elements) :]))
        for field in removed:
            self._delete(field)
        kept = [field for field in fields if field not in removed]
        pairs = [(descriptor, value) for descriptor, values in missing for value in values]
        if kept:
            for descriptor, value in pairs:
                self._insert(kept, new, descriptor, value)
        elif pairs:
            inline = " ".join(self._render(*pair, "", True) for pair in pairs)
            blank = "" if self.document.text[block.start + 1].isspace() else " "
            self.insert(block.start + 1, f" {inline}{blank}")

    def remove(self, field: Field, element: int = 0) -> None:
        """Remove a top-level field, or one element of its list, with the comments that are its own.

        Its own are those inside it and the comment lines directly above it.
        """
        self._removed.setdefault(field, set()).add(element)

    def delete(self, field: Field) -> None:
        """Remove a field inside a block that ``update`` does not touch: one of a fork's."""
        self._delete(field)

    def respell(self, block: Value, name: str, words: Sequence[str]) -> None:
        """Write ``words`` as the values of a field of a fork, by its dotted name.

        There are as many values as words, or fewer, but one at least.
        """
        *blocks, last = name.split(".")
        fields = block.fields or []
        for inner in blocks:
            values = [value for field in fields if field.name == inner for value in field.values]
            fields = [field for value in values for field in value.fields or ()]
        fields = [field for field in fields if field.name == last]
        values = [value for field in fields for value in field.values]
        for value, word in zip(values, words):
            if self.document.text[value.start : value.end] != word:
                self.splice(value.start, value.end, word)
        for word in words[len(values) :]:
            end = fields[-1]
            if end.is_list:
                self.insert(values[-1].end, f", {word}")
            else:
                self.insert(end.end, f" {last}: {word}{self._gap(end.end)}")

    def insert_after(
        self, field: Optional[Field], name: str, message: Message, element: int = -1
    ) -> None:
        """Write ``message`` as a new top-level ``name { }`` behind ``field`` (None: in front).

        Behind an ``element`` of a list that is not its last, it becomes one more of the list.
        """
        newline = self.document.newline
        if field is not None and 0 <= element < len(field.values) - 1:
            block = self._render_block("", message, "", True).lstrip()
            self.insert(field.values[element].end, f", {block}")
            return
        rendered = self._render_block(name, message, "", False)
        if field is None:
            start = len(BOM) if self.document.text.startswith(BOM) else 0
            self.insert(start, rendered + newline)
            return
        match = BLANK_OR_COMMENT.match(self.document.text, field.end)
        self.insert(match.end() if match else field.end, newline + rendered)

    def replace(self, field: Field, name: str, messages: Sequence[Message]) -> None:
        """Write ``messages``, each as a ``name { }``, in the place of a top-level field."""
        blocks = [self._render_block(name, message, "", False) for message in messages]
        self.splice(field.start, field.end, self.document.newline.join(blocks))

    def replace_by_fields(self, field: Field, message: Message) -> None:
        """Write the fields of ``message`` in the place of a top-level field."""
        fields = [
            self._render(descriptor, element, "", False)
            for descriptor, _ in message.ListFields()
            for element in _elements(message, descriptor)
        ]
        self.splice(field.start, field.end, self.document.newline.join(fields))

    # -- replacing, deleting, inserting inside one block ----------------------------------

    def _replace(self, field: FieldDescriptor, value: Value, old: Any, new: Any) -> None:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            self.update(value, old, new)
        elif old != new:
            quote = self.document.text[value.start]
            self.splice(value.start, value.end, self._render_scalar(field, new, quote))

    def _remove(self, field: Field, elements: Set[int]) -> None:
        """Make the removals of one top-level field."""
        if len(elements) < len(field.values):
            kept = False
            for number, value in enumerate(field.values):
                if number not in elements:
                    kept = True
                elif kept:  # with the comma in front
                    self.splice(field.values[number - 1].end, value.end, "")
                else:
                    self.splice(value.start, field.values[number + 1].start, "")
            return
        lines = self.lines(field.start, field.end)
        if lines is None:
            self._delete(field)
            return
        start, end = lines
        start = self._comments_above(start)
        # Blank lines above and below: one of them goes. The lines above may be removed already.
        above = self._gone.get(start, start)
        if self._blank_above(above) and self._blank_at(end):
            end = self.line_end(end)
        self._gone[end] = above
        self.splice(start, end, "")

    def _delete(self, field: Field) -> None:
        lines = self.lines(field.start, field.end)
        if lines is not None:
            comment = self.document.text.find("#", field.end, lines[1])
            if self._keep_comments and comment >= 0:
                lines = field.start, comment
            self.splice(*lines)
            return
        start = field.start
        if not self._gap(field.end):  # what follows stays apart without the blanks in front
            while start > 0 and self.document.text[start - 1] in " \t":
                start -= 1
        self.splice(start, field.end, "")

    def _insert(
        self, fields: Sequence[Field], new: Message, field: FieldDescriptor, value: Any
    ) -> None:
        """Write one value of ``field`` behind those of ``fields`` that have lower numbers."""
        numbers = {f.name: f.number for f in new.DESCRIPTOR.fields}
        before = [f for f in fields if f.name in numbers and numbers[f.name] <= field.number]
        anchor = before[-1] if before else fields[0]
        lines = self.lines(anchor.start, anchor.end)
        if lines is None:
            inline = self._render(field, value, "", True)
            if before:
                self.insert(anchor.end, f" {inline}{self._gap(anchor.end)}")
            else:
                self.insert(anchor.start, inline + " ")
            return
        match = _INDENT.match(self.document.text, lines[0])
        rendered = self._render(field, value, match.group() if match else "", False)
        if before:
            # Behind the anchor's line, a comment at its end included.
            match = BLANK_OR_COMMENT.match(self.document.text, anchor.end)
            end = match.end() if match else anchor.end
            self.insert(end, self.document.newline + rendered)
        else:
            self.insert(lines[0], rendered + self.document.newline)

    def _gap(self, at: int) -> str:
        """The blank that a value needs if it is written in front of ``at``."""
        return "" if self.document.text[at : at + 1] in _APART else " "

    # -- rendering --------------------------------------------------------------------------

    def _render(self, field: FieldDescriptor, value: Any, indent: str, inline: bool) -> str:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return self._render_block(field.name, value, indent, inline)
        return f"{indent}{field.name}: {self._render_scalar(field, value, self.quote)}"

    def _render_block(self, name: str, message: Message, indent: str, inline: bool) -> str:
        parts = [
            self._render(field, element, "" if inline else indent + self.unit, inline)
            for field, _ in message.ListFields()
            for element in _elements(message, field)
        ]
        if inline:
            return " ".join([name, "{", *parts, "}"])
        return self.document.newline.join([f"{indent}{name} {{", *parts, f"{indent}}}"])

    def _render_scalar(self, field: FieldDescriptor, value: Any, quote: str) -> str:
        render: Optional[Callable[[Any], str]] = {
            FieldDescriptor.TYPE_STRING: lambda v: format_string(v, quote),
            FieldDescriptor.TYPE_BYTES: lambda v: format_string(strings.decode(v), quote),
            FieldDescriptor.TYPE_BOOL: lambda v: "true" if v else "false",
            FieldDescriptor.TYPE_FLOAT: format_float,
            FieldDescriptor.TYPE_ENUM: lambda v: _enum_name(field, v),
        }.get(field.type)
        return render(value) if render else repr(value)

    # -- lines ------------------------------------------------------------------------------

    def _comments_above(self, start: int) -> int:
        """The start of the comment lines directly above; those at the top of the file stay."""
        text = self.document.text
        at = start
        while at > 0:
            line = text.rfind("\n", 0, at - 1) + 1
            if not _COMMENT_LINE.match(text, line):
                return at
            at = line
        return start

    def _blank_above(self, at: int) -> bool:
        line = self.document.text.rfind("\n", 0, max(at - 1, 0)) + 1
        return not self.document.text[line:at].strip()

    def _blank_at(self, at: int) -> bool:
        return (
            at < len(self.document.text) and not self.document.text[at : self.line_end(at)].strip()
        )


def _elements(message: Message, field: FieldDescriptor) -> List[Any]:
    """The values of a field: all of a repeated one, the one of a singular one that is set."""
    if is_repeated(field):
        return list(getattr(message, field.name))
    return [getattr(message, field.name)] if message.HasField(field.name) else []


def _enum_name(field: Any, number: int) -> str:
    return str(field.enum_type.values_by_number[number].name)

r"""Spellings that this reader takes and Caffe's own refuses, written so that Caffe reads them.

A byte order mark, a NUL byte, an escape that is none (``"E:\Project"``), a float that begins as
octal or hexadecimal integers do (``00.5``, ``010``, ``0x10``), ``inff``, brackets around the only
value of a field that has one: the C++ parser of protobuf stops at each. What they mean is not in
doubt, so they are read, and a net that is written has them in a form that Caffe loads. All else of
the text stays as it is.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from google.protobuf.descriptor import FieldDescriptor

from caffe_merge.formats.schema.messages import NetParameter
from caffe_merge.formats.text.syntax import BOM, SKIP, Document, Field, Value
from caffe_merge.formats.text.values import ESCAPE, STRING, bare, format_float
from caffe_merge.formats.text.view import FieldInfo, field_infos
from caffe_merge.wording import counted

_ODD_START = re.compile(r"[: \t\r\n-]0[0-9xX]")
# Few texts have one of these, so they are compiled (and kept, by re) when one does.
_ODD_NUMBER = r"(?i)-?(?:0[0-9xX].*|(?:inf(?:inity)?|nan)f)"
_ODD = rf"(?s){ESCAPE}|\0"
_REAL: Dict[int, Callable[[float], str]] = {
    FieldDescriptor.TYPE_FLOAT: format_float,
    FieldDescriptor.TYPE_DOUBLE: repr,
}
_ESCAPES, _NUMBERS, _BRACKETS = "escape", "number", "pair of brackets"
_NUL = "NUL byte"


def for_caffe(document: Document) -> Tuple[Document, Optional[str]]:
    """``document`` as Caffe can read it, and what was changed; the same document where nothing was.

    Places in the result are places in the user's file.
    """
    if not _is_suspect(document.text):
        return document, None
    speller = _Speller(document)
    speller.text()
    speller.fields(document.fields, NetParameter.DESCRIPTOR)
    if not speller.counts:
        return document, None
    parts = ", ".join(counted(number, what) for what, number in speller.counts.items())
    line, column = document.place(speller.first)
    problem = f"Caffe cannot read this text as it is ({parts}, the first at {line}:{column})"
    return speller.splices.rewritten(), f"{problem}; written so that it can"


def _is_suspect(text: str) -> bool:
    """Whether anything in ``text`` may be an odd spelling; most texts are done with here."""
    if any(char in text for char in (BOM, "\0", "\\", "[")) or _ODD_START.search(text):
        return True
    lowered = text.lower()
    return any(word in lowered for word in ("inff", "infinityf", "nanf"))


class _Speller:
    """Gathers the replacements; ``counts`` has how many of each kind, ``first`` where one is."""

    def __init__(self, document: Document) -> None:
        from caffe_merge.formats.text.splices import Splices  # for few files

        self.document = document
        self.splices = Splices(document)
        self.counts: Dict[str, int] = {}
        self.first = len(document.text)

    def replace(self, what: str, start: int, end: int, text: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.first = min(self.first, start)
        self.splices.splice(start, end, text)

    def text(self) -> None:
        """What no reader of Caffe's takes wherever it stands outside of strings."""
        if self.document.text.startswith(BOM):
            self.replace("byte order mark", 0, 1, "")
        inside = self._strings() if "\0" in self.document.text else []
        at = 0
        for start, end in [*inside, (len(self.document.text), 0)]:
            for match in re.finditer("\0", self.document.text[at:start]):
                self.replace(_NUL, at + match.start(), at + match.end(), " ")
            at = end

    def _strings(self) -> List[Tuple[int, int]]:
        """The spans of all quoted strings, in order."""
        spans = []
        fields = list(reversed(self.document.fields))
        while fields:
            for value in fields.pop().values:
                if value.fields is not None:
                    fields += reversed(value.fields)
                elif self.document.text[value.start] in "\"'":
                    spans += [m.span() for m in self._literals(value)]
        return sorted(spans)

    def _literals(self, value: Value) -> List[re.Match[str]]:
        matches = re.compile(STRING, re.DOTALL).finditer(self.document.text, value.start, value.end)
        return [match for match in matches if match.group()[0] in "\"'"]

    def fields(self, fields: List[Field], descriptor: Any) -> None:
        """All of ``fields``, of a message of this type; None where the schema does not know it."""
        infos = field_infos(descriptor) if descriptor is not None else {}
        for field in fields:
            kind = infos.get(field.name)
            if kind is not None and not kind.repeated and field.is_list and len(field.values) == 1:
                self._unbracket(field)
            for value in field.values:
                if value.fields is not None:
                    message = kind.message if kind is not None else None
                    self.fields(value.fields, message)
                else:
                    self._scalar(value, kind)

    def _unbracket(self, field: Field) -> None:
        text = self.document.text
        opener = self._behind(field.start + len(field.name))
        if text[opener] == ":":
            opener = self._behind(opener + 1)
        closer = self._behind(field.values[0].end)
        self.replace(_BRACKETS, opener, opener + 1, " ")
        self.splices.splice(closer, closer + 1, " ")

    def _behind(self, at: int) -> int:
        match = SKIP.match(self.document.text, at)
        return match.end() if match else at

    def _scalar(self, value: Value, kind: Optional[FieldInfo]) -> None:
        source = self.document.source(value)
        if source[0] in "\"'":
            if "\\" in source or "\0" in source:
                for literal in self._literals(value):
                    self._string(*literal.span())
        elif kind is not None and kind.type in _REAL and re.fullmatch(_ODD_NUMBER, bare(source)):
            number = kind.convert(source)
            if number is not None:
                self.replace(_NUMBERS, value.start, value.end, _REAL[kind.type](number))

    def _string(self, start: int, end: int) -> None:
        for match in re.compile(_ODD).finditer(self.document.text, start, end):
            unusual = match.group("odd")
            if match.group() == "\0":
                self.replace(_NUL, *match.span(), "\\000")
            elif unusual == "\0":
                self.replace(_NUL, *match.span(), "\\\\\\000")
            elif unusual is not None:
                spelled = f"\\x{unusual[1:]}" if len(unusual) > 1 else f"\\\\{unusual}"
                self.replace(_ESCAPES, *match.span(), spelled)

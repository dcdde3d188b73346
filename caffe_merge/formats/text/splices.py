"""Replaces spans of a document; gives the new text or a document that knows its origin.

A replacement consists of new text and of spans of the old text, so text can move. A rewritten
document knows where each piece comes from, so that errors give places in the user's file.
"""

from __future__ import annotations

import re
from typing import Iterator, List, Optional, Tuple, Union

from caffe_merge.formats.text.syntax import BOM, Document, Origin, encode

Span = Tuple[int, int]
Piece = Union[str, Span]  # new text, or a span of the document

BLANK_OR_COMMENT = re.compile(r"[ \t\f\v]*(?:#[^\n]*?)?(?=\r?\n|\Z)")


class Splices:
    """Gathers replacements of spans of one document; ``text()`` is the document with them made.

    ``quote`` and ``unit`` are the quotes and the indent that the author uses.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._splices: List[Tuple[int, int, Tuple[Piece, ...]]] = []
        text = document.text
        self.quote = "'" if text.count("'") > text.count('"') else '"'
        self.unit = self._detect_unit()

    def splice(self, start: int, end: int, *pieces: Piece) -> None:
        """Replace the span from ``start`` to ``end``; spans must not overlap."""
        self._splices.append((start, end, pieces))

    def insert(self, at: int, *pieces: Piece) -> None:
        """Put something in front of ``at``."""
        self.splice(at, at, *pieces)

    def finish(self) -> None:
        """Called before the splices are made, to add those that depend on all others."""

    def text(self) -> str:
        """The document's text with every splice made."""
        return "".join(text for text, _ in self._pieces())

    def rewritten(self) -> Document:
        """The document with every splice made; errors in it give places in the old one."""
        starts: List[int] = []
        spans: List[Span] = []
        parts: List[str] = []
        at = 0
        for text, span in self._pieces():
            starts.append(at)
            spans.append(span)
            parts.append(text)
            at += len(text)
        origin = Origin(self.document, starts, spans)
        return Document(encode("".join(parts)), self.document.path, origin)

    def _pieces(self) -> Iterator[Tuple[str, Span]]:
        """The new text in pieces, each with the span of the old text that it stands for."""
        self.finish()
        text = self.document.text
        at = 0
        for start, end, pieces in sorted(self._splices, key=lambda splice: splice[:2]):
            if start < at:
                raise AssertionError("two edits overlap")
            yield text[at:start], (at, start)
            for piece in pieces:
                if isinstance(piece, str):
                    yield piece, (start, start)
                else:
                    yield text[slice(*piece)], piece
            at = end
        yield text[at:], (at, len(text))

    def _detect_unit(self) -> str:
        """The indent of the first field that stands alone on a line inside a top-level block."""
        text = self.document.text
        for field in self.document.fields:
            end = field.start
            for inner in field.values[0].fields or [] if field.values else []:
                begins = text.find("\n", end, inner.start) >= 0
                lines = self.lines(inner.start, inner.end) if begins else None
                if lines is not None and inner.start > lines[0]:
                    return text[lines[0] : inner.start]
                end = inner.end
        return "  "

    def lines(self, start: int, end: int) -> Optional[Span]:
        """The whole lines from ``start`` to ``end``; None if they hold anything but comments."""
        text = self.document.text
        first = start  # step by step: a whole file may be on one line
        while first > 0 and text[first - 1] in " \t" + BOM:
            first -= 1
        match = BLANK_OR_COMMENT.match(text, end)
        if match is None or (first > 0 and text[first - 1] != "\n"):
            return None
        return first + text.startswith(BOM, first), self.line_end(end)

    def line_end(self, at: int) -> int:
        """The offset behind the line that holds ``at``."""
        end = self.document.text.find("\n", at)
        return len(self.document.text) if end < 0 else end + 1

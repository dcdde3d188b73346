"""Cuts a block into chunks, one per field, each with the blanks and comments that belong to it.

A chunk ends behind its field's line, or behind the field where the next is on the same line. So
every chunk can be dropped, moved or indented, and no comment is lost.
"""

import re
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from caffe_merge.formats.text.splices import BLANK_OR_COMMENT, Piece, Span, Splices
from caffe_merge.formats.text.syntax import Document, Field, Value

_STRING_OR_COMMENT = re.compile(
    r'"(?:[^"\\\n]|\\.)*"' r"|'(?:[^'\\\n]|\\.)*'" r"|#[^\r\n]*", re.DOTALL
)

APART = " \t\r\n\f\v:;,{}<>[]#"  # separators: a word or string may touch them


class Chunk(NamedTuple):
    """The text from ``start`` to ``end``, in which ``fields`` lie from ``at`` to ``stop``.

    ``line`` is where the line of ``at`` starts if only blanks lie between, else -1.
    """

    fields: Tuple[Field, ...]
    start: int
    line: int
    at: int
    stop: int
    end: int

    @property
    def opens(self) -> bool:
        """Whether it is the first on its line."""
        return self.line >= 0

    @property
    def closes(self) -> bool:
        """Whether it is the last on its line, but for a comment."""
        return self.end > self.stop

    @property
    def alone(self) -> bool:
        """Whether its lines hold no other field."""
        return self.opens and self.closes

    @property
    def lead(self) -> Span:
        """The lines above its own that belong to it: comments, blank lines."""
        return self.start, max(self.line, self.start)

    @property
    def indent(self) -> Span:
        """The blanks in front of it on its own line."""
        return max(self.line, self.start), self.at

    @property
    def tail(self) -> Span:
        """What follows it on its line: blanks, a comment, the line's end."""
        return self.stop, self.end


def chunks(document: Document, block: Value) -> List[Chunk]:
    """The chunks of ``block``; they follow one another without a gap."""
    text = document.text
    start = rest_of_line(document, block.start + 1)
    out: List[Chunk] = []
    for field in block.fields or []:
        line = text.rfind("\n", start, field.start) + 1
        if not line:
            line = start if text[start - 1] == "\n" else -1
        end = rest_of_line(document, field.end)
        out.append(Chunk((field,), start, line, field.start, field.end, end))
        start = end
    return out


def rest_of_line(document: Document, at: int) -> int:
    """The offset behind the line of ``at``, if only blanks and a comment are left of it."""
    match = BLANK_OR_COMMENT.match(document.text, at)
    if match is None:
        return at
    end = document.text.find("\n", match.end())
    return end + 1 if end >= 0 else match.end()


def joined(parts: Sequence[Chunk]) -> List[Chunk]:
    """``parts``, with neighbours on the same line merged into one chunk."""
    groups: List[List[Chunk]] = []
    for chunk in parts:
        last = groups[-1][-1] if groups else None
        if last and last.end == chunk.start and not last.closes and not chunk.opens:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    return [_merged(group) for group in groups]


def _merged(group: Sequence[Chunk]) -> Chunk:
    fields = tuple(field for chunk in group for field in chunk.fields)
    return Chunk(fields, *group[0][1:4], *group[-1][4:])


def comments(document: Document, span: Span) -> List[str]:
    """The comments in a span of the document."""
    matches = _STRING_OR_COMMENT.findall(document.text, *span)
    return [text for text in matches if text.startswith("#")]


def remains(splices: Splices, chunk: Chunk) -> Iterator[Piece]:
    """What remains of a chunk whose fields are removed: its comments, on lines of their own."""
    document = splices.document
    newline = document.newline
    if comments(document, chunk.lead):
        yield chunk.lead
    inner = comments(document, (chunk.at, chunk.stop))
    behind = comments(document, chunk.tail)
    if chunk.alone:
        for comment in inner + behind:
            yield chunk.indent
            yield comment + newline
        return
    for comment in inner:
        yield from (chunk.indent, comment + newline)
    if chunk.opens or inner:
        yield chunk.indent
    elif not chunk.closes:
        yield from _gap(document, chunk.start, chunk.end)
    if chunk.closes:
        yield chunk.tail


def replaced(splices: Splices, chunk: Chunk, blocks: Sequence[Tuple[str, Sequence[str]]]) -> None:
    """Replace a chunk by ``blocks`` (a name and the fields inside), written in its style."""
    document = splices.document
    newline = document.newline
    indent = document.text[slice(*chunk.indent)] if chunk.alone else ""
    inner = [comment + newline + indent for comment in comments(document, (chunk.at, chunk.stop))]
    if chunk.alone:
        field = newline + indent + splices.unit
        shown = [f"{name} {{{field}{field.join(f)}{newline}{indent}}}" for name, f in blocks]
        text = (newline + indent).join(shown)
    else:
        text = " ".join(f"{name} {{ {' '.join(fields)} }}" for name, fields in blocks)
    splices.splice(chunk.at, chunk.stop, "".join(inner) + text)


def _gap(document: Document, before: int, behind: int) -> List[str]:
    """A blank, if the text that ends at ``before`` would touch the text from ``behind`` on."""
    text = document.text
    has_blank = text[before - 1].isspace() or text[behind : behind + 1].isspace()
    return [] if has_blank else [" "]


def shifted(document: Document, span: Span, remove: str, add: str) -> Iterator[Piece]:
    """A span of the text; in front of each line in it ``remove`` is cut off and ``add`` put."""
    if remove == add:
        yield span
        return
    text = document.text
    at, end = span
    while at < end:
        stop = min(text.find("\n", at, end) + 1 or end, end)
        if at == 0 or text[at - 1] == "\n":
            if text[at:stop].strip():
                yield add
            if text.startswith(remove, at):
                at += len(remove)
        yield at, max(at, stop)
        at = max(at, stop)


def gapped(document: Document, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """``pieces``, with a blank between words or strings that touch only because they moved."""
    before = " "
    last = -1
    for piece in pieces:
        text = piece if isinstance(piece, str) else document.text[slice(*piece)]
        if not text:
            continue
        moved = isinstance(piece, str) or piece[0] != last
        if moved and before[-1] not in APART and text[0] not in APART:
            yield " "
        yield piece
        before = text
        last = -1 if isinstance(piece, str) else piece[1]

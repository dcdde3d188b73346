"""Scalars of the text format, read and written: strings with escapes, numbers in any notation."""

from __future__ import annotations

import math
import re
import struct
from typing import Optional

from caffe_merge.formats.schema import strings
from caffe_merge.formats.text.syntax import SKIP

ESCAPE = (  # one backslash and what it takes in; "odd" is none that Caffe's reader takes
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<hex>[0-9a-fA-F]{1,2})"
    r"|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>00[01][0-9a-fA-F]{5})"
    r"""|(?P<simple>[abfnrtv\\'"?])|(?P<odd>X[0-9a-fA-F]{1,2}|.))"""
)
_SIMPLE = dict(zip("abfnrtv", b"\a\b\f\n\r\t\v"))
STRING = r'"([^"\\]*(?:\\.[^"\\]*)*)"' + r"|'([^'\\]*(?:\\.[^'\\]*)*)'|#[^\n]*|[ \t\r\n\f\v]+"
_INTEGER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
# No two parts of a number may take the same digits: the time would be quadratic.
_FLOAT = re.compile(
    r"(-?)(?:((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)f?|(inf(?:inity)?|nan)f?)"
)
_TRUE = frozenset(("true", "True", "t"))
_FALSE = frozenset(("false", "False", "f"))


def parse_string(source: str) -> str:
    """The text of one or more adjacent quoted strings, decoded as in formats/schema/strings.py.

    What Caffe refuses as an escape is the backslash and the character behind it.
    """
    if "\\" not in source and source.index(source[0], 1) == len(source) - 1:
        text = source[1:-1]
        return text if text.isascii() else strings.decode(_encoded(text))
    matches = re.finditer(STRING, source, re.DOTALL)
    parts = (match.group(1) or match.group(2) or "" for match in matches)
    return strings.decode(b"".join(map(_unescaped, parts)))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _unescaped(text: str) -> bytes:
    """The bytes of one string: an escape by number is a byte, or a character's in UTF-8."""
    out = []
    at = 0
    for match in re.finditer(ESCAPE, text, re.DOTALL):
        out += [_encoded(text[at : match.start()]), _escaped(match)]
        at = match.end()
    return b"".join([*out, _encoded(text[at:])])


def _escaped(match: re.Match[str]) -> bytes:
    kind, text = match.lastgroup, match.group(match.lastgroup or 0)
    if kind == "octal":
        return bytes([int(text, 8) & 0xFF])
    if kind == "hex":
        return bytes([int(text, 16)])
    if kind == "low":  # two halves of one character
        return _utf8(
            0x10000 + ((int(match.group("high"), 16) & 0x3FF) << 10) + int(text, 16) % 0x400
        )
    if kind in ("short", "long"):
        return _utf8(int(text, 16))
    if kind == "simple":
        return bytes([_SIMPLE.get(text, ord(text))])
    return bytes([int(text[1:], 16)]) if len(text) > 1 else b"\\" + _encoded(text)


def _utf8(point: int) -> bytes:
    """Surrogates and what lies beyond Unicode too: Caffe's reader makes bytes of them alike."""
    if point < 0x110000:
        return chr(point).encode("utf-8", "surrogatepass")
    return bytes([0xF0 | point >> 18, *(0x80 | point >> shift & 0x3F for shift in (12, 6, 0))])


def bare(source: str) -> str:
    """A number without the blanks and comments that may stand behind its minus."""
    match = SKIP.match(source, 1) if source[:1] == "-" else None
    return "-" + source[match.end() :] if match else source


def parse_integer(source: str) -> Optional[int]:
    """A decimal, hex (0x) or octal (leading 0) integer; None if it is something else."""
    match = _INTEGER.fullmatch(bare(source))
    if match is None:
        return None
    digits = match.group(2)
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    if len(digits) > 40:  # no 64-bit number is this long; int() of more is slow
        return None
    return -int(digits, base) if match.group(1) else int(digits, base)


def parse_float(source: str) -> Optional[float]:
    """A float in any notation the format knows, ``1.f``, ``-inf`` and integers included."""
    match = _FLOAT.fullmatch(bare(source).lower())
    if match is None:
        integer = parse_integer(source)
        return None if integer is None else float(integer)
    value = float(match.group(2) or match.group(3))
    return -value if match.group(1) else value


def parse_bool(source: str) -> Optional[bool]:
    """``true``/``false`` in the spellings that protobuf takes, 1 and 0 in any notation."""
    if source in _TRUE:
        return True
    number = 0 if source in _FALSE else parse_integer(source)
    return bool(number) if number in (0, 1) and source[0] != "-" else None


def format_string(text: str, quote: str = '"') -> str:
    """``text`` quoted; what is not printable ASCII is written as UTF-8 or as an octal escape.

    A byte that is no UTF-8 is such an escape too.
    """
    out = []
    for char in text:
        if char in ("\\", quote):
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif ord(char) < 32 or ord(char) == 127 or strings.byte(char):
            out.append(f"\\{strings.byte(char) or ord(char):03o}")
        else:
            out.append(char)
    return quote + "".join(out) + quote


def format_float(value: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    if math.isnan(value) or math.isinf(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", value):
            break
    return text

"""Scalars of the text format, read and written: strings with escapes, numbers in any notation."""

import math
import re
import struct
from typing import Optional

from caffe_merge.schema import strings

_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})"
                     r"|U([0-9a-fA-F]{8})|(.))", re.DOTALL)  # fmt: skip
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|' + r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_COMMENT = re.compile(r"#[^\n]*")
_NO_CHARACTER = "\ud800"  # it cannot be encoded, so _checked gives None
_INTEGER = re.compile(r"(-?)[ \t\r\n\f\v]*(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"(-?)[ \t\r\n\f\v]*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[fF]?|"
    r"(-?)[ \t\r\n\f\v]*(inf(?:inity)?|nan)f?",
    re.IGNORECASE,
)
_TRUE = frozenset(("true", "True", "t", "1"))
_FALSE = frozenset(("false", "False", "f", "0"))


def parse_string(source: str) -> Optional[str]:
    """The text of one or more adjacent quoted strings, decoded as schema/strings.py says.

    None where an escape stands for no character.
    """
    if "\\" not in source and source.index(source[0], 1) == len(source) - 1:
        text = source[1:-1]
        return text if text.isascii() else _checked(text)
    parts = []
    at = 0
    while at < len(source):
        match = _STRING.match(source, at)
        if match is None:  # blanks or a comment between two strings
            comment = _COMMENT.match(source, at)
            at = comment.end() if comment else at + 1
            continue
        parts.append(_unescape(match.group(1) if match.group(1) is not None else match.group(2)))
        at = match.end()
    return _checked("".join(parts))


def _unescape(text: str) -> str:
    """Replace escapes; octal and hex ones are bytes, kept as surrogates until all are there."""

    def character(match: "re.Match[str]") -> str:
        octal, hexadecimal, short, long, simple = match.groups()
        if octal or hexadecimal:
            byte = int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)
            return bytes([byte]).decode("utf-8", "surrogateescape")
        if short or long:
            point = int(short or long, 16)
            return chr(point) if point < 0xD800 or 0xE000 <= point < 0x110000 else _NO_CHARACTER
        return _SIMPLE.get(simple, "\\" + simple)

    return _ESCAPE.sub(character, text)


def _checked(text: str) -> Optional[str]:
    """``text`` with its surrogate-escaped bytes decoded together; None if that fails."""
    try:
        return strings.decode(text.encode("utf-8", "surrogateescape"))
    except UnicodeError:
        return None


def parse_integer(source: str) -> Optional[int]:
    """A decimal, hex (0x) or octal (leading 0) integer; None if it is something else."""
    match = _INTEGER.fullmatch(source)
    if match is None:
        return None
    digits = match.group(2)
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    if len(digits) > 40:  # no 64-bit number is this long; int() of more is slow
        return None
    return -int(digits, base) if match.group(1) else int(digits, base)


def parse_float(source: str) -> Optional[float]:
    """A float in any notation the format knows, ``1.f``, ``-inf`` and integers included."""
    match = _FLOAT.fullmatch(source)
    if match is None:
        integer = parse_integer(source)
        return None if integer is None else float(integer)
    sign = match.group(1) or match.group(3)
    value = float(match.group(2)) if match.group(2) else float(match.group(4))
    return -value if sign else value


def parse_bool(source: str) -> Optional[bool]:
    """``true``/``false`` in the spellings that protobuf takes."""
    if source in _TRUE:
        return True
    return False if source in _FALSE else None


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

"""Strings of any bytes in messages that hold UTF-8 only.

Caffe takes a name as bytes (Latin-1, GBK) and looks no further; protobuf's Python messages do not.
A byte that is no UTF-8 is therefore a character of a private plane here, U+10FF00 + byte. What is
really such a character counts as four such bytes, so every string comes back as it was.
"""

from __future__ import annotations

import re

_PLANE = 0x10FF00
_FIRST, _LAST = "\U0010ff80", "\U0010ffff"
# Few texts have one of these, so they are compiled (and kept, by re) when one does.
_BYTES = f"[{_FIRST}-{_LAST}]"
_ESCAPED = "[\udc80-\udcff]"
MARKS = (b"\xf4\x8f\xbe", b"\xf4\x8f\xbf")  # how such a character begins in UTF-8


def decode(data: bytes) -> str:
    """``data`` as a message can hold it."""
    text = data.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    for mark in MARKS:
        if mark in data:
            text = re.sub(_BYTES, _apart, text)
            break
    return re.sub(_ESCAPED, lambda match: chr(ord(match.group()) - 0xDC00 + _PLANE), text)


def encode(text: str) -> bytes:
    """The bytes that ``text`` was decoded from."""
    if text.isascii():
        return text.encode()
    held = re.sub(_BYTES, lambda match: chr(ord(match.group()) - _PLANE + 0xDC00), text)
    return held.encode("utf-8", "surrogateescape")


def byte(char: str) -> int:
    """The byte that ``char`` stands for; 0 if it stands for itself."""
    return ord(char) - _PLANE if _FIRST <= char <= _LAST else 0


def _apart(match: re.Match[str]) -> str:
    return "".join(chr(0xDC00 + value) for value in match.group().encode())

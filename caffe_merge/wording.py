"""Words for people: text from files made visible, counts with their noun, long texts shortened."""

from __future__ import annotations

import re
from typing import Sequence

# A byte that is no UTF-8, as messages hold it (formats/schema/strings.py), and as repr shows that.
_PLANE = 0x10FF00
_BYTES = r"(?<!\\)\\U0010ff([89a-f][0-9a-f])"
_PLURALS = {"axis": "axes"}
SHOWN = 120  # characters of a value that a message quotes
_LISTED = 3  # items of a list in a sentence, which may have any number


def visible(text: str) -> str:
    r"""``text`` on one line with no character that a terminal acts on: those become escapes.

    Control characters (``\x1b``), line ends, bidi and other formatting marks (``\u202e``), what is
    assigned to nothing, and bytes that are no UTF-8 (``\xe9``). Applied twice it changes nothing.
    """
    if not text.isprintable():
        text = "".join(map(_shown, text))
    return re.sub(_BYTES, r"\\x\1", text) if "\\U" in text else text


def _shown(char: str) -> str:
    for plane in (_PLANE, 0xDC00):  # the second: of text that is still as it was read
        if 0x80 <= ord(char) - plane <= 0xFF:
            return f"\\x{ord(char) - plane:02x}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def counted(number: int, noun: str) -> str:
    """``1 blob``, ``2 axes``, ``1,000 pairs of brackets``."""
    head, separator, tail = noun.partition(" of ")
    if number != 1:
        head = _PLURALS.get(head, f"{head}s")
    return f"{number:,} {head}{separator}{tail}"


def with_article(noun: str) -> str:
    """``a ReLU``, ``an Eltwise``."""
    return f"an {noun}" if noun[:1] in "AEIOU" else f"a {noun}"


def quoted(text: str) -> str:
    """``text`` in quotes; of a long one both ends, as both tell something, and its length."""
    shown = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"
    return repr(shown) + ("" if shown is text else f" ({len(text):,} characters)")


def listed(items: Sequence[str], most: int = _LISTED, separator: str = ", ") -> str:
    """``a, b, c and 3 more``."""
    shown = separator.join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def named(names: Sequence[str], most: int = _LISTED) -> str:
    """``'a', 'b', 'c' and 3 more``: names from a file, the long ones shortened."""
    return listed([quoted(name) for name in names[:most]] + list(names[most:]), most)

"""Words for people: text from files made visible, counts with their noun, long texts shortened."""

from typing import Sequence

from caffe_merge import strings

SHOWN = 120  # characters of a value that a message quotes


def visible(text: str) -> str:
    r"""``text`` on one line with no character that a terminal acts on: those become escapes.

    Control characters (``\x1b``), line ends, bidi and other formatting marks (``\u202e``), what is
    assigned to nothing, and bytes that are no UTF-8 (``\xe9``). Applied twice it changes nothing.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    byte = strings.byte(char)
    if not byte and "\udc80" <= char <= "\udcff":  # of text that is still as it was read
        byte = ord(char) - 0xDC00
    if byte:
        return f"\\x{byte:02x}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def counted(number: int, noun: str) -> str:
    """``1 blob``, ``2 entries``, ``1,000 pairs of brackets``."""
    head, of, tail = noun.partition(" of ")
    plural = head if number == 1 else f"{head[:-1]}ies" if head.endswith("y") else f"{head}s"
    return f"{number:,} {plural}{of}{tail}"


def quoted(text: str) -> str:
    """``text`` in quotes; of a long one both ends, as both tell something, and its length."""
    shown = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"
    return repr(shown) + ("" if shown is text else f" ({len(text):,} characters)")


def listed(names: Sequence[str], limit: int = 5) -> str:
    """``a, b and 3 more``."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def named(names: Sequence[str], limit: int = 5) -> str:
    """``'a', 'b' and 3 more``: names from a file."""
    return listed([quoted(name) for name in names[:limit]] + list(names[limit:]), limit)

"""The errors that caffe_merge raises: one base class, one line of text, where in the file.

What is said of an option, here and in notes and reasons, calls it as the library does; who prints
the text may call it otherwise (``Text``).
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Optional, Tuple

# How alike two names are, from 0 to 1, of which one may be meant by the other: one wrong letter in
# three, and no more.
_ALIKE = 0.65


class OptionName(str):
    """The name of an option in a Text, as the library has it: ``swap_rgb``."""


class Text(str):
    """A text that may name options: a string with the library's names, and the parts it is made of.

    Those of ``parts`` that name an option are OptionNames. A part that is a Text brings its own.
    """

    parts: Tuple[str, ...]

    def __new__(cls, *parts: str) -> Text:
        """The text that has ``parts`` one after the other."""
        text = super().__new__(cls, "".join(parts))
        text.parts = tuple(piece for part in parts for piece in _parts(part))
        return text

    def __add__(self, more: str) -> Text:
        return Text(self, more)

    def __radd__(self, before: str) -> Text:
        return Text(before, self)

    @classmethod
    def joined(cls, separator: str, texts: Iterable[str]) -> Text:
        """``texts`` with ``separator`` between them."""
        parts: List[str] = []
        for text in texts:
            parts += [separator, text] if parts else [text]
        return cls(*parts)


def _parts(text: str) -> Tuple[str, ...]:
    return text.parts if isinstance(text, Text) else (text,)


def spelled(text: str, name_of: Callable[[str], str]) -> str:
    """``text``, each option that it names called by ``name_of``."""
    pieces = (name_of(str(p)) if isinstance(p, OptionName) else p for p in _parts(text))
    return "".join(pieces)


def encoded(text: str) -> List[Tuple[str, bool]]:
    """The parts of ``text`` as JSON types, and of each whether it names an option."""
    return [(str(part), isinstance(part, OptionName)) for part in _parts(text)]


def decoded(parts: Iterable[Tuple[str, bool]]) -> Text:
    """The Text of what `encoded` made."""
    return Text(*(OptionName(part) if is_option else part for part, is_option in parts))


def spelled_in(data: Any, name_of: Callable[[str], str]) -> Any:
    """Plain data (as of JSON), each option in its texts called by ``name_of``."""
    if isinstance(data, dict):
        return {key: spelled_in(value, name_of) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [spelled_in(value, name_of) for value in data]
    return spelled(data, name_of) if isinstance(data, Text) else data


def similar(name: str, choices: Iterable[str]) -> Optional[str]:
    """The one of ``choices`` that ``name`` is likely a misspelling of; None if there is none."""
    from difflib import get_close_matches  # for those who need it

    others = [choice for choice in choices if choice != name]
    return next(iter(get_close_matches(name, others, 1, _ALIKE)), None)


def meant(name: str, choices: Iterable[str]) -> str:
    """``; did you mean 'a'?``, or else ``; there are a, b``, for behind an unknown ``name``."""
    close = similar(name, choices)
    return f"; did you mean {close!r}?" if close else f"; there are {', '.join(choices)}"


class CaffeMergeError(Exception):
    """Base of every error a caller of caffe_merge should expect; its message is one line.

    The message may be given in parts, as a Text is. ``path`` is the file that it is about, with
    which the line begins; None if it names none.
    """

    def __init__(self, *parts: str, path: Optional[str] = None) -> None:
        self.path = path
        self.message = Text(*parts) if path is None else Text(f"{path}: ", *parts)
        super().__init__(self.message)

    def of(self, path: str) -> CaffeMergeError:
        """The error as a ValidationError that names a file: ``path`` if it names none itself."""
        if self.path is None:
            return ValidationError(*self.parts, path=path)
        error = ValidationError(*self.parts)
        error.path = self.path
        return error

    def add(self, *parts: str) -> None:
        """Have the message go on with ``parts``."""
        self.message = Text(self.message, *parts)
        self.args = (self.message,)

    @property
    def parts(self) -> Tuple[str, ...]:
        """The parts of the message, those that name an option as OptionName."""
        return self.message.parts

    def text(self, name_of: Callable[[str], str] = str) -> str:
        """The line, each option in it named by ``name_of``."""
        return spelled(self.message, name_of)


class TextError(CaffeMergeError, ValueError):
    """A prototxt that cannot be read: ``file:line:column: what was expected``."""

    def __init__(self, path: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{path}:{line}:{column}: ", message)
        self.path = path
        self.line = line
        self.column = column


class WeightsError(CaffeMergeError, ValueError):
    """A caffemodel that cannot be read, or a blob that does not fit its layer."""

    def __init__(
        self,
        message: str,
        *,
        path: Optional[str] = None,
        layer: Optional[str] = None,
        blob: Optional[int] = None,
    ) -> None:
        where = []
        if layer is not None:
            where.append(f"layer {layer!r}" + ("" if blob is None else f", blob {blob}"))
        super().__init__(Text.joined(": ", [*where, message]), path=path or None)
        self.layer = layer
        self.blob = blob


class NetError(CaffeMergeError, ValueError):
    """A net that Caffe would not build: a bottom nobody produces, a top named twice.

    ``layer`` is the layer it is about, if it is about one, and ``field`` the name of a field of
    that layer, of several of this name the one with ``number``. A Net makes a place of them:
    ``file:line:column`` in front.
    """

    def __init__(
        self,
        message: str,
        *,
        layer: Any = None,
        field: str = "",
        number: int = 0,
        path: Optional[str] = None,
    ) -> None:
        super().__init__(message, path=path)
        self.layer = layer
        self.field = field
        self.number = number


class About:
    """Has a NetError of this block be about ``layer``, unless it says that it is of another."""

    def __init__(self, layer: object) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        if isinstance(error, NetError):
            error.layer = error.layer or self.layer


class SizeError(NetError):
    """Sizes, as they follow from those of the inputs, with which a layer cannot be."""


class ShapeError(SizeError):
    """A bottom whose shape does not fit its layer by BVLC's rules; ``detail`` says how."""

    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(Text(f"{layer}: ", detail))
        self.detail = detail


class FileError(CaffeMergeError, OSError):
    """A file that cannot be opened, read or put in place."""


class BusyError(FileError):
    """An output that another run is writing just now."""


class ValidationError(CaffeMergeError):
    """The merged pair could not be judged, or does not compute what the old pair did."""


class UsageError(CaffeMergeError, ValueError):
    """Flags or arguments that do not make sense."""


class InputShapeError(UsageError):
    """A net that no engine can run at the shapes of its inputs: other shapes, or no validation."""

"""The errors that caffe_merge raises: one base class, one line of text, where in the file."""

import contextlib
from typing import Any, Callable, Iterator, Optional


class OptionName(str):
    """The name of an option in an error's text, as the library has it."""


class CaffeMergeError(Exception):
    """Base of every error a caller of caffe_merge should expect; its text is one line.

    The text may be given in ``parts``, those that name an option as OptionName.
    """

    def __init__(self, *parts: str) -> None:
        super().__init__("".join(parts))
        self.parts = parts

    def text(self, name_of: Callable[[str], str] = str) -> str:
        """The line, each option in it named by ``name_of``."""
        named = (name_of(str(p)) if isinstance(p, OptionName) else p for p in self.parts)
        return "".join(named) if any(isinstance(p, OptionName) for p in self.parts) else str(self)


class TextError(CaffeMergeError, ValueError):
    """A prototxt that cannot be read: ``file:line:column: what was expected``."""

    def __init__(self, path: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{path}:{line}:{column}: {message}")
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
        where = [path] if path else []
        if layer is not None:
            where.append(f"layer {layer!r}" + ("" if blob is None else f", blob {blob}"))
        super().__init__(": ".join([*where, message]))
        self.path = path
        self.layer = layer
        self.blob = blob


class NetError(CaffeMergeError, ValueError):
    """A net that Caffe would not build: a bottom nobody produces, a top named twice.

    ``layer`` is the layer it is about, if it is about one, and ``field`` the name of a field of
    that layer, of several of this name the one with ``number``. A Net makes a place of them:
    ``file:line:column`` in front.
    """

    def __init__(
        self, message: str, *, layer: Any = None, field: str = "", number: int = 0
    ) -> None:
        super().__init__(message)
        self.layer = layer
        self.field = field
        self.number = number


@contextlib.contextmanager
def about(layer: object) -> Iterator[None]:
    """Have a NetError of this block be about ``layer``, unless it says that it is of another."""
    try:
        yield
    except NetError as error:
        error.layer = error.layer or layer
        raise


class ShapeError(NetError):
    """A bottom whose shape does not fit its layer by BVLC's rules; ``detail`` says how."""

    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(f"{layer}: {detail}")
        self.detail = detail


class FileError(CaffeMergeError, OSError):
    """A file that cannot be opened, read or put in place."""


class BusyError(FileError):
    """An output that another run is writing just now."""


class ValidationError(CaffeMergeError):
    """The merged pair could not be judged, or does not compute what the old pair did."""


class UsageError(CaffeMergeError, ValueError):
    """Flags or arguments that do not make sense."""

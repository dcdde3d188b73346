"""What a layer's text says: its LayerParameter, and beside it the fields that only forks have."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

from caffe_merge.formats.schema.messages import copied
from caffe_merge.formats.text.values import parse_bool, parse_float, parse_integer


class ForkFields:
    """The values of a layer's fork fields, by dotted name; a default where one is not given.

    What is no number or truth value where one is wanted counts as not given.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def __contains__(self, name: str) -> bool:
        return name in self.texts

    def __bool__(self) -> bool:
        """Whether any value is given."""
        return bool(self.texts)

    def word(self, name: str) -> str:
        """The text of an enum value; "" if it is not given."""
        return self.texts.get(name, "")

    def integers(self, name: str) -> Tuple[int, ...]:
        """All values of a repeated integer."""
        numbers = map(parse_integer, self.word(name).split())
        return tuple(number for number in numbers if number is not None)

    def numbers(self, name: str) -> Tuple[float, ...]:
        """All values of a repeated float."""
        numbers = map(parse_float, self.word(name).split())
        return tuple(number for number in numbers if number is not None)

    def integer(self, name: str, default: int) -> int:
        """The value of an integer."""
        return (*self.integers(name), default)[0]

    def number(self, name: str, default: float) -> float:
        """The value of a float."""
        value = parse_float(self.word(name))
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        """The value of a bool."""
        value = parse_bool(self.word(name))
        return default if value is None else value


class LayerSpec:
    """What the shapes and the reference engine take for a layer.

    param     the LayerParameter: what the schema knows (typed Any: its class is made at run time)
    fork      the fields that it does not know, ``fork.integer("reorg_param.stride", 1)``
    """

    __slots__ = ("fork", "param")

    def __init__(self, param: Any, fork: Mapping[str, str] = {}) -> None:
        self.param = param
        self.fork = ForkFields(fork)

    @property
    def name(self) -> str:
        """The layer's name."""
        name: str = self.param.name
        return name

    @property
    def type(self) -> str:
        """The type string."""
        kind: str = self.param.type
        return kind

    def copy(self) -> LayerSpec:
        """Another one, with parameters of its own."""
        return LayerSpec(copied(self.param), self.fork.texts)


def apart(param: Any, extra: Mapping[str, str]) -> Tuple[Any, Mapping[str, str]]:
    """The LayerParameter and the fork's fields of a layer's new parameters, as a rewrite has them.

    The fields are the old ones, ``extra``, unless ``param`` is a LayerSpec, which has new ones.
    """
    return (param.param, param.fork.texts) if isinstance(param, LayerSpec) else (param, extra)

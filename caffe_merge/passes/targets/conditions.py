"""The conditions of the table: ``pool = AVE and partial``, over facts about a layer.

    condition   clause and clause and ...
    clause      fact                      it is true, or not empty
                not fact                  it is false, empty or not known
                fact given | fact absent  the text has the field, or has it not
                fact = a or b             also !=, <, <=, >, >=; numbers or words
                fact ends text

A fact that is not known makes its clause false.
"""

import operator
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union

Value = Union[bool, float, str, None]

_ORDERS: Dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = ("=", "!=", "ends", *_ORDERS)


class Clause(NamedTuple):
    """One clause: a fact, how it is compared, and with which values."""

    fact: str
    how: str
    values: Tuple[Value, ...] = ()

    def holds(self, value: Value) -> bool:
        """Whether the clause is true where the fact is ``value``."""
        if self.how in ("given", "true"):
            return bool(value)
        if self.how in ("absent", "false"):
            return not value
        if value is None:
            return False
        if self.how in _ORDERS:
            return _is_number(value) and _ORDERS[self.how](value, self.values[0])
        if self.how == "ends":
            return str(value).endswith(str(self.values[0]))
        return (value in self.values) == (self.how == "=")

    @property
    def is_about_presence(self) -> bool:
        """Whether it asks if the text has a field, not which value it has."""
        return self.how in ("given", "absent")


def parse(condition: str) -> Tuple[Clause, ...]:
    """The clauses of ``condition``. Raises ValueError for one that is none."""
    return tuple(_clause(text.strip()) for text in condition.split(" and ") if text.strip())


def _clause(text: str) -> Clause:
    words = text.split()
    if len(words) == 1:
        return Clause(words[0], "true")
    if len(words) == 2 and words[0] == "not":
        return Clause(words[1], "false")
    if len(words) == 2 and words[1] in ("given", "absent"):
        return Clause(words[0], words[1])
    if len(words) < 3 or words[1] not in _WORDS:
        raise ValueError(f"expected a clause such as 'kernel > 7', found {text!r}")
    rest = text.split(None, 2)[2]
    return Clause(words[0], words[1], tuple(_value(part) for part in rest.split(" or ")))


def _value(text: str) -> Value:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

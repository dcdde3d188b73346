"""The cells of a list of pairs as flags: a column is headed with a flag's name."""

from __future__ import annotations

import argparse
from functools import lru_cache
from typing import Any, Dict, List, Mapping

from caffe_merge.command import flags
from caffe_merge.errors import UsageError, meant

SEPARATOR = ";"  # between the values of a repeatable flag
_OF_THE_COMMAND = {"report", "force", "quiet", "verbose", "help"}
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(cells: Mapping[str, str]) -> Dict[str, Any]:
    """The flags that the ``cells`` of a row stand for, each by the name of its flag.

    Raises UsageError for a column that is none, or a value that its flag does not take.
    """
    actions = _actions()
    values: Dict[str, Any] = {}
    for name, cell in cells.items():
        if name not in actions:
            raise UsageError(f"no flag of a pair is called {name!r}{meant(name, actions)}")
        values[name] = _value(actions[name], cell)
    return values


def _value(action: argparse.Action, cell: str) -> Any:
    flag = action.option_strings[0]
    if action.nargs == 0:
        if cell.lower() not in _SWITCH:
            raise UsageError(f"{flag}: expected true or false, found {cell!r}")
        return _SWITCH[cell.lower()]
    if action.nargs == "?" and cell.lower() in _SWITCH:
        return _SWITCH[cell.lower()]
    if isinstance(action.default, list):
        return [_single(action, part.strip()) for part in cell.split(SEPARATOR) if part.strip()]
    return _single(action, cell)


def _single(action: argparse.Action, text: str) -> Any:
    flag = action.option_strings[0]
    value: Any = text
    if callable(action.type):
        try:
            value = action.type(text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{flag}: {error}") from None
    if action.choices is not None and value not in action.choices:
        choices: List[str] = [str(choice) for choice in action.choices]
        raise UsageError(f"{flag}: expected one of {', '.join(choices)}, found {text!r}")
    return value


@lru_cache(maxsize=1)
def _actions() -> Dict[str, argparse.Action]:
    """The flags of merge that a row may have, by name."""
    parser = argparse.ArgumentParser(add_help=False)
    flags.merge(parser)
    excluded = {"model", "weights", "output_model", "output_weights", "pair", *_OF_THE_COMMAND}
    return {a.dest: a for a in parser._actions if a.dest not in excluded}

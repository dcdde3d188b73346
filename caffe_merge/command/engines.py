"""The command engines: which engines are here, what each lacks, and how to get it."""

import shutil
import textwrap
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from caffe_merge.command.flags import flag_of
from caffe_merge.errors import CaffeMergeError
from caffe_merge.layers.catalogue import CATALOGUE, DATA, LOSS
from caffe_merge.validation.registry import DEFAULT, ENGINES
from caffe_merge.validation.workers import Worker

_TIME_LIMIT = 60.0  # seconds for an engine to say what it is


class Row(NamedTuple):
    """One engine. ``version`` is None where it is not here, ``why`` says why then.

    ``types`` are the layer types that it runs, ``lacks`` those that it does not of all that this
    package has heard of; both are None where it cannot say.
    """

    name: str
    about: str
    get: str
    version: Optional[str]
    why: str = ""
    types: Optional[List[str]] = None
    lacks: Optional[List[str]] = None


def rows(python: Optional[str] = None) -> List[Row]:
    """All engines; ``python`` is the interpreter that the user names for pycaffe."""
    return [_row(name, python) for name in ENGINES]


def _row(name: str, python: Optional[str]) -> Row:
    engine = ENGINES[name]
    try:
        with Worker(engine.command(python), _TIME_LIMIT) as worker:
            reply = worker.call({"do": "about"})
    except CaffeMergeError as error:
        return Row(name, engine.about, engine.get, None, error.text(flag_of))
    types: Optional[List[str]] = reply["types"]
    lacks = None if types is None else sorted(_all_types() - set(types))
    return Row(name, engine.about, engine.get, reply["version"], "", types, lacks)


def _all_types() -> "set[str]":
    return {name for name, row in CATALOGUE.items() if row.family not in (DATA, LOSS)}


def to_json(engine_rows: List[Row]) -> Dict[str, Any]:
    """The rows as JSON types."""
    return {"default": DEFAULT, "engines": [row._asdict() for row in engine_rows]}


def lines(engine_rows: List[Row]) -> Iterator[str]:
    """The rows for a person."""
    width = max(len(row.name) for row in engine_rows)
    for row in engine_rows:
        default = " (default)" if row.name == DEFAULT else ""
        here = "not here" if row.version is None else f"here, {row.version}"
        yield f"{row.name:{width}}  {here}{default}: {row.about}"
        if row.version is None:
            yield from _indented(row.why)
            if row.get not in row.why:
                yield from _indented(f"to get it: {row.get}")
        elif row.lacks:
            yield from _indented(f"lacks {', '.join(row.lacks)}")


def _indented(text: str) -> Iterator[str]:
    columns = max(40, min(100, shutil.get_terminal_size().columns))
    yield from textwrap.wrap(
        text, columns, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )

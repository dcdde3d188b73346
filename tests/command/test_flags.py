"""The flags of each command, as docs/commands.md and the README tell them."""

import argparse
import re
from pathlib import Path
from typing import Callable, Dict, Set

import pytest

from caffe_merge.command import flags
from caffe_merge.merging.planning import Conversion
from caffe_merge.options import DECLARED

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMANDS: Dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "merge": flags.merge,
    "batch": flags.batch,
    "plan": flags.plan,
    "validate": flags.validate,
    "inspect": flags.inspect,
    "show": flags.show,
    "ranges": flags.ranges,
    "check": flags.check,
    "engines": flags.engines,
}
OF_NETS = [name for name in COMMANDS if name != "engines"]  # "all" of the table
OF_EVERY_PARSER = {"--help", "-h"}
OF_THE_PROGRAM = {"--version", "--completion"}
OTHER_PROGRAMS = re.compile(
    r"^.*(?:docker|podman|pip |tools/|dask |-m benchmarks|`--user).*$", re.MULTILINE
)
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def options(command: str) -> Set[str]:
    """All spellings of the flags of a command."""
    parser = argparse.ArgumentParser()
    COMMANDS[command](parser)
    return {text for action in parser._actions for text in action.option_strings} - OF_EVERY_PARSER


def documented() -> Dict[str, Set[str]]:
    """Command -> the flags that the table of docs/commands.md gives it."""
    out: Dict[str, Set[str]] = {name: set() for name in COMMANDS}
    for line in (DOCS / "commands.md").read_text().splitlines():
        row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(row) > 3 and row[1].startswith("`-"):
            names = ", ".join(OF_NETS).join(row[2].split("all", 1)).split(", ")
            for name in names:
                out[name].update(re.findall(r"(?:^|[\s`])(--?[a-z][a-z-]*)", row[1]))
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_every_flag_and_no_other(command: str) -> None:
    assert documented()[command] == options(command)


@pytest.mark.parametrize("page", ["../README.md", *sorted(path.name for path in DOCS.glob("*.md"))])
def test_every_flag_that_is_spoken_of_exists(page: str) -> None:
    text = OTHER_PROGRAMS.sub("", (DOCS / page).read_text().replace("\\\n", ""))
    spoken_of = {flag for flag in FLAG.findall(text) if flag.startswith("--")}
    exist = {flag for name in COMMANDS for flag in options(name)}
    assert sorted(spoken_of - exist - OF_EVERY_PARSER - OF_THE_PROGRAM) == []


def test_a_batch_has_every_flag_of_a_merge() -> None:
    of_the_pair = {"--model", "--weights", "--output-model", "--output-weights"}
    assert options("merge") - options("batch") == of_the_pair


def test_every_option_of_a_conversion_is_a_flag() -> None:
    """They are passed on by name, so one without a flag would silently keep its default."""
    parser = argparse.ArgumentParser()
    flags.merge(parser)
    values = vars(parser.parse_args(["--model", "m", "--weights", "w"]))
    assert {*Conversion._fields} - {*values} == {"options", "state", "also_read"}
    assert {*DECLARED} - {*values} == {"input_shapes"}
    defaults = {name: declared.default for name, declared in DECLARED.items()}
    defaults.update(Conversion._field_defaults, options=None)
    for name, default in defaults.items():
        assert (values.get(name) or None) == (default or None), name

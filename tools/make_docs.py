"""Builds the documentation: a site, and the manual pages of both commands.

Usage: python tools/make_docs.py FOLDER

FOLDER/site is the site, made of README.md, docs/, the files beside them, a reference of the
commands made from their parser and one of the library made from its docstrings. FOLDER/man has
the manual pages. A link that leads nowhere is an error. It needs the extra `docs`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from build_manpages.manpage import Manpage

import caffe_merge
from caffe_merge.command import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")


def main() -> int:
    """Build both; the exit status of mkdocs."""
    out = Path(sys.argv[1]).resolve()
    source = out / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source / "docs")
    for name in PAGES:
        shutil.copy(ROOT / name, source / name)
    reference = source / "reference"
    reference.mkdir()
    (reference / "commands.md").write_text("\n".join(commands(cli.all_commands())) + "\n")
    (reference / "library.md").write_text("\n".join(library()) + "\n")
    man = out / "man"
    man.mkdir(exist_ok=True)
    for parser in (cli.all_commands(), cli.merge_alone()):
        (man / f"{parser.prog}.1").write_text(manual(parser))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(out / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement
    return subprocess.run(command, cwd=str(ROOT), env=environment).returncode


def manual(parser: argparse.ArgumentParser) -> str:
    """The manual page of a command, as troff."""
    about = "makes a Caffe model faster without changing what it computes"
    parser.man_short_description = about  # type: ignore[attr-defined]
    return str(Manpage(parser))


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A page of every command with every flag, in Markdown."""
    yield "# Commands\n"
    yield f"{parser.description} [What the flags mean, command by command](../docs/commands.md).\n"
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in subparsers.choices.items():
        yield f"## {parser.prog} {name}\n"
        yield f"{command.description}\n"
        for group in command._action_groups:
            actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
            if not actions or not group.title:
                continue
            yield f"**{group.title.capitalize()}**\n"
            yield "| | |"
            yield "|---|---|"
            yield from (
                f"| {_spelling(action)} | {_cell(action.help or '')} |" for action in actions
            )
            yield ""
        if command.epilog:
            yield (
                "\n".join(f"    {line.strip()}" for line in command.epilog.splitlines()[1:]) + "\n"
            )


def _spelling(action: argparse.Action) -> str:
    value = action.metavar or "|".join(action.choices or ())
    names = ", ".join(action.option_strings)
    return (
        "`" + _cell(" ".join(filter(None, (names, str(value) if action.nargs != 0 else "")))) + "`"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def library() -> Iterator[str]:
    """A page of the public names, which mkdocstrings fills from their docstrings."""
    yield "# Library\n"
    yield f"```text\n{(caffe_merge.__doc__ or '').strip()}\n```\n"
    for name in caffe_merge.__all__:
        value = getattr(caffe_merge, name)
        yield f"## {name}\n"
        yield f"::: {value.__module__}.{value.__qualname__}\n"


if __name__ == "__main__":
    sys.exit(main())

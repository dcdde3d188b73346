"""docs/formats.md held against the code: the numbers of its limits, and what bad files get."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

import caffe_merge

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
PACKAGE = Path(caffe_merge.__file__).parent
READERS = ("files", "formats", "net", "layers")  # what reads somebody's files

# Each row: what it is, the number, where it stands in the code, the error.
ROWS: List[Tuple[str, str]] = re.findall(
    r"^\| [^|]+ \| ([^|]+) \| `([\w.]+)` \| [^|]+ \|$", PAGE.split("## Limits")[1], re.MULTILINE
)


def number(written: str) -> int:
    """The value of ``32 MB``, ``300,000`` or ``2^31 - 1``."""
    power = re.fullmatch(r"2\^(\d+)( - 1)?", written)
    if power:
        return (1 << int(power.group(1))) - bool(power.group(2))
    digits, _, unit = written.replace(",", "").partition(" ")
    return int(digits) * {"": 1, "MB": 1 << 20}[unit]


def constants() -> Iterator[str]:
    """Every limit of the modules that read files, by its full name."""
    for folder in READERS:
        for path in (PACKAGE / f"{folder}.py", *(PACKAGE / folder).rglob("*.py")):
            if path.exists():
                module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
                module = module[: -len(".__init__")] if module.endswith("__init__") else module
                for name in re.findall(r"^(_?MAX_\w+|TIME_LIMIT) = ", path.read_text(), re.M):
                    yield f"{module}.{name}"


def sentences() -> str:
    """All text in the package's source, with a mark where an error has a value."""
    out: List[str] = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                out.append(node.value)
    return "\n".join(out)


@pytest.mark.parametrize(("written", "name"), ROWS, ids=[name for _, name in ROWS])
def test_a_limit_is_that_of_the_code(written: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    if module == "formats.weights.hdf5_reader":
        pytest.importorskip("h5py")
    assert getattr(import_module(f"caffe_merge.{module}"), constant) == number(written)


def test_every_limit_is_told() -> None:
    held: Dict[str, int] = {name: number(written) for written, name in ROWS}
    # files' is that of the text, which it does not import.
    assert {n for n in constants() if not n.startswith("files")} == set(held)


def test_what_a_bad_file_gets_is_what_the_code_says() -> None:
    message = sentences()
    tables = PAGE.split("## Limits")[1]
    quoted = [
        cell
        for line in tables.splitlines()
        if line.startswith("| ")
        for cell in re.findall(r"`([^`]+)`", line.rsplit("|", 2)[1])
    ]
    assert len(quoted) > 30
    parts = [part for cell in quoted for part in cell.split("…") if len(part.strip(" :,.")) > 2]
    missing = [part for part in parts if part.strip() not in message and "FILE:LINE" not in part]
    assert missing == []
